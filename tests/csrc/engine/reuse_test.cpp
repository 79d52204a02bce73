// The scheduler with pages that are shared: every token right, no row computed twice, nobody delayed.

#include "engine/reuse.h"

#include "check.h"
#include "engine/harness.h"

namespace pygpt::test {
namespace {

std::vector<int32_t> naive(std::vector<int32_t> window, int64_t count) {
  std::vector<int32_t> output;
  for (int64_t i = 0; i < count; ++i) {
    output.push_back(next_token(window, 50));
    window.push_back(output.back());
  }
  return output;
}

Harness::Options sharing(int64_t pages = 64) {
  return {.context = 200, .chunk = 40, .max_running = 8, .most_kept = pages, .backend = {.pages = pages}};
}

void samples() {
  for (const int64_t length : {1, 2, 20, 32, 33, 100}) {
    Harness harness(sharing());
    const auto events = harness.run(std::vector<Request>(8, {.prompt = prompt_of(length), .max_tokens = 5}));
    for (const Event& event : events) expect_equal(event.token_ids, naive(prompt_of(length), 5), join(length));
    // Of a prompt of two tokens the first is not worth a copy.
    const int64_t prompts = length > 2 ? length + 7 : 8 * length;
    expect_equal(harness.backend.rows_run, prompts + 8 * 4, join("rows for prompts of ", length));
  }
}
const Test samples_test{"n samples of a prompt read it once, and each its last row", samples};

void a_reader_that_ends() {
  for (const int steps : {1, 2}) {
    Harness harness(sharing());
    const auto ticket = harness.add(std::vector<Request>(4, {.prompt = prompt_of(100), .max_tokens = 3}));
    for (int i = 0; i < steps; ++i) harness.step();
    ticket->cancel(0);
    harness.finish();
    const auto events = ticket->poll(0, true);
    expect_equal(finish_of(events[0]), "cancelled");
    for (size_t i = 1; i < 4; ++i) expect_equal(events[i].token_ids, naive(prompt_of(100), 3));
    expect(harness.backend.rows_run <= 100 + 32 + 3 * 3, join("what it had read is used: ", harness.backend.rows_run));
  }
}
const Test reader_test{"when the sequence that reads for all is cancelled, another goes on", a_reader_that_ends};

void later() {
  Harness harness(sharing());
  harness.run({{.prompt = prompt_of(100), .max_tokens = 2}});
  const int64_t before = harness.backend.rows_run;
  const auto events =
      harness.run({{.prompt = prompt_of(100), .max_tokens = 2}, {.prompt = prompt_of(90), .max_tokens = 0}});
  expect_equal(events[0].token_ids, naive(prompt_of(100), 2));
  expect_equal(events[0].cached_tokens, 99);
  expect_equal(events[1].cached_tokens, 89, "the beginning of a prompt");
  expect_equal(harness.backend.rows_run - before, 3);
}
const Test later_test{"a prompt that was read before costs one row", later};

void moving() {
  // Sliding writes its pages anew; whoever shares their beginnings must not notice.
  Harness harness(sharing());
  const Request slides{.prompt = prompt_of(150), .max_tokens = 120, .overflow = Overflow::slide};
  const Request stays{.prompt = prompt_of(150), .max_tokens = 40};
  const auto events = harness.run({slides, stays, slides, stays});
  Harness alone({.context = 200, .chunk = 40});
  expect_equal(events[0].token_ids, alone.run({slides})[0].token_ids);
  expect_equal(events[2].token_ids, events[0].token_ids);
  expect_equal(events[1].token_ids, naive(prompt_of(150), 40));
  expect_equal(events[3].token_ids, events[1].token_ids);
}
const Test moving_test{"who may outgrow the context copies and shares nothing", moving};

void never_delays() {
  Harness harness(sharing(12));
  for (int32_t seed = 0; seed < 5; ++seed) harness.run({{.prompt = prompt_of(180, seed), .max_tokens = 5}});
  const auto ticket =
      harness.add({{.prompt = prompt_of(10, 77), .max_tokens = 150}, {.prompt = prompt_of(10, 78), .max_tokens = 150}});
  harness.step();
  expect_equal(harness.backend.runs.back().size(), 2u, "both start at once");
  harness.finish();
  // All pages kept, and one that needs each of them.
  Harness full({.context = 200, .chunk = 40, .most_kept = 7, .backend = {.pages = 7}});
  full.run({{.prompt = prompt_of(180), .max_tokens = 19}});
  const Request slides{.prompt = prompt_of(180), .max_tokens = 50, .overflow = Overflow::slide};
  expect_equal(full.run({slides})[0].token_ids.size(), 50u);
}
const Test never_delays_test{"pages that are only kept keep nobody waiting", never_delays};

void no_memory_to_copy() {
  Harness harness(sharing());
  harness.run({{.prompt = prompt_of(70), .max_tokens = 1}});
  harness.backend.pages_that_can_be_had = 3;
  const auto events =
      harness.run({{.prompt = prompt_of(60), .max_tokens = 1}, {.prompt = prompt_of(30, 9), .max_tokens = 1}});
  for (const Event& event : events)
    expect(finish_of(event) == "length" || event.fault == Fault::memory, finish_of(event));
  harness.backend.pages_that_can_be_had = 64;
  expect_equal(harness.run({{.prompt = prompt_of(60), .max_tokens = 4}})[0].token_ids, naive(prompt_of(60), 4));
}
const Test no_memory_test{"where no page can be had to copy into, only that request ends", no_memory_to_copy};

void no_memory_for_answers() {
  Harness harness({.context = 100, .chunk = 64, .backend = {.pages = 64}});
  harness.backend.answers_that_can_be_had = 10;
  const auto events = harness.run({{.prompt = prompt_of(20), .max_tokens = 5},
                                   {.prompt = prompt_of(30), .max_tokens = 5, .logits = true},
                                   {.prompt = prompt_of(25), .max_tokens = 5}});
  expect(events[1].fault == Fault::memory, "the one that asked for too much");
  expect_equal(events[0].token_ids, naive(prompt_of(20), 5));
  expect_equal(events[2].token_ids, naive(prompt_of(25), 5));
}
const Test no_answers_test{"where there is no memory for a request's logits, only that request ends",
                           no_memory_for_answers};

void random_work() {
  uint32_t state = 11;
  const auto random = [&](int64_t below) {
    return static_cast<int64_t>((state = state * 1664525u + 1013904223u) >> 16) % below;
  };
  for (int round = 0; round < 40; ++round) {
    const int64_t context = 40 + random(120);
    const int64_t pages = (context + 31) / 32 * (1 + random(4));
    Harness harness({.context = context,
                     .chunk = 1 + random(60),
                     .max_running = 1 + random(6),
                     .most_kept = 1 + random(pages),
                     .backend = {.pages = pages}});
    std::vector<Request> requests;
    std::vector<std::shared_ptr<Ticket>> tickets;
    for (int i = 0; i < 30; ++i) {
      auto prompt = prompt_of(1 + random(context - 1), static_cast<int32_t>(random(3)));
      if (random(3) == 0) prompt[static_cast<size_t>(random(std::ssize(prompt)))] = 3;
      requests.push_back({.prompt = prompt, .max_tokens = random(30)});
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
const Test random_work_test{"D11: random requests that share and copy get each its own tokens", random_work};

}  // namespace
}  // namespace pygpt::test
