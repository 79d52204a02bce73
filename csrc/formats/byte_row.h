#pragma once
// Activations for the quantised formats: bytes in groups of 64, each with its scale.

#include <cstddef>
#include <cstdint>

#include "base/checked.h"

namespace pygpt {

/// Neighbours along k that share a scale, in activations and in weights.
inline constexpr int64_t kGroup = 64;

/// Weights are stored with this added, as unsigned bytes: 0..128.
inline constexpr int kZeroPoint = 64;

[[gnu::always_inline]] constexpr int64_t group_count(int64_t k) { return ceil_div(k, kGroup); }

/// Where things lie in a row of k activations: x[i] is about bytes[i] * scales[i / 64], |bytes[i]| <= 127.
///
///   int8_t bytes[groups * 64] | float scales[groups] | int32_t starts[groups]
///
/// starts[g] is -64 times the sum of the group's bytes: what sums over unsigned weights begin with.
struct ByteRow {
  int64_t groups;

  [[gnu::always_inline]] explicit constexpr ByteRow(int64_t k) : groups(group_count(k)) {}
  [[gnu::always_inline]] constexpr int64_t scales() const { return groups * kGroup; }
  [[gnu::always_inline]] constexpr int64_t starts() const {
    return scales() + groups * static_cast<int64_t>(sizeof(float));
  }
  [[gnu::always_inline]] constexpr int64_t size() const {
    return starts() + groups * static_cast<int64_t>(sizeof(int32_t));
  }
};

}  // namespace pygpt
