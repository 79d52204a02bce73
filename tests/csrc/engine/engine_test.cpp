// The whole core on a tiny model: threads that come and go, close, submit and cancel. Run it under TSan, too.

#include "engine/engine.h"

#include <atomic>
#include <cfenv>
#include <limits>
#include <thread>

#include "check.h"
#include "engine/harness.h"
#include "kernels/cpu/select.h"
#include "model/builder.h"

namespace pygpt::test {
namespace {

std::shared_ptr<const ModelFile> model(
    const Shape& shape = {.n_layer = 2, .n_head = 3, .context_length = 70, .vocab_size = 50, .padded_vocab_size = 53}) {
  const TemporaryFolder folder;
  return std::make_shared<const ModelFile>(folder.write("model.pygpt", small_model(shape).bytes()), false,
                                           Verify::full);
}

Request request(int32_t seed, int64_t max_tokens = 20) {
  Request made{.prompt = prompt_of(1 + seed * 5 % 40, seed), .max_tokens = max_tokens};
  made.sampling = {.top_k = 30, .top_p = 0.95f, .seed = static_cast<uint64_t>(seed)};
  return made;
}

Request endless(int32_t seed = 1) {
  Request made = request(seed, int64_t{1} << 40);
  made.overflow = Overflow::slide;
  return made;
}

std::vector<Event> wait(Ticket& ticket) {
  std::vector<Event> events;
  for (int turns = 0; !ticket.done(); ++turns) {
    events = ticket.poll(1, true);
    expect(turns < 120, "the engine does not answer");
  }
  return events.empty() ? ticket.poll(0, true) : events;
}

std::vector<std::vector<int32_t>> tokens_of(Engine& engine, std::vector<Request> requests) {
  const auto ticket = engine.submit(std::move(requests));
  std::vector<std::vector<int32_t>> tokens;
  for (const Event& event : wait(*ticket)) {
    expect(event.fault == Fault::none, event.message);
    tokens.push_back(event.token_ids);
  }
  return tokens;
}

void same_tokens() {
  const auto file = model();
  std::vector<std::vector<int32_t>> alone;
  Engine one(file, {.threads = 1, .prefill_chunk = 1, .max_running = 1});
  for (int32_t seed = 0; seed < 8; ++seed) alone.push_back(tokens_of(one, {request(seed)})[0]);
  for (const int threads : {1, 2, 3, 5}) {
    for (const int64_t chunk : {1, 7, 70}) {
      Engine engine(file, {.threads = threads, .prefill_chunk = chunk});
      std::vector<Request> requests;
      for (int32_t seed = 0; seed < 8; ++seed) requests.push_back(request(seed));
      expect(tokens_of(engine, requests) == alone, join(threads, " threads, chunk ", chunk));
    }
  }
}
const Test same_tokens_test{"tokens do not depend on batch, threads or chunk", same_tokens};

/// The logits of a whole prompt, from an engine that is opened while this thread's arithmetic is `change`d.
std::vector<float> logits_after(const std::shared_ptr<const ModelFile>& file, void (*change)()) {
  std::fenv_t before;
  std::fegetenv(&before);
  change();
  Engine engine(file, {.threads = 3, .isa = "generic"});
  std::fesetenv(&before);
  const auto ticket = engine.submit({{.prompt = prompt_of(30), .max_tokens = 0, .logits = true}});
  return wait(*ticket)[0].logits;
}

void float_environment() {
  const auto file =
      model({.n_head = 3, .context_length = 30, .vocab_size = 50, .padded_vocab_size = 50, .weight = 0x1p-14f});
  const auto wanted = logits_after(file, [] {});
  expect(logits_after(file, [] { std::fesetround(FE_UPWARD); }) == wanted, "another rounding");
#if defined(__x86_64__)
  expect(logits_after(file, [] { __builtin_ia32_ldmxcsr(0x1f80 | 0x8040); }) == wanted, "subnormals flushed to zero");
#endif
}
const Test float_environment_test{"logits do not depend on the arithmetic of the thread that opened the engine",
                                  float_environment};

void many_threads_submit() {
  const auto file = model();
  Engine engine(file, {.threads = 2, .max_running = 3});
  std::vector<std::vector<int32_t>> alone;
  for (int32_t seed = 0; seed < 4; ++seed) alone.push_back(tokens_of(engine, {request(seed)})[0]);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int32_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      for (int i = 0; i < 10; ++i)
        wrong += tokens_of(engine, {request(seed), request(seed)}) != std::vector(2, alone[static_cast<size_t>(seed)]);
    });
  }
  for (auto& thread : threads) thread.join();
  expect_equal(wrong.load(), 0);
}
const Test many_threads_test{"many threads may submit to one engine at once", many_threads_submit};

