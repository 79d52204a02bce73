#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace pygpt {

/// A place among the sequences that an engine has taken on and not ended yet. Counted while it is held.
class Place {
 public:
  Place() = default;
  explicit Place(std::atomic<int64_t>& taken) : taken_(&taken) { ++taken; }
  Place(Place&& other) noexcept : taken_(std::exchange(other.taken_, nullptr)) {}
  Place& operator=(Place&& other) noexcept {
    std::swap(taken_, other.taken_);
    other.leave();
    return *this;
  }
  ~Place() { leave(); }

 private:
  void leave() noexcept {
    if (taken_) --*std::exchange(taken_, nullptr);
  }

  std::atomic<int64_t>* taken_ = nullptr;
};

}  // namespace pygpt
