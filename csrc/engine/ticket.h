#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/bell.h"
#include "engine/request.h"

namespace pygpt {

/// How the caller of a submit waits.
struct Waiting {
  std::optional<double> timeout_s = {};  // the requests that have not ended by then end with Fault::deadline
  std::shared_ptr<Bell> bell = {};       // of an event loop, which polls when the ticket is listed; null for a thread
  int64_t id = 0;                        // as the bell lists it
  bool until_done = false;               // listed once, when every request has ended
};

/// Where the news of the requests of one submit meet the thread, or the event loop, that waits for them.
class Ticket {
 public:
  using Clock = std::chrono::steady_clock;

  /// Throws std::bad_alloc.
  explicit Ticket(size_t requests, Waiting waiting = {});
  ~Ticket();
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  // For the caller.

  /// Waits up to `timeout_s` for news: some, or with `until_done` the end of every request. Empty at the timeout.
  std::vector<Event> poll(double timeout_s, bool until_done);

  /// Asks that request `index` (-1: all) ends within one step.
  void cancel(int64_t index);

  bool done() const;
  size_t size() const noexcept { return cancelled_.size(); }

  // For the engine's thread.

  bool cancelled(int64_t index) const noexcept {
    return cancelled_[static_cast<size_t>(index)].load(std::memory_order_relaxed);
  }
  bool late(Clock::time_point now) const noexcept { return now >= deadline_; }

  /// Adds to what the caller will see of request event.index. Wakes it at once for an end, else at most every 2 ms;
  /// an event loop chooses its own pauses.
  /// Throws std::bad_alloc, and then has changed nothing; but an end by a fault or by cancellation is told in any case,
  /// if need be without what else is new.
  void publish(Event&& event);

 private:
  void ring(bool ended) noexcept;

  std::vector<std::atomic<bool>> cancelled_;
  Waiting waiting_;
  Clock::time_point deadline_ = Clock::time_point::max();
  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::vector<Event> pending_;  // by request
  std::vector<bool> fresh_;     // by request: pending_ holds something
  size_t running_;
  bool any_fresh_ = false;
  bool listed_ = false;    // by the bell, since the last take
  bool heard_of_ = false;  // listed at least once
  Clock::time_point next_wake_{};

  std::vector<Event> take();
};

}  // namespace pygpt
