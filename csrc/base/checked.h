#pragma once
// Arithmetic on sizes that come from outside: it says when a result does not fit instead of wrapping.

#include <cstdint>
#include <optional>

namespace pygpt {

inline std::optional<int64_t> checked_add(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

inline std::optional<int64_t> checked_multiply(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// `value` rounded up to a multiple of `step`. For values that are known to be far from the limit.
[[gnu::always_inline]] constexpr int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

[[gnu::always_inline]] constexpr int64_t ceil_div(int64_t value, int64_t step) { return (value + step - 1) / step; }

}  // namespace pygpt
