#pragma once
// y = x w^T. A few rows stream the weights past; many rows share a block of a panel in the first cache.
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

/// Weights of a panel from k = first on.
template <class Format>
inline const std::byte* block_of(const MatmulArgs& args, int64_t panel, int64_t first) {
  return args.w + panel * Format::panel_bytes(args.k) + Format::bytes_before(first);
}

/// kRows rows times kPanels whole panels, `stride` apart.
template <class Format, int kRows, int kPanels>
inline void whole_panels(const MatmulArgs& args, int64_t panel, int64_t stride) {
  const std::byte* x[kRows];
  const std::byte* w[kPanels];
  for (int r = 0; r < kRows; ++r) x[r] = args.x + r * args.x_stride;
  for (int p = 0; p < kPanels; ++p) w[p] = block_of<Format>(args, panel + p * stride, 0);
  Simd::Panel sums[kRows][kPanels] = {};
  Format::template accumulate<Simd, kRows, kPanels>(x, 0, args.k, w, args.k, Ahead{}, sums);
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) finish_panel(sums[r][p], args, r, panel + p * stride);
  }
}

/// The panels from `first` on in kPanels streams side by side, each through its own contiguous part of the weights.
/// More streams are more sums under way, which hide the latency of the arithmetic, but memory reads fewer streams
/// faster.
template <class Format, int kRows, int kPanels>
inline void stream_panels(const MatmulArgs& args, int64_t first) {
  const int64_t length = (args.last - first) / kPanels;
  for (int64_t i = 0; i < length; ++i) whole_panels<Format, kRows, kPanels>(args, first + i, length);
  if constexpr (kPanels > 1) stream_panels<Format, kRows, kPanels / 2>(args, first + length * kPanels);
}

/// A tile of rows, at most kRows: so many sums that one stream is enough.
template <class Format, int kRows>
inline void stream_tile(const MatmulArgs& args) {
  if constexpr (kRows > 3) {
    if (args.rows < kRows) return stream_tile<Format, kRows - 1>(args);
  }
  stream_panels<Format, kRows, 1>(args, args.first);
}

/// Sums of rows that wait between two blocks of k.
inline constexpr int kRowBlock = 96;
using Waiting = Simd::Panel[kRowBlock];

/// Where a tile of many rows works.
struct Place {
  int64_t panel;
  int64_t row;    // of the first in `Waiting`
  int64_t first;  // of k
  int64_t depth;
};

/// kRows rows from `row` times one block of one panel.
template <class Format, int kRows>
inline void block_tile(const MatmulArgs& args, const Place& place, const std::byte* block, int64_t row,
                       const Ahead& ahead, Simd::Panel* waiting) {
  const std::byte* x[kRows];
  const std::byte* const w[1] = {block};
  Simd::Panel sums[kRows][1] = {};
  for (int r = 0; r < kRows; ++r) {
    x[r] = args.x + (place.row + row + r) * args.x_stride;
    if (place.first > 0) sums[r][0] = waiting[row + r];
  }
  Format::template accumulate<Simd, kRows, 1>(x, place.first, place.depth, w, args.k, ahead, sums);
  for (int r = 0; r < kRows; ++r) {
    if (place.first + place.depth < args.k) {
      waiting[row + r] = sums[r][0];
    } else {
      finish_panel(sums[r][0], args, place.row + row + r, place.panel);
    }
  }
}

template <class Format, int kRows>
inline void block_rows(const MatmulArgs& args, const Place& place, const std::byte* block, int64_t row, int64_t count,
                       const Ahead& ahead, Simd::Panel* waiting) {
  if constexpr (kRows > 1) {
    if (count < kRows) return block_rows<Format, kRows - 1>(args, place, block, row, count, ahead, waiting);
  }
  block_tile<Format, kRows>(args, place, block, row, ahead, waiting);
}

/// At most kRowBlock rows times one panel, block by block.
template <class Format, class BlockFormat>
inline void row_block(const MatmulArgs& args, Place place, int64_t rows) {
  constexpr int kTile = Format::kIsPlain ? Simd::kTileRows : Simd::kByteTileRows;
  Waiting waiting;
  BlockScratch<Format, BlockFormat> scratch;
  const int64_t tiles = ceil_div(rows, kTile);
  for (; place.first < args.k; place.first += Format::kBlock) {
    const int64_t end = place.first + Format::kBlock;
    place.depth = end < args.k ? Format::kBlock : args.k - place.first;
    const std::byte* block = scratch.expand(block_of<Format>(args, place.panel, place.first), place.depth);
    // Only the first rows find the weights far away, and only as they lie in memory can they be fetched early.
    const bool far = place.row == 0 && BlockScratch<Format, BlockFormat>::kInPlace;
    const std::byte* next =
        end < args.k ? block_of<Format>(args, place.panel, end) : block_of<Format>(args, place.panel + 1, 0);
    for (int64_t tile = 0; tile < tiles; ++tile) {  // of equal heights, as far as possible
      const int64_t row = rows * tile / tiles;
      block_rows<BlockFormat, kTile>(args, place, block, row, rows * (tile + 1) / tiles - row,
                                     Ahead{far ? next : nullptr, tile, tiles}, waiting);
    }
  }
}

template <class Format, class BlockFormat>
inline void many_rows(const MatmulArgs& args, int64_t first) {
  for (int64_t panel = first; panel < args.last; ++panel) {
    for (int64_t row = 0; row < args.rows; row += kRowBlock) {
      const int64_t rows = args.rows - row < kRowBlock ? args.rows - row : kRowBlock;
      row_block<Format, BlockFormat>(args, {panel, row, 0, 0}, rows);
    }
  }
}

template <class Format>
void matmul(const MatmulArgs& args) noexcept {
  using BlockFormat = ExpandedFormat<Format>;
  constexpr int kTile = Format::kIsPlain ? Simd::kTileRows : Simd::kByteTileRows;
  constexpr int kStreams = Format::kIsPlain ? Simd::kStreamPanels : Simd::kByteStreamPanels;
  // Rows that read the weights as they lie without help. More sums leave no time to wait for memory, and where weights
  // must be converted even earlier: blocks are fetched ahead.
  constexpr int kStreamRows = BlockScratch<Format, BlockFormat>::kInPlace || kTile < 4 ? kTile : 4;
  if (args.rows == 1) {
    return args.far ? stream_panels<Format, 1, kStreams / 2>(args, args.first)
                    : stream_panels<Format, 1, kStreams>(args, args.first);
  }
  if (args.rows == 2) return stream_panels<Format, 2, kStreams / 2>(args, args.first);
  if (args.rows <= kStreamRows) return stream_tile<Format, kStreamRows>(args);
  if (args.rows <= 2 * kTile) return many_rows<Format, Format>(args, args.first);
  many_rows<Format, BlockFormat>(args, args.first);
}

}  // namespace
}  // namespace pygpt
