// Everything that several threads may do to one engine, at the same time, in an order that chance makes. Run it under
// TSan, and for longer with PYGPT_STRESS_ROUNDS.

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "check.h"
#include "engine/engine.h"
#include "engine/harness.h"
#include "model/builder.h"

namespace pygpt::test {
namespace {

constexpr int kKinds = 6;  // of requests
constexpr int kCallers = 6;
constexpr int kWhole = 100;  // requests that end by themselves, before the engine is closed in the middle of others

std::shared_ptr<const ModelFile> model() {
  const TemporaryFolder folder;
  const Shape shape{.n_layer = 2, .context_length = 70, .vocab_size = 50, .padded_vocab_size = 50};
  return std::make_shared<const ModelFile>(folder.write("model.pygpt", small_model(shape).bytes()), false,
                                           Verify::full);
}

Request request(int kind) {
  Request made{.prompt = prompt_of(20 + kind * 7, kind % 2), .max_tokens = 3 + kind * 5};
  made.sampling = {.top_k = 30, .seed = static_cast<uint64_t>(kind)};
  return made;
}

std::vector<int32_t> alone(const std::shared_ptr<const ModelFile>& file, int kind) {
  Engine engine(file, {.threads = 1, .max_running = 1, .prefix_cache = false});
  const auto ticket = engine.submit({request(kind)});
  const auto events = ticket->poll(60, true);
  expect(!events.empty(), "the engine does not answer");
  return events[0].token_ids;
}

/// One thread that uses the engine until it is closed.
class Caller {
 public:
  Caller(Engine& engine, const std::vector<std::vector<int32_t>>& wanted, std::atomic<int>& whole, uint32_t seed)
      : engine_(engine), wanted_(wanted), whole_(whole), chance_(seed + 1) {}

  /// Counts the requests that ended as they would alone. Throws at the first that did not.
  void run() {
    try {
      while (true) step();
    } catch (const EngineClosed&) {
    }
  }

 private:
  int below(int count) { return static_cast<int>(chance_() >> 3) % count; }

  void step() {
    const int kind = below(kKinds);
    if (below(12) == 0) return prefix(kind);
    Waiting waiting;
    if (below(8) == 0) waiting.timeout_s = 1e-4 * below(20);
    std::shared_ptr<Ticket> ticket;
    try {
      ticket = engine_.submit({request(kind), request(kind)}, waiting);
    } catch (const Overloaded&) {
      return std::this_thread::yield();
    }
    switch (below(4)) {
      case 0: return;  // the ticket is lost
      case 1: return cancel(*ticket, kind);
      default: return finish(*ticket, kind);
    }
  }

  void prefix(int kind) {
    const auto prompt = request(kind).prompt;
    try {
      engine_.load_prefix(prompt, engine_.save_prefix(prompt));
    } catch (const EngineClosed&) {
      throw;
    } catch (const Error&) {
      return;  // it is not in the cache now, or no page is free
    }
  }

  void cancel(Ticket& ticket, int kind) {
    std::thread other([&] { ticket.cancel(below(3) - 1); });
    other.join();
    finish(ticket, kind);
  }

  void finish(Ticket& ticket, int kind) {
    std::vector<std::vector<int32_t>> tokens(ticket.size());
    for (int turns = 0;; ++turns) {
      expect(turns < 100000, "the engine does not answer");
      const bool done = ticket.done();
      for (const Event& event : ticket.poll(done ? 0 : 1, false)) take(event, tokens, kind);
      if (done) return;
    }
  }

  void take(const Event& event, std::vector<std::vector<int32_t>>& tokens, int kind) {
    auto& all = tokens[static_cast<size_t>(event.index)];
    all.insert(all.end(), event.token_ids.begin(), event.token_ids.end());
    const auto& wanted = wanted_[static_cast<size_t>(kind)];
    expect(all.size() <= wanted.size() && std::equal(all.begin(), all.end(), wanted.begin()), "other tokens");
    if (!event.finish || *event.finish != Finish::length) return;
    expect_equal(all, wanted);
    ++whole_;
  }

  Engine& engine_;
  const std::vector<std::vector<int32_t>>& wanted_;
  std::atomic<int>& whole_;
  std::minstd_rand chance_;
};

void many_callers() {
  const char* asked = std::getenv("PYGPT_STRESS_ROUNDS");
  const int rounds = asked == nullptr ? 3 : std::atoi(asked);
  const auto file = model();
  std::vector<std::vector<int32_t>> wanted;
  for (int kind = 0; kind < kKinds; ++kind) wanted.push_back(alone(file, kind));
  for (int round = 0; round < rounds; ++round) {
    Engine engine(file, {.threads = 1 + round % 3, .prefill_chunk = 9, .max_running = 3, .max_waiting = 6});
    std::atomic<int> whole = 0;
    std::vector<std::string> wrong(kCallers);
    std::vector<std::thread> callers;
    for (int number = 0; number < kCallers; ++number) {
      callers.emplace_back([&, number] {
        try {
          Caller(engine, wanted, whole, static_cast<uint32_t>(round * kCallers + number)).run();
        } catch (const std::exception& error) {
          wrong[static_cast<size_t>(number)] = error.what();
        }
      });
    }
    for (int waits = 0; whole < kWhole && waits < 10000; ++waits)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::thread other([&] { engine.close(); });
    engine.close();
    other.join();
    for (auto& caller : callers) caller.join();
    for (const std::string& what : wrong) expect_equal(what, "");
    expect(whole >= kWhole, join(whole.load(), " requests came to their end"));
  }
}
const Test many_callers_test{"E1: threads that submit, cancel, lose, save, load and close get what they get alone",
                             many_callers};

}  // namespace
}  // namespace pygpt::test
