#pragma once
// y = x w^T. One row streams weights, several panels at once; many rows share a block of a panel in the first cache.
// Each output is one chain over k, whatever the shape of the tile that it is computed in.

#include "formats/formats.h"
#include "kernels/cpu/expand.h"
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

template <class Format>
inline WeightBlock block_of(const MatmulArgs& args, int64_t panel, int64_t first) {
  const std::byte* start = args.w + panel * Format::panel_bytes(args.k);
  return {start + Format::weight_bytes(first),
          start + Format::weight_bytes(args.k) + first / kGroup * kPanel * static_cast<int64_t>(sizeof(Half))};
}

/// All rows, at most a few, times kPanels whole panels.
template <class Format, int kRows, int kPanels, bool kPrefetch>
inline void few_rows(const MatmulArgs& args, int64_t panel) {
  const std::byte* x[kRows];
  WeightBlock w[kPanels];
  for (int r = 0; r < kRows; ++r) x[r] = args.x + r * args.x_stride;
  for (int p = 0; p < kPanels; ++p) w[p] = block_of<Format>(args, panel + p, 0);
  Simd::Panel sums[kRows][kPanels] = {};
  Format::template accumulate<Simd, kRows, kPanels, kPrefetch>(x, 0, args.k, w, args.k, sums);
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) finish_panel(sums[r][p], args, r, panel + p);
  }
}

/// Panels that few rows stream at once: each is a stream of its own, which memory likes, and chains enough are under
/// way to hide the latency of the arithmetic.
template <class Format, int kRows, int kPanels, bool kPrefetch>
inline void stream_panels(const MatmulArgs& args) {
  int64_t panel = args.first;
  for (; panel + kPanels <= args.last; panel += kPanels) few_rows<Format, kRows, kPanels, kPrefetch>(args, panel);
  for (; panel < args.last; ++panel) few_rows<Format, kRows, 1, true>(args, panel);
}

/// Sums of rows that wait between two blocks of k.
inline constexpr int kRowBlock = 96;
struct Waiting {
  Simd::Panel rows[kRowBlock];
};

/// Where a tile of many rows works.
struct Place {
  int64_t panel;
  int64_t row;    // of the first in `Waiting`
  int64_t first;  // of k
  int64_t depth;
};

/// kRows rows from `row` times one block of one panel.
template <class Format, int kRows, bool kPrefetch>
inline void block_tile(const MatmulArgs& args, const Place& place, const WeightBlock& block, int64_t row,
                       Waiting& waiting) {
  const std::byte* x[kRows];
  const WeightBlock w[1] = {block};
  Simd::Panel sums[kRows][1] = {};
  for (int r = 0; r < kRows; ++r) {
    x[r] = args.x + (place.row + row + r) * args.x_stride;
    if (place.first > 0) sums[r][0] = waiting.rows[row + r];
  }
  Format::template accumulate<Simd, kRows, 1, kPrefetch>(x, place.first, place.depth, w, args.k, sums);
  for (int r = 0; r < kRows; ++r) {
    if (place.first + place.depth < args.k) {
      waiting.rows[row + r] = sums[r][0];
    } else {
      finish_panel(sums[r][0], args, place.row + row + r, place.panel);
    }
  }
}

template <class Format, int kRows>
inline void block_rows(const MatmulArgs& args, const Place& place, const WeightBlock& block, int64_t row, int64_t count,
                       Waiting& waiting) {
  if constexpr (kRows > 1) {
    if (count < kRows) return block_rows<Format, kRows - 1>(args, place, block, row, count, waiting);
  }
  if (place.row == 0 && row == 0) return block_tile<Format, kRows, true>(args, place, block, row, waiting);
  block_tile<Format, kRows, false>(args, place, block, row, waiting);
}

/// At most kRowBlock rows times one panel, block by block.
template <class Format, class BlockFormat>
inline void row_block(const MatmulArgs& args, Place place, int64_t rows) {
  constexpr int kTile = Format::kIsPlain ? Simd::kTileRows : Simd::kByteTileRows;
  Waiting waiting;
  BlockScratch<Format, BlockFormat> scratch;
  const int64_t tiles = ceil_div(rows, kTile);
  for (; place.first < args.k; place.first += Format::kBlock) {
    place.depth = args.k - place.first < Format::kBlock ? args.k - place.first : Format::kBlock;
    const WeightBlock block = scratch.expand(block_of<Format>(args, place.panel, place.first), place.depth);
    for (int64_t tile = 0; tile < tiles; ++tile) {  // of equal heights, as far as possible
      const int64_t row = rows * tile / tiles;
      block_rows<BlockFormat, kTile>(args, place, block, row, rows * (tile + 1) / tiles - row, waiting);
    }
  }
}

template <class Format, class BlockFormat>
inline void many_rows(const MatmulArgs& args) {
  for (int64_t panel = args.first; panel < args.last; ++panel) {
    for (int64_t row = 0; row < args.rows; row += kRowBlock) {
      const int64_t rows = args.rows - row < kRowBlock ? args.rows - row : kRowBlock;
      row_block<Format, BlockFormat>(args, {panel, row, 0, 0}, rows);
    }
  }
}

template <class Format>
void matmul(const MatmulArgs& args) noexcept {
  constexpr int kTile = Format::kIsPlain ? Simd::kTileRows : Simd::kByteTileRows;
  if (args.rows == 1) return stream_panels<Format, 1, Simd::kStreamPanels, false>(args);
  if (args.rows == 2) return stream_panels<Format, 2, 2, true>(args);
  if (args.rows <= 2 * kTile) return many_rows<Format, Format>(args);
  many_rows<Format, ExpandedFormat<Format>>(args);
}

}  // namespace
}  // namespace pygpt
