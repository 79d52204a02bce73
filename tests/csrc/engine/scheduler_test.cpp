#include "engine/scheduler.h"

#include <algorithm>

#include "check.h"
#include "engine/harness.h"

namespace pygpt::test {
namespace {

/// What a request gives when nothing else runs and nothing overflows.
std::vector<int32_t> naive(std::vector<int32_t> window, int64_t count, int32_t vocab_size = 50) {
  std::vector<int32_t> output;
  for (int64_t i = 0; i < count; ++i) {
    output.push_back(next_token(window, vocab_size));
    window.push_back(output.back());
  }
  return output;
}

void batches() {
  for (const int64_t chunk : {1, 3, 16, 100}) {
    for (const int64_t running : {1, 2, 5}) {
      Harness harness({.context = 100, .chunk = chunk, .max_running = running});
      std::vector<Request> requests;
      for (int32_t i = 0; i < 7; ++i) requests.push_back({.prompt = prompt_of(1 + i * 9, i), .max_tokens = 3 + i});
      const auto events = harness.run(requests);
      for (size_t i = 0; i < requests.size(); ++i) {
        expect_equal(events[i].token_ids, naive(requests[i].prompt, requests[i].max_tokens),
                     join("request ", i, " in chunks of ", chunk));
        expect_equal(finish_of(events[i]), "length");
      }
    }
  }
}
const Test batches_test{"a request's tokens do not depend on who else runs or how prompts are chunked", batches};

void many_steps() {
  for (const int64_t running : {1, 3}) {
    for (const Overflow overflow : {Overflow::stop, Overflow::slide, Overflow::shift}) {
      Harness one({.context = 40, .max_running = running, .most_kept = 5});
      Harness many({.context = 40, .max_running = running, .most_kept = 5, .backend = {.max_steps = 6}});
      std::vector<Request> requests;
      for (int32_t i = 0; i < 5; ++i) {
        requests.push_back({.prompt = prompt_of(1 + i * 6, i), .max_tokens = 8 + 5 * i, .overflow = overflow});
        requests.back().sampling.stop_token_ids = {11, 12 + i};
      }
      const auto wanted = one.run(requests), got = many.run(requests);
      for (size_t i = 0; i < requests.size(); ++i) {
        expect_equal(got[i].token_ids, wanted[i].token_ids, join("request ", i));
        expect_equal(finish_of(got[i]), finish_of(wanted[i]));
      }
      expect(many.backend.runs.size() < one.backend.runs.size(), "with fewer runs");
      expect_equal(many.run(requests)[3].token_ids, wanted[3].token_ids, "what the cache kept is right");
    }
  }
}
const Test many_steps_test{"a backend that takes many steps in a run gives the same tokens", many_steps};

void reads_what_it_chose() {
  Harness harness({.backend = {.max_steps = 6}});
  const auto ticket = harness.add({{.prompt = prompt_of(3), .max_tokens = 20, .logprobs = 1}});
  harness.step();
  for (int i = 0; i < 3; ++i) {
    harness.step();
    expect_equal(harness.results.steps, 1, "somebody reads the logits in between");
  }
  harness.finish();
  expect_equal(ticket->poll(0, true)[0].logprobs.size(), size_t{20});
}
const Test reads_what_it_chose_test{"one step at a time where logprobs are asked for", reads_what_it_chose};

void first_come() {
  Harness harness({.max_running = 1});
  const auto ticket = harness.add({{.prompt = prompt_of(3), .max_tokens = 2},
                                   {.prompt = prompt_of(1), .max_tokens = 1},
                                   {.prompt = prompt_of(2), .max_tokens = 1}});
  std::vector<int64_t> ended;
  while (!harness.scheduler.idle()) {
    harness.step();
    for (const Event& event : ticket->poll(0, false)) {
      if (event.finish) ended.push_back(event.index);
    }
  }
  expect_equal(ended, (std::vector<int64_t>{0, 1, 2}));
}
const Test first_come_test{"first come, first served", first_come};

void a_large_one_is_not_overtaken() {
  // Eight pages. The first takes six, the second wants four, the third would fit but came later.
  Harness harness({.context = 256, .chunk = 256, .max_running = 4, .backend = {.pages = 8}});
  const auto ticket = harness.add({{.prompt = prompt_of(180), .max_tokens = 5},
                                   {.prompt = prompt_of(100), .max_tokens = 5},
                                   {.prompt = prompt_of(20), .max_tokens = 5}});
  harness.step();
  expect_equal(harness.backend.runs.back().size(), 1u, "only the first runs");
  harness.finish();
  const auto events = ticket->poll(0, true);
  for (const Event& event : events) expect_equal(event.token_ids.size(), 5u);
}
const Test overtake_test{"a sequence that waits for pages is not overtaken by a smaller one",
                         a_large_one_is_not_overtaken};

void admission() {
  // Four pages, and each sequence needs two: 30 tokens of prompt and up to 4 more.
  Harness harness({.context = 64, .chunk = 200, .max_running = 4, .backend = {.pages = 4}});
  harness.add(std::vector<Request>(4, {.prompt = prompt_of(30), .max_tokens = 4}));
  harness.step();
  expect_equal(harness.backend.runs.back().size(), 2u, "two fit");
  harness.finish();
  size_t most = 0;
  for (const auto& run : harness.backend.runs) most = std::max(most, run.size());
  expect_equal(most, 2u, "never more than fit");
  // Without max_tokens a whole context must be free, and with more than the context no more than that.
  for (const int64_t max_tokens : {int64_t{-1}, int64_t{1} << 40}) {
    Harness open({.context = 64, .chunk = 64, .backend = {.pages = 3}});
    open.add({{.prompt = prompt_of(2), .max_tokens = max_tokens},
              {.prompt = prompt_of(2), .max_tokens = 1},
              {.prompt = prompt_of(2), .max_tokens = 1}});
    open.step();
    expect_equal(open.backend.runs.back().size(), 2u, "a context of two pages and one other");
  }
}
const Test admission_test{"a sequence starts when the pages of all that it may need are free", admission};

void chunks() {
  Harness harness({.context = 300, .chunk = 10, .max_running = 8});
  harness.add({{.prompt = prompt_of(1), .max_tokens = 30},
               {.prompt = prompt_of(25), .max_tokens = 4},
               {.prompt = prompt_of(12), .max_tokens = 4}});
  harness.finish();
  const auto& runs = harness.backend.runs;
  const auto rows = [&](size_t run, size_t place) {
    auto share = runs[run].begin();
    std::advance(share, static_cast<ptrdiff_t>(place));
    return share->second.rows;
  };
  expect_equal(runs[0].size(), 2u, "a decode and a chunk of the first prompt");
  expect_equal(rows(0, 1), 10);
  expect_equal(rows(1, 1), 10);
  expect_equal(rows(2, 1), 5, "the rest of the first prompt");
  expect_equal(rows(2, 2), 5, "and what is left of the chunk for the second");
  expect_equal(rows(3, 2), 7);
  for (const auto& run : runs) {
    int64_t prompt_rows = 0;
    for (const auto& [page, share] : run) prompt_rows += share.rows > 1 ? share.rows : 0;
    expect(prompt_rows <= 10, "no step has more rows of prompts than a chunk");
    expect(run.begin()->second.rows == 1 || run.size() < 3, "the decode of the first never waits");
  }
  expect_equal(std::ranges::count_if(runs, [](const auto& run) { return run.begin()->second.token; }), 30,
               "one token a step for who decodes");
}
const Test chunks_test{"prompts run in chunks, in order of arrival, beside the decodes of others", chunks};

/// Steps until request `index` of the ticket has ended.
int steps_until_end(Harness& harness, Ticket& ticket, int64_t index) {
  for (int steps = 1;; ++steps) {
    expect(steps < 1000, "the request never ends");
    harness.step();
    for (const Event& event : ticket.poll(0, false)) {
      if (event.finish && event.index == index) return steps;
    }
  }
}

void sliding_beside_prompts() {
  // Each slides: it reads 16 positions, two chunks, for each token.
  const Request slides{.prompt = prompt_of(16), .max_tokens = 200, .overflow = Overflow::slide};
  Harness harness({.context = 16, .chunk = 8, .max_running = 4});
  harness.add({slides, slides, slides});
  for (int i = 0; i < 20; ++i) harness.step();
  const auto prompt = harness.add({{.prompt = prompt_of(12), .max_tokens = 1}});
  expect(steps_until_end(harness, *prompt, 0) <= 4, "a prompt of two chunks gets every other one");
}
const Test sliding_test{"sequences that read anew for each token do not keep a prompt waiting", sliding_beside_prompts};

void prompts_beside_sliding() {
  Harness harness({.context = 16, .chunk = 8, .max_running = 2});
  const auto slider = harness.add({{.prompt = prompt_of(16), .max_tokens = 20, .overflow = Overflow::slide}});
  for (int i = 0; i < 4; ++i) harness.step();
  harness.add(std::vector<Request>(300, {.prompt = prompt_of(15), .max_tokens = 1}));  // always one that reads
  expect(steps_until_end(harness, *slider, 0) <= 20 * 2 * 2 + 4, "two chunks a token, every other chunk");
}
const Test beside_sliding_test{"prompts without end do not starve who reads anew", prompts_beside_sliding};

/// Steps until request `index` of the ticket has ended.
int64_t steps_until_done(Harness& harness, Ticket& ticket, int64_t index) {
  for (int64_t steps = 1; steps < 10000; ++steps) {
    harness.step();
    for (const Event& event : ticket.poll(0, false)) {
      if (event.index == index && event.finish) return steps;
    }
  }
  fail("it never ends");
}

void no_starvation() {
  // Two that slide for ever: each of their tokens reads a whole context, two chunks. Then a prompt of two chunks.
  Harness harness({.context = 64, .chunk = 32, .max_running = 4});
  const Request sliding{.prompt = prompt_of(64, 1), .max_tokens = 1 << 20, .overflow = Overflow::slide};
  const auto endless = harness.add({sliding, sliding});
  for (int i = 0; i < 20; ++i) harness.step();
  const auto ticket = harness.add({{.prompt = prompt_of(60, 2), .max_tokens = 1}});
  expect(steps_until_done(harness, *ticket, 0) <= 4, "a prompt gets every other chunk");
  const auto decoding = harness.add({{.prompt = prompt_of(1, 3), .max_tokens = 30}});
  expect_equal(steps_until_done(harness, *decoding, 0), 30, "a decode is in every step");
  static_cast<void>(endless->poll(0, false));
  for (int i = 0; i < 40; ++i) harness.step();
  const auto events = endless->poll(0, false);
  expect(events.size() == 2 && events[0].token_ids.size() >= 9 && events[1].token_ids.size() >= 9,
         "those that slide take turns");
  endless->cancel(-1);
  harness.finish();
}
const Test no_starvation_test{"a request that slides starves neither prompts, nor decodes, nor its like",
                              no_starvation};

void cancel() {
  Harness harness({.context = 100, .chunk = 4, .max_running = 2});
  const auto ticket = harness.add(std::vector<Request>(4, {.prompt = prompt_of(10), .max_tokens = 50}));
  ticket->cancel(3);  // while it waits
  harness.step();
  auto events = ticket->poll(0, false);
  expect(events.size() == 1 && events[0].index == 3 && finish_of(events[0]) == "cancelled",
         "the waiting one ends at once");
  ticket->cancel(0);  // in the middle of its prompt
  harness.step();
  events = ticket->poll(0, false);
  expect(!events.empty() && events[0].index == 0 && finish_of(events[0]) == "cancelled" && events[0].token_ids.empty(),
         "the prefilling one ends within a step");
  for (int i = 0; i < 8; ++i) harness.step();
  events = ticket->poll(0, false);
  expect(!events.empty() && events[0].index == 1 && !events[0].token_ids.empty(), "the second generates");
  ticket->cancel(1);
  harness.step();
  events = ticket->poll(0, false);
  expect(finish_of(events[0]) == "cancelled", "the decoding one ends within a step");
  ticket->cancel(-1);
  harness.finish();
  expect(ticket->done(), "all are done");
  expect_equal(harness.run({{.prompt = prompt_of(90), .max_tokens = 5}})[0].token_ids, naive(prompt_of(90), 5),
               "and their pages are free again");
}
const Test cancel_test{"a cancelled request ends within one step, whatever it was doing", cancel};

void cancel_finished() {
  Harness harness;
  const auto ticket = harness.add({{.prompt = prompt_of(2), .max_tokens = 1}});
  harness.finish();
  ticket->cancel(0);
  ticket->cancel(17);
  expect_equal(finish_of(ticket->poll(0, true)[0]), "length");
}
const Test cancel_finished_test{"a request that has ended stays as it is when it is cancelled", cancel_finished};

void limits() {
  Harness harness({.context = 40});
  const auto count = [&](Request request) { return harness.run({request})[0].token_ids.size(); };
  expect_equal(count({.prompt = prompt_of(5), .max_tokens = 7}), 7u);
  expect_equal(count({.prompt = prompt_of(5), .max_tokens = 0}), 0u);
  expect_equal(count({.prompt = prompt_of(39), .max_tokens = 7}), 1u, "until the context's end");
  expect_equal(count({.prompt = prompt_of(40), .max_tokens = 7}), 0u, "no position is left");
  for (const Overflow overflow : {Overflow::stop, Overflow::slide, Overflow::shift}) {
    expect_equal(count({.prompt = prompt_of(5), .max_tokens = -1, .overflow = overflow}), 35u,
                 "without max_tokens: the context's end");
  }
  for (const int64_t max_tokens : {0, 7})
    expect_equal(finish_of(harness.run({{.prompt = prompt_of(40), .max_tokens = max_tokens}})[0]), "length");
}
const Test limits_test{"generation ends at max_tokens or at the context's end, and says length", limits};

void stop_tokens() {
  Harness harness;
  const auto prompt = prompt_of(4);
  const auto tokens = naive(prompt, 20);
  size_t place = 6;
  while (std::find(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(place), tokens[place]) !=
         tokens.begin() + static_cast<ptrdiff_t>(place))
    ++place;
  Request request{.prompt = prompt, .max_tokens = 20};
  request.sampling.stop_token_ids = {tokens[place]};
  request.logprobs = 0;
  const Event event = std::move(harness.run({request})[0]);
  expect_equal(finish_of(event), "stop");
  expect_equal(event.stop_token.value(), tokens[place]);
  expect_equal(event.token_ids, std::vector<int32_t>(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(place)),
               "the stop token is not among the tokens");
  expect_equal(event.logprobs.size(), event.token_ids.size());
  request.max_tokens = static_cast<int64_t>(place) + 1;
  expect_equal(finish_of(harness.run({request})[0]), "stop", "a stop token as the last one that is allowed is a stop");
  request.max_tokens = static_cast<int64_t>(place);
  expect_equal(finish_of(harness.run({request})[0]), "length");
}
const Test stop_tokens_test{"a stop token ends the request and is reported apart", stop_tokens};

void faults() {
  const struct {
    int32_t choice;
    Fault fault;
  } cases[] = {{static_cast<int32_t>(Choice::not_finite), Fault::numerical},
               {static_cast<int32_t>(Choice::none_left), Fault::constraint}};
  for (const auto& [choice, fault] : cases) {
    Harness harness({.max_running = 2});
    int left = 3;
    harness.backend.answer = [&](int32_t token) { return --left == 0 ? choice : token; };
    const auto events =
        harness.run({{.prompt = prompt_of(5), .max_tokens = 9}, {.prompt = prompt_of(6), .max_tokens = 9}});
    expect_equal(finish_of(events[0]), "error");
    expect(events[0].fault == fault && !events[0].message.empty(), "the fault is named");
    expect_equal(events[0].token_ids, naive(prompt_of(5), 1), "what came before it is kept");
    expect_equal(events[1].token_ids, naive(prompt_of(6), 9), "the other is not disturbed");
  }
}
const Test faults_test{"logits that are not finite, and rules that leave nothing, end the one request", faults};

void no_memory() {
  // Sequences of three pages each; pages 0 to 3 can be had: the first fits, the second fails at its second page.
  Harness harness({.context = 96, .chunk = 96, .max_running = 3, .backend = {.pages = 9}});
  harness.backend.pages_that_can_be_had = 4;
  const auto events = harness.run(std::vector<Request>(2, {.prompt = prompt_of(30), .max_tokens = 60}));
  expect_equal(finish_of(events[0]), "length");
  expect(events[1].fault == Fault::memory && finish_of(events[1]) == "error", "the second is out of memory");
  expect_equal(events[1].token_ids.size(), 3u, "after what its first page holds");
  harness.backend.pages_that_can_be_had = 0;
  expect(harness.run({{.prompt = prompt_of(1), .max_tokens = 1}})[0].fault == Fault::memory, "the only one");
  harness.backend.pages_that_can_be_had = 9;
  expect_equal(harness.run({{.prompt = prompt_of(80), .max_tokens = 9}})[0].token_ids, naive(prompt_of(80), 9),
               "afterwards all is well");
}
const Test no_memory_test{"a sequence whose page cannot be had ends alone, with that error", no_memory};

void fail_all() {
  Harness harness({.max_running = 1});
  const auto ticket = harness.add(std::vector<Request>(3, {.prompt = prompt_of(5), .max_tokens = 9}));
  harness.step();
  harness.scheduler.finish_all(Finish::error, Fault::other, "the device fell off the table");
  expect(harness.scheduler.idle() && ticket->done(), "all ended");
  for (const Event& event : ticket->poll(0, true)) {
    expect(
        finish_of(event) == "error" && event.fault == Fault::other && event.message == "the device fell off the table",
        "each with the reason");
  }
  expect_equal(harness.run({{.prompt = prompt_of(50), .max_tokens = 9}})[0].token_ids, naive(prompt_of(50), 9),
               "and the pages are free again");
}
const Test fail_all_test{"when a step fails, every request ends with the reason and the scheduler goes on", fail_all};

void wants() {
  for (const int64_t chunk : {1, 4, 100}) {
    Harness harness({.chunk = chunk});
    Request request{.prompt = prompt_of(9), .max_tokens = 3, .logprobs = 2, .prompt_logprobs = 1, .logits = true};
    for (const int64_t max_tokens : {0, 3}) {
      request.max_tokens = max_tokens;
      const Event event = std::move(harness.run({request})[0]);
      expect_equal(event.logits.size(), 9u * 50);
      expect_equal(event.logits_width, 50);
      for (size_t position = 0; position < 9; ++position) {
        const int32_t wanted = next_token(std::span(request.prompt).first(position + 1), 50);
        const auto row = event.logits.begin() + static_cast<ptrdiff_t>(position * 50);
        expect_equal(std::max_element(row, row + 50) - row, wanted, join("logits of position ", position));
        if (position > 0) expect_equal(event.prompt_logprobs[position - 1].token_id, request.prompt[position]);
      }
      expect_equal(event.prompt_logprobs.size(), 8u);
      expect_equal(event.token_ids, naive(request.prompt, max_tokens));
      expect_equal(std::ssize(event.logprobs), max_tokens);
      for (size_t i = 0; i < event.logprobs.size(); ++i) {
        expect_equal(event.logprobs[i].token_id, event.token_ids[i]);
        expect_equal(event.logprobs[i].top.size(), 2u);
        expect_equal(event.logprobs[i].top[0].first, event.token_ids[i]);
      }
    }
  }
}
const Test wants_test{"logits and logprobs are those of their positions, however the prompt is chunked", wants};

void random_work() {
  uint32_t state = 7;
  const auto random = [&](int64_t below) {
    return static_cast<int64_t>((state = state * 1664525u + 1013904223u) >> 16) % below;
  };
  for (int round = 0; round < 30; ++round) {
    const int64_t context = 20 + random(100);
    Harness harness({.context = context,
                     .chunk = 1 + random(40),
                     .max_running = 1 + random(6),
                     .backend = {.pages = (context + 31) / 32 * (1 + random(3))}});
    std::vector<Request> requests;
    std::vector<std::shared_ptr<Ticket>> tickets;
    for (int i = 0; i < 12; ++i) {
      requests.push_back({.prompt = prompt_of(1 + random(context - 1), i), .max_tokens = random(30)});
      tickets.push_back(harness.add({requests.back()}));
      for (int64_t steps = random(4); steps > 0; --steps) harness.step();
      if (random(4) == 0) tickets[static_cast<size_t>(random(std::ssize(tickets)))]->cancel(0);
    }
    harness.finish();
    for (size_t i = 0; i < requests.size(); ++i) {
      const Event event = std::move(tickets[i]->poll(0, true)[0]);
      const auto& [prompt, max_tokens] = std::pair(requests[i].prompt, requests[i].max_tokens);
      const auto wanted = naive(prompt, std::min(max_tokens, context - std::ssize(prompt)));
      const bool all = finish_of(event) == "length" && event.token_ids == wanted;
      const bool cut = finish_of(event) == "cancelled" &&
                       std::ranges::equal(event.token_ids, std::span(wanted).first(event.token_ids.size()));
      expect(all || cut, join("round ", round, ", request ", i, ": ", finish_of(event)));
    }
  }
}
const Test random_work_test{"random requests and cancellations give each its own tokens and lose no page", random_work};

}  // namespace
}  // namespace pygpt::test
