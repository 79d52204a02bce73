#pragma once
// How the engine's thread wakes an event loop: the loop watches a file descriptor.

#include <cstdint>
#include <mutex>
#include <vector>

namespace pygpt {

/// Tells one event loop which of its tickets have news. The loop reads the descriptor, takes the list, pauses for as
/// long as it likes, and resumes: in a pause only what is urgent rings.
class Bell {
 public:
  /// Throws std::system_error: no descriptor is left.
  Bell();
  ~Bell();
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  // For the loop.

  int descriptor() const noexcept { return read_end_; }

  /// The tickets with news since the last time; begins a pause.
  std::vector<int64_t> take();

  /// Ends the pause. True if there are news already.
  bool resume();

  /// Makes room for one more ticket, which may then be listed once between two calls of take(). Throws std::bad_alloc.
  void attach();
  void detach() noexcept;

  // For the engine's thread.

  /// Lists a ticket, unless that was done since it was polled (`anew` is false). Rings unless it has rung already, or
  /// the loop pauses and this is not urgent.
  void list(int64_t ticket, bool urgent, bool anew) noexcept;

 private:
  int read_end_ = -1;
  int write_end_ = -1;
  std::mutex mutex_;
  std::vector<int64_t> listed_;  // its capacity is at least the number of tickets attached
  size_t attached_ = 0;
  bool rung_ = false;
  bool paused_ = false;
};

}  // namespace pygpt
