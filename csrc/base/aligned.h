#pragma once
// Memory for rows of numbers: aligned to a cache line, zeroed, never grown.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "base/checked.h"
#include "base/error.h"

namespace pygpt {

inline constexpr int64_t kAlignment = 64;  // a cache line, and the widest vector

struct FreeDeleter {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

/// `count` zeroed elements, aligned to kAlignment. Throws OutOfMemory.
template <class T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(int64_t count) : count_(count) {
    const auto bytes = checked_multiply(count, sizeof(T));
    if (!bytes || *bytes < 0 || *bytes > INT64_MAX - kAlignment)
      throw OutOfMemory(join("an array of ", count, " elements"));
    const size_t padded = static_cast<size_t>(round_up(*bytes, kAlignment));
    if (padded == 0) return;
    memory_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, padded)));
    if (!memory_) throw OutOfMemory(join("cannot allocate ", padded, " bytes"));
    std::memset(static_cast<void*>(memory_.get()), 0, padded);
  }

  T* data() noexcept { return memory_.get(); }
  const T* data() const noexcept { return memory_.get(); }
  int64_t size() const noexcept { return count_; }
  T& operator[](int64_t i) noexcept { return memory_.get()[i]; }
  const T& operator[](int64_t i) const noexcept { return memory_.get()[i]; }

 private:
  std::unique_ptr<T, FreeDeleter> memory_;
  int64_t count_ = 0;
};

}  // namespace pygpt
