#pragma once

#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

/// Writes the sums of one row of one panel.
inline void finish_panel(const Simd::Panel& sums, const MatmulArgs& args, int64_t row, int64_t panel) {
  float* y = args.y + row * args.y_stride + panel * kPanel;
  for (int v = 0; v < Simd::kPanelVecs; ++v) {
    Vec value = sums.v[v];
    if (args.bias != nullptr) value = value + Simd::load(args.bias + panel * kPanel + v * Simd::kLanes);
    if (args.add) value = value + Simd::load(y + v * Simd::kLanes);
    Simd::store(y + v * Simd::kLanes, value);
  }
}

/// kRows rows times kPanels panels. Each output is one chain over k: no shape of tile changes a bit.
template <class Format, int kRows, int kPanels>
inline void tile(const MatmulArgs& args, int64_t row, int64_t panel) {
  const int64_t panel_elements = Format::panel_elements(args.k);
  const auto* weights = reinterpret_cast<const typename Format::Element*>(args.w);
  const float* x[kRows];
  const typename Format::Element* w[kPanels];
  for (int r = 0; r < kRows; ++r) x[r] = args.x + (row + r) * args.x_stride;
  for (int p = 0; p < kPanels; ++p) w[p] = weights + (panel + p) * panel_elements;
  Simd::Panel sums[kRows][kPanels] = {};
  Format::template accumulate<Simd, kRows, kPanels>(x, w, args.k, sums);
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) finish_panel(sums[r][p], args, row + r, panel + p);
  }
}

/// The last rows, fewer than a full tile.
template <class Format, int kRows>
inline void last_rows(const MatmulArgs& args, int64_t row, int64_t panel) {
  if constexpr (kRows > 0) {
    if (args.rows - row == kRows) return tile<Format, kRows, 1>(args, row, panel);
    last_rows<Format, kRows - 1>(args, row, panel);
  }
}

/// One row: several panels at once, each its own stream, so that enough chains are under way.
template <class Format>
inline void multiply_row(const MatmulArgs& args) {
  int64_t panel = args.first;
  for (; panel + Simd::kStreamPanels <= args.last; panel += Simd::kStreamPanels)
    tile<Format, 1, Simd::kStreamPanels>(args, 0, panel);
  for (; panel < args.last; ++panel) tile<Format, 1, 1>(args, 0, panel);
}

template <class Format>
void matmul(const MatmulArgs& args) noexcept {
  if (args.rows == 1) return multiply_row<Format>(args);
  for (int64_t panel = args.first; panel < args.last; ++panel) {
    int64_t row = 0;
    for (; row + Simd::kTileRows <= args.rows; row += Simd::kTileRows)
      tile<Format, Simd::kTileRows, 1>(args, row, panel);
    last_rows<Format, Simd::kTileRows - 1>(args, row, panel);
  }
}

}  // namespace
}  // namespace pygpt
