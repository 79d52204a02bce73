#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "engine/request.h"

namespace pygpt {

/// Where the news of the requests of one submit meet the thread that waits for them.
class Ticket {
 public:
  explicit Ticket(size_t requests);

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

  /// Adds to what the caller will see of request event.index. Wakes it at once for an end, else at most every 2 ms.
  /// Throws std::bad_alloc, and then has changed nothing; but an end by a fault or by cancellation is told in any case,
  /// if need be without what else is new.
  void publish(Event&& event);

 private:
  using Clock = std::chrono::steady_clock;

  std::vector<std::atomic<bool>> cancelled_;
  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::vector<Event> pending_;  // by request
  std::vector<bool> fresh_;     // by request: pending_ holds something
  size_t running_;
  bool any_fresh_ = false;
  Clock::time_point next_wake_{};

  std::vector<Event> take();
};

}  // namespace pygpt