void close_while_running() {
  const auto file = model();
  for (const int threads : {1, 2, 3}) {
    Engine engine(file, {.threads = threads, .max_running = 2});
    const auto ticket = engine.submit({endless(1), endless(2), endless(3)});
    static_cast<void>(ticket->poll(5, false));
    std::thread other([&] { engine.close(); });
    engine.close();
    other.join();
    expect(ticket->done(), "every request has ended");
    for (const Event& event : ticket->poll(0, true)) expect_equal(finish_of(event), "cancelled");
    expect_throws<EngineClosed>([&] { static_cast<void>(engine.submit({request(1)})); });
    engine.close();
  }
}
const Test close_while_running_test{"closing cancels what runs, waits for it, and may be done twice and by two at once",
                                    close_while_running};

void open_and_close() {
  const auto file = model();
  for (int i = 0; i < 50; ++i) {
    Engine engine(file, {.threads = 1 + i % 3});
    if (i % 2 == 0) continue;
    const auto ticket = engine.submit({request(i), endless(i)});
    if (i % 4 == 1) static_cast<void>(ticket->poll(5, false));
  }
}
const Test open_and_close_test{"an engine can be opened and closed 50 times, idle, at work, or just asked",
                               open_and_close};

void cancel_from_another_thread() {
  Engine engine(model(), {.threads = 2});
  const auto ticket = engine.submit({endless(1), request(2), endless(3)});
  std::thread other([&] {
    ticket->cancel(0);
    ticket->cancel(2);
  });
  const auto events = wait(*ticket);
  other.join();
  expect_equal(finish_of(events[0]) + finish_of(events[1]) + finish_of(events[2]), "cancelledlengthcancelled");
  expect_equal(tokens_of(engine, {request(2)})[0], events[1].token_ids, "and the engine goes on");
}
const Test cancel_test{"another thread may cancel", cancel_from_another_thread};

void a_lost_ticket() {
  Engine engine(model(), {.threads = 2});
  for (int i = 0; i < 5; ++i) engine.submit({request(i)});
  expect_equal(tokens_of(engine, {request(1)})[0].size(), 20u);
}
const Test a_lost_ticket_test{"a ticket that nobody keeps disturbs nobody", a_lost_ticket};

