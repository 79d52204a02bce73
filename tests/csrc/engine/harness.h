#pragma once
// A scheduler on a fake backend, stepped by hand.

#include <memory>
#include <vector>

#include "check.h"
#include "engine/fake_backend.h"
#include "engine/scheduler.h"

namespace pygpt::test {

struct Harness {
  struct Options {
    int64_t context = 64;
    int64_t chunk = 16;
    int64_t max_running = 4;
    int64_t most_kept = 0;
    FakeBackend::Options backend = {};
  };

  Harness() : Harness(Options{}) {}
  explicit Harness(const Options& options)
      : options(options),
        backend(options.backend),
        scheduler(backend, {options.chunk, options.max_running, options.most_kept}) {}

  /// Hands requests to the scheduler, under one ticket.
  std::shared_ptr<Ticket> add(const std::vector<Request>& requests) {
    auto ticket = std::make_shared<Ticket>(requests.size());
    std::vector<std::unique_ptr<Sequence>> sequences;
    const SequenceLimits limits{options.context, options.backend.vocab_size};
    for (const Request& request : requests) {
      sequences.push_back(std::make_unique<Sequence>(request, ticket, std::ssize(sequences), limits));
    }
    scheduler.add(sequences);
    return ticket;
  }

  /// One turn of the engine's loop. False if nothing was run.
  bool step() {
    Batch batch;
    if (!scheduler.next(batch)) return false;
    backend.run(batch, {static_cast<int>(scheduler.steps())}, results);
    scheduler.accept(results, options.backend.vocab_size);
    return true;
  }

  /// Steps until nothing is left to do.
  void finish() {
    for (int steps = 0; !scheduler.idle(); ++steps) {
      step();
      expect(steps < 100000, "the scheduler never becomes idle");
    }
  }

  /// Runs requests to their end; one event each.
  std::vector<Event> run(const std::vector<Request>& requests) {
    const auto ticket = add(requests);
    finish();
    expect(ticket->done(), "every request has ended");
    auto events = ticket->poll(0, true);
    expect_equal(events.size(), requests.size());
    return events;
  }

  Options options;
  FakeBackend backend;
  Scheduler scheduler;
  Results results;
};

/// A prompt of this many tokens, another one for each seed.
inline std::vector<int32_t> prompt_of(int64_t length, int32_t seed = 1) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back(static_cast<int32_t>((i * 7 + seed * 13 + i * i) % 50));
  return tokens;
}

inline std::string finish_of(const Event& event) { return event.finish ? finish_name(*event.finish) : "runs"; }

}  // namespace pygpt::test
