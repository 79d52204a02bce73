#pragma once
// How every format cuts a matrix: panels of 16 output columns, k running inside.

#include <cstddef>
#include <cstdint>

#include "base/checked.h"

namespace pygpt {

/// Columns of a panel: one cache line of f32, and a multiple of every vector.
inline constexpr int kPanel = 16;

[[gnu::always_inline]] constexpr int64_t panel_count(int64_t n) { return ceil_div(n, kPanel); }

}  // namespace pygpt