void refused() {
  Engine engine(model(), {.threads = 1});
  const auto refuse = [&](const char* what, Request bad) {
    expect_throws<Error>([&] { static_cast<void>(engine.submit({request(1), std::move(bad)})); }, what);
  };
  const auto with = [](auto change) {
    Request changed = request(1);
    change(changed);
    return changed;
  };
  for (const int32_t id : {-1, 50, 52, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    refuse("prompt", with([&](Request& r) { r.prompt = {1, id}; }));
    refuse("allowed", with([&](Request& r) { r.sampling.allowed_token_ids = {1, id}; }));
    refuse("stop", with([&](Request& r) { r.sampling.stop_token_ids = {id}; }));
    refuse("bias", with([&](Request& r) { r.sampling.logit_bias = {{id, 1.0f}}; }));
  }
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  refuse("empty", with([](Request& r) { r.prompt = {}; }));
  refuse("long", with([](Request& r) { r.prompt = prompt_of(71); }));
  for (const Overflow overflow : {Overflow::slide, Overflow::shift}) {
    refuse("long with logits",
           with([&](Request& r) { r = {.prompt = prompt_of(71), .overflow = overflow, .logits = true}; }));
    refuse("long with logprobs",
           with([&](Request& r) { r = {.prompt = prompt_of(71), .overflow = overflow, .prompt_logprobs = 0}; }));
  }
  for (const float bias : {kNaN, kInfinity, -kInfinity})
    refuse("bias", with([&](Request& r) { r.sampling.logit_bias = {{1, bias}}; }));
  for (const float bad : {kNaN, -1.0f}) {
    refuse("temperature", with([&](Request& r) { r.sampling.temperature = bad; }));
    refuse("top_p", with([&](Request& r) { r.sampling.top_p = bad; }));
    refuse("min_p", with([&](Request& r) { r.sampling.min_p = bad; }));
    refuse("repetition_penalty", with([&](Request& r) { r.sampling.repetition_penalty = bad; }));
  }
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    refuse("presence_penalty", with([&](Request& r) { r.sampling.presence_penalty = bad; }));
    refuse("frequency_penalty", with([&](Request& r) { r.sampling.frequency_penalty = bad; }));
  }
  refuse("top_k", with([](Request& r) { r.sampling.top_k = -1; }));
  refuse("top_p", with([](Request& r) { r.sampling.top_p = 0; }));
  refuse("repetition_penalty", with([](Request& r) { r.sampling.repetition_penalty = 0; }));
  expect_equal(tokens_of(engine, {request(1)})[0].size(), 20u, "and the engine goes on");
}
const Test refused_test{"requests that would read or write out of bounds are refused", refused};

void duplicates() {
  Engine engine(model(), {.threads = 1});
  Request once = request(1);
  once.sampling.allowed_token_ids = {3, 7, 9};
  Request often = once;
  for (int i = 0; i < 200; ++i) often.sampling.allowed_token_ids.push_back(7);
  const auto tokens = tokens_of(engine, {often})[0];
  expect_equal(tokens, tokens_of(engine, {once})[0]);
  for (const int32_t token : tokens) expect(token == 3 || token == 7 || token == 9, "only what is allowed");
}
const Test duplicates_test{"allowed ids may be repeated, more often than there are tokens", duplicates};

void a24_not_a_number() {
  for (const float weight : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f}) {
    Engine engine(model({.format = "f32", .weight = weight}), {.threads = 2});
    const auto ticket = engine.submit({{.prompt = {1, 2, 3}, .max_tokens = 5}, {.prompt = {1}, .max_tokens = 5}});
    for (const Event& event : wait(*ticket)) {
      expect(event.fault == Fault::numerical && event.token_ids.empty(), join(weight, ": ", event.message));
    }
  }
}
const Test a24_test{"A24: weights that give no finite logit end a request with that error", a24_not_a_number};

void a22_cache() {
  // 8 layers x 64 heads x 1024 floats, twice: 4 MiB for each of a million positions, in a file of some megabytes.
  const Shape shape{.n_layer = 8,
                    .n_head = 64,
                    .head_dim = 1024,
                    .d_model = 1,
                    .d_ff = 1,
                    .context_length = 1 << 20,
                    .vocab_size = 2,
                    .padded_vocab_size = 2,
                    .biases = false,
                    .format = "f32"};
  const auto file = model(shape);
  const auto error = expect_throws<OutOfMemory>([&] { Engine(file, {.threads = 1}); });
  const std::string words = error.what();
  expect(words.find("4194304 MiB") != std::string::npos && words.find("available") != std::string::npos &&
             words.find("max_context") != std::string::npos,
         words);
  Engine smaller(file, {.threads = 1, .max_context = 40});
  expect_equal(smaller.context_length(), 40);
}
const Test a22_cache_test{"A22: a KV cache that does not fit is refused with both figures and the way out", a22_cache};

