#pragma once
// How every format cuts a matrix: panels of 16 output columns, k running inside.

#include <cstddef>
#include <cstdint>

#include "base/checked.h"

namespace pygpt {

/// Columns of a panel: one cache line of f32, and a multiple of every vector.
inline constexpr int kPanel = 16;

/// How far ahead kernels fetch weights where they do: about the latency of memory times what a core reads meanwhile.
inline constexpr int64_t kPrefetchBytes = 2048;

/// Part of a panel, from some k on.
struct WeightBlock {
  const std::byte* weights;
  const std::byte* scales;  // of quantised formats
};

[[gnu::always_inline]] constexpr int64_t panel_count(int64_t n) { return ceil_div(n, kPanel); }

}  // namespace pygpt
