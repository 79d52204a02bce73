#pragma once
// How every format cuts a matrix: panels of 16 output columns, k running inside.

#include <cstddef>
#include <cstdint>

#include "base/checked.h"

namespace pygpt {

/// Columns of a panel: one cache line of f32, and a multiple of every vector.
inline constexpr int kPanel = 16;

/// k of a panel that are packed, or unpacked, together: rows become columns inside of an L1 cache.
inline constexpr int64_t kTurned = 64;

/// What kernels fetch early: while they multiply the lines of a block, those at the same place behind `from`, of every
/// `step` lines the one `first`. Tiles that share a block share the lines of the next out among them, so that memory is
/// busy all the time that they compute.
struct Ahead {
  const std::byte* from = nullptr;  // null: nothing
  int64_t first = 0;
  int64_t step = 1;

  /// The lines of the bytes [offset, offset + kBytes).
  template <class Simd, int kBytes>
  [[gnu::always_inline]] void fetch(int64_t offset) const {
    if (from == nullptr) return;
    for (int64_t line = first; line < kBytes / 64; line += step) Simd::prefetch(from + offset + line * 64);
  }
};

[[gnu::always_inline]] constexpr int64_t panel_count(int64_t n) { return ceil_div(n, kPanel); }

}  // namespace pygpt