void a22_rows() {
  // A million rows of 2^18 floats at once.
  const auto file = model({.n_head = 1,
                           .head_dim = 1,
                           .d_model = 1,
                           .d_ff = 1 << 18,
                           .context_length = 1 << 20,
                           .vocab_size = 2,
                           .padded_vocab_size = 2,
                           .biases = false});
  const auto error = expect_throws<OutOfMemory>([&] { Engine(file, {.threads = 1, .prefill_chunk = 1 << 20}); });
  expect(std::string(error.what()).find("rows need 104") != std::string::npos, error.what());
}
const Test a22_rows_test{"A22: rows of activations that do not fit are refused, too", a22_rows};

void a22_workers() {
  // A vocabulary of 2^24: each of a thousand workers has 256 MiB to choose in.
  const auto file = model({.n_head = 1,
                           .head_dim = 1,
                           .d_model = 1,
                           .d_ff = 1,
                           .context_length = 4,
                           .vocab_size = 1 << 24,
                           .padded_vocab_size = 1 << 24,
                           .biases = false});
  const auto error = expect_throws<OutOfMemory>([&] { Engine(file, {.threads = 1000, .max_running = 1}); });
  expect(std::string(error.what()).find("rows need 256") != std::string::npos, error.what());
}
const Test a22_workers_test{"A22: what each worker needs for itself counts, too", a22_workers};

/// Odd widths: rows that end inside a group, heads that are whole groups of a worker and that are not.
void every_format() {
  for (const char* format : WeightFormats::kNames) {
    for (const auto& [heads, width] : {std::pair{3, 5}, {2, 64}, {4, 24}}) {
      const auto file = model({.n_layer = 2,
                               .n_head = heads,
                               .head_dim = width,
                               .d_model = 70,
                               .d_ff = 150,
                               .context_length = 70,
                               .vocab_size = 50,
                               .padded_vocab_size = 53,
                               .format = format});
      for (const KernelTable* table : available_kernels()) {
        std::vector<std::vector<int32_t>> first;
        for (const auto& [threads, chunk] : {std::pair{1, 1}, {2, 70}, {3, 7}}) {
          for (const char* kv_dtype : {"f16", "int8"}) {
            Engine engine(file, {.threads = threads, .isa = table->isa, .kv_dtype = kv_dtype, .prefill_chunk = chunk});
            std::vector<Request> requests;
            for (int32_t seed = 0; seed < 9; ++seed) requests.push_back(request(seed));
            const auto tokens = tokens_of(engine, requests);
            if (std::string(kv_dtype) == "int8") continue;
            if (first.empty()) first = tokens;
            expect(tokens == first, join(format, " ", heads, " heads, ", table->isa, ", ", threads, " threads"));
          }
        }
      }
    }
  }
}
const Test every_format_test{"every format runs on every ISA, and its tokens depend on neither threads nor chunk",
                             every_format};

void options() {
  const auto file = model();
  for (const EngineOptions& bad : std::vector<EngineOptions>{{.threads = -1},
                                                             {.threads = 1025},
                                                             {.kv_dtype = "q4"},
                                                             {.max_context = 71},
                                                             {.max_context = -1},
                                                             {.prefill_chunk = -1},
                                                             {.max_running = -1}}) {
    expect_throws<Error>([&] { Engine(file, bad); });
  }
  expect_throws<DeviceError>([&] { Engine(file, {.isa = "vax"}); });
  for (const char* kv_dtype : KvTypes::kNames) {
    for (const KernelTable* table : available_kernels()) {
      Engine engine(file, {.threads = 2,
                           .isa = table->isa,
                           .kv_dtype = kv_dtype,
                           .max_context = 33,
                           .prefill_chunk = 1000,
                           .max_running = 100000});
      expect_equal(engine.info().kv_dtype, std::string(kv_dtype));
      expect_equal(engine.info().isa, std::string(table->isa));
      expect_equal(tokens_of(engine, {request(2)})[0].size(), 20u);
    }
  }
}
const Test options_test{"options are held to their ranges, and every ISA and cache type runs", options};

}  // namespace
}  // namespace pygpt::test
