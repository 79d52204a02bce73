// Memory that runs out: each allocation in turn fails, once or with all that follow. Whatever it was for, nothing hangs
// or crashes, no request gets other tokens than it should, and the engine works afterwards.

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>

#include "check.h"
#include "engine/engine.h"
#include "engine/harness.h"
#include "model/builder.h"

namespace {

constexpr int64_t kNever = int64_t{1} << 60;
std::atomic<int64_t> g_until_fault = kNever;  // allocations left before the one that fails
std::atomic<bool> g_faulted = false;
std::atomic<bool> g_for_ever = false;  // and all that follow fail, too
thread_local bool t_spared = false;    // this thread's never fail

bool fails_now() {
  if (t_spared || g_until_fault.load(std::memory_order_relaxed) == kNever) return false;
  const int64_t left = g_until_fault.fetch_sub(1);
  if (left > 0 || (left < 0 && !g_for_ever)) return false;
  g_faulted = true;
  return true;
}

void* allocate(size_t size, size_t alignment) {
  void* memory = nullptr;
  if (fails_now() || posix_memalign(&memory, std::max(alignment, sizeof(void*)), std::max<size_t>(size, 1)) != 0)
    return nullptr;
  return memory;
}

void* allocate_or_throw(size_t size, size_t alignment) {
  if (void* memory = allocate(size, alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(size_t size) { return allocate_or_throw(size, alignof(std::max_align_t)); }
void* operator new[](size_t size) { return allocate_or_throw(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<size_t>(alignment));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size, alignof(std::max_align_t)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
extern "C" void* aligned_alloc(size_t alignment, size_t size) { return allocate(size, alignment); }

namespace pygpt::test {
namespace {

using Answers = std::vector<std::vector<int32_t>>;

/// While it lives, the allocation after the next `count` fails, in whichever thread.
class OneFault {
 public:
  explicit OneFault(int64_t count) {
    g_faulted = false;
    g_until_fault = count;
  }
  ~OneFault() { g_until_fault = kNever; }
  static bool happened() { return g_faulted; }
};

/// While it lives, all allocations of other threads fail after the next `count`.
class Famine : OneFault {
 public:
  explicit Famine(int64_t count) : OneFault(count) { t_spared = g_for_ever = true; }
  ~Famine() { t_spared = g_for_ever = false; }
  using OneFault::happened;
};

std::shared_ptr<const ModelFile> model() {
  const TemporaryFolder folder;
  const Shape shape{.n_layer = 1, .n_head = 2, .context_length = 40, .vocab_size = 50, .padded_vocab_size = 50};
  return std::make_shared<const ModelFile>(folder.write("model.pygpt", small_model(shape).bytes()), false,
                                           Verify::full);
}

std::vector<Request> requests() {
  std::vector<Request> made;
  for (int32_t i = 0; i < 3; ++i) {
    Request& request = made.emplace_back(Request{.prompt = prompt_of(3 + 14 * i, i), .max_tokens = 12, .logprobs = 2});
    request.sampling = {.top_k = 20, .repetition_penalty = 1.1f, .presence_penalty = 0.1f, .seed = 5};
  }
  made[1].overflow = Overflow::slide;
  made[1].max_tokens = 30;
  made[2].logits = true;
  made[2].prompt_logprobs = 1;
  made.push_back({.prompt = prompt_of(20), .max_tokens = 0, .look = Want::states});
  made.push_back({.prompt = prompt_of(40), .max_tokens = 0, .look = Want::attention});
  for (const size_t like : {0, 2}) {  // the same prompts again, which share and copy pages
    made.push_back({.prompt = made[like].prompt, .max_tokens = 12});
    made.back().sampling = {.top_k = 20, .seed = 6};
  }
  return made;
}

std::vector<Event> wait(Ticket& ticket) {
  std::vector<Event> events(ticket.size());
  for (Event& event : events) event.token_ids.reserve(100);  // below, only the poll itself may run out of memory
  for (int turns = 0; turns < 400; ++turns) {
    const bool done = ticket.done();
    try {
      for (Event& event : ticket.poll(done ? 0 : 0.05, false)) {
        auto& all = events[static_cast<size_t>(event.index)];
        all.token_ids.insert(all.token_ids.end(), event.token_ids.begin(), event.token_ids.end());
        all.finish = event.finish;
        all.fault = event.fault;
      }
      if (done) return events;
    } catch (const std::bad_alloc&) {
      // The poll itself had no memory: what it would have told must still be there.
    }
  }
  fail("a request never ends");
}

/// Runs the requests with faults; false when none happened because there are not so many allocations.
template <class Faults>
bool survives(Engine& engine, int64_t count, const Answers& right) {
  std::vector<Request> asked = requests();
  std::vector<Event> events;
  bool happened = false;
  {
    const Faults fault(count);
    try {
      const auto ticket = engine.submit(std::move(asked));
      events = wait(*ticket);
    } catch (const std::bad_alloc&) {
    } catch (const OutOfMemory&) {
    }
    happened = Faults::happened();
  }
  for (size_t i = 0; i < events.size(); ++i) {
    const bool whole = events[i].finish == Finish::length && events[i].token_ids == right[i];
    const bool refused = events[i].finish == Finish::error && events[i].fault == Fault::memory;
    const bool beginning = std::equal(events[i].token_ids.begin(), events[i].token_ids.end(), right[i].begin());
    expect(whole || (refused && beginning), join("request ", i, " after allocation ", count, ": ", finish_of(events[i]),
                                                 ", tokens ", shown(events[i].token_ids)));
  }
  return happened;
}

Answers answers(Engine& engine) {
  Answers tokens;
  const auto ticket = engine.submit(requests());
  for (const Event& event : wait(*ticket)) {
    expect(event.finish == Finish::length, "ends by itself");
    tokens.push_back(event.token_ids);
  }
  return tokens;
}

template <class Faults>
void running() {
  const auto file = model();
  const EngineOptions options{.threads = 2, .prefill_chunk = 16};
  const Answers right = [&] {
    Engine engine(file, options);
    return answers(engine);
  }();
  int64_t count = 0;
  for (bool more = true; more; count += count < 150 ? 1 : 17) {
    Engine fresh(file, options);  // nothing is warm: pages and rows of logits are all still to be had
    more = survives<Faults>(fresh, count, right);
    expect(answers(fresh) == right, join("the engine works after a fault at allocation ", count));
  }
  expect(count > 100, join("only ", count, " allocations"));
}
const Test running_test{"D1: each allocation of running requests may fail", running<OneFault>};
const Test famine_test{"D1: from any allocation on, all that the engine asks for may fail", running<Famine>};

void prefixes() {
  const auto file = model();
  const EngineOptions options{.threads = 2};
  const auto prompt = prompt_of(37);
  const auto read = [&](Engine& engine) {
    static_cast<void>(wait(*engine.submit({{.prompt = prompt, .max_tokens = 0}})));
  };
  Engine source(file, options);
  read(source);
  const std::vector<std::byte> pages = source.save_prefix(prompt);
  Engine engine(file, options);
  bool more = true;
  int64_t count = 0;
  for (; more; ++count) {
    const OneFault fault(count);
    try {
      engine.load_prefix(prompt, pages);
      expect(engine.save_prefix(prompt) == pages, "what was loaded is what was saved");
    } catch (const std::bad_alloc&) {
    } catch (const OutOfMemory&) {
    } catch (const Error&) {  // what could not be loaded cannot be saved
    }
    more = OneFault::happened();
  }
  expect(count > 10, join("only ", count, " allocations"));
  engine.load_prefix(prompt, pages);
  Request request{.prompt = prompt, .max_tokens = 3};
  request.sampling.temperature = 0;
  const auto [found, wanted] = std::pair(engine.submit({request}), source.submit({request}));
  expect_equal(wait(*found)[0].token_ids, wait(*wanted)[0].token_ids);
}
const Test prefixes_test{"D1: each allocation of saving and loading a prefix may fail", prefixes};

void closing() {
  const auto file = model();
  for (int64_t count = 0; count < 60; ++count) {
    Engine engine(file, {.threads = 2, .prefill_chunk = 16, .max_running = 2});
    const Famine famine(count);
    const auto ticket = engine.submit(requests());
    engine.close();
    expect(ticket->done(), "every request has ended");
    for (const Event& event : ticket->poll(0, true)) {
      expect(event.finish == Finish::cancelled || event.fault == Fault::memory || event.finish == Finish::length,
             finish_of(event));
    }
  }
}
const Test closing_test{"D1: an engine without memory can be closed", closing};

void opening() {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "model.pygpt", small_model({.context_length = 70, .vocab_size = 50, .padded_vocab_size = 50}).bytes());
  int64_t count = 0;
  for (bool more = true; more; ++count) {
    const OneFault fault(count);
    try {
      const auto file = std::make_shared<const ModelFile>(path, false, Verify::full);
      Engine engine(file, {.threads = 3});
    } catch (const std::bad_alloc&) {
    } catch (const OutOfMemory&) {
    }
    more = OneFault::happened();
  }
  expect(count > 100, join("only ", count, " allocations"));
}
const Test opening_test{"D1: each allocation of opening a file and an engine may fail", opening};

}  // namespace
}  // namespace pygpt::test
