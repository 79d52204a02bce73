#pragma once
// y = x w^T: a block a panel of 16 columns and a tile of rows. Eight warps share k, chunk by chunk in turn; a warp adds
// up its own chunks in ascending order, and warps are added in ascending order. So the order of additions follows from
// k and the format alone: a row's result is the same in any batch and in any chunk of a prompt.

#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/weights.cuh"

namespace pygpt::cuda {
namespace {

inline constexpr int kPanelWarps = 8;
inline constexpr int kPanelThreads = kPanelWarps * kWarp;
inline constexpr int kGateParts = 2;  // panels of a block where gate and up take turns

template <class Format, int kRows>
struct MatmulShared {
  union {  // first the one, then the other
    typename WarpReader<Format>::template Input<kRows> x;
    float sums[kGateParts][kPanelWarps][kRows][kPanel];
  };
  RowNorm norms[kRows];
};

/// The row of x that is row r of a block's tile, or null behind the last.
PYGPT_DEVICE const float* tile_row(const MatmulArgs& args, int first, int r) {
  const int row = first + r;
  if (row >= args.rows) return nullptr;
  return args.x.data + (args.places != nullptr ? args.places[row] : row) * args.x.stride;
}

PYGPT_DEVICE float input(const MatmulArgs& args, const float* row, const RowNorm& norm, int64_t k) {
  if (row == nullptr || k >= args.k) return 0.0f;
  return args.norm.gain != nullptr ? normed(row[k], norm, args.norm, k) : row[k];
}

/// x[first_row.., first..] to shared memory, zeros behind the end.
template <int kRows>
PYGPT_DEVICE void load_input(const MatmulArgs& args, int first_row, int64_t first, const RowNorm* norms,
                             FloatInput<kRows>& to) {
  constexpr int64_t kDepth = FloatInput<kRows>::kDepth;
  const int64_t depth = args.k - first < kDepth ? round_up(args.k - first, kFragmentDepth) : kDepth;
  for (int r = 0; r < kRows; ++r) {
    const float* row = tile_row(args, first_row, r);
    for (int64_t i = thread(); i < depth; i += threads()) to.values[r][i] = input(args, row, norms[r], first + i);
  }
}

/// The same as bytes, a warp a group.
template <int kRows>
PYGPT_DEVICE void load_input(const MatmulArgs& args, int first_row, int64_t first, const RowNorm* norms,
                             ByteInput<kRows>& to) {
  constexpr int64_t kDepth = ByteInput<kRows>::kDepth;
  const int64_t depth = args.k - first < kDepth ? args.k - first : kDepth;
  const int groups = static_cast<int>(ceil_div(depth, kGroup));
  for (int i = warp(); i < kRows * groups; i += threads() / kWarp) {
    const int r = i / groups;
    const int64_t at = i % groups * kGroup + lane();
    const float* row = tile_row(args, first_row, r);
    const float a = input(args, row, norms[r], first + at);
    const float b = input(args, row, norms[r], first + at + kWarp);
    const int size_a = static_cast<int>(float_bits(a) & 0x7fffffffu);  // as integers, so that a NaN is not lost
    const int size_b = static_cast<int>(float_bits(b) & 0x7fffffffu);
    const int largest = warp_max(size_a > size_b ? size_a : size_b);
    const ByteScale scale = byte_scale(bits_float(static_cast<uint32_t>(largest)));
    to.bytes[r][at] = to_byte(a, scale.inverse);
    to.bytes[r][at + kWarp] = to_byte(b, scale.inverse);
    if (lane() == 0) to.scales[r][i % groups] = scale.scale;
  }
}

/// The sum of one column: its warps' shares in ascending order, and the bias.
template <int kRows>
PYGPT_DEVICE float total(const float (&sums)[kPanelWarps][kRows][kPanel], int r, int column, const float* bias) {
  float sum = sums[0][r][column];
  for (int w = 1; w < kPanelWarps; ++w) sum += sums[w][r][column];
  return bias != nullptr ? sum + bias[column] : sum;
}

template <int kRows>
PYGPT_DEVICE float finished(const MatmulArgs& args, const float (&sums)[kGateParts][kPanelWarps][kRows][kPanel], int r,
                            int column, float before) {
  const bool gate = args.after == After::gate;
  const float* bias = args.bias != nullptr ? args.bias + block_x() * kPanel * (gate ? kGateParts : 1) : nullptr;
  const float value = total<kRows>(sums[0], r, column, bias);
  switch (args.after) {
    case After::store: return args.cap != 0 ? args.cap * tanhf(value / args.cap) : value;
    case After::add: return before + value;
    case After::activate: return activate(args.activation, value);
    case After::gate: {
      const float up = total<kRows>(sums[1], r, column, bias != nullptr ? bias + kPanel : nullptr);
      return activate(args.activation, value) * up;
    }
  }
  return value;
}

/// grid: panels of y x tiles of rows. block: eight warps, twice as many for a gate and its up. Reads the panel once.
template <class Format, int kRows>
PYGPT_KERNEL(kGateParts* kPanelThreads)
matmul_kernel(MatmulArgs args) {
  using Reader = WarpReader<Format>;
  constexpr int64_t kDepth = Reader::template Input<kRows>::kDepth;
  constexpr int64_t kStride = kPanelWarps * Reader::kChunk;
  static_assert(kDepth % kStride == 0, "a warp's chunks are the same whatever the depth");
  auto& shared = *reinterpret_cast<MatmulShared<Format, kRows>*>(shared_memory());
  const int first_row = block_y() * kRows;
  if (args.norm.gain != nullptr) {
    for (int r = warp(); r < kRows; r += threads() / kWarp) {
      const float* row = tile_row(args, first_row, r);
      const RowNorm moments = row != nullptr ? row_norm(row, args.k, args.norm) : RowNorm{0, 0};
      if (lane() == 0) shared.norms[r] = moments;
    }
  }
  const int part = warp() / kPanelWarps;
  const int64_t parts = threads() / kPanelThreads;
  const std::byte* panel = args.w + (block_x() * parts + part) * Reader::panel_bytes(args.k);
  typename Reader::template Sums<kRows> sums{};
  for (int64_t first = 0; first < args.k; first += kDepth) {
    const int64_t depth = args.k - first < kDepth ? args.k - first : kDepth;
    sync_block();
    load_input<kRows>(args, first_row, first, shared.norms, shared.x);
    sync_block();
#pragma unroll(kRows > 8 ? 1 : 4)
    for (int64_t at = warp() % kPanelWarps * Reader::kChunk; at < depth; at += kStride)
      Reader::template multiply<kRows>(panel, first, depth, at, shared.x, sums);
  }
  sync_block();
  Reader::template put_sums<kRows>(sums, shared.sums[part][warp() % kPanelWarps]);
  sync_block();
  for (int i = thread(); i < kRows * kPanel; i += threads()) {
    const int64_t column = block_x() * kPanel + i % kPanel;
    const int row = first_row + i / kPanel;
    if (row >= args.rows || column >= args.n) continue;
    float* y = args.y.data + row * args.y.stride + column;
    *y = finished<kRows>(args, shared.sums, i / kPanel, i % kPanel, args.after == After::add ? *y : 0.0f);
  }
}

template <class Format, int kRows>
int matmul_tiles(const MatmulArgs& args, void* stream) {
  const int parts = args.after == After::gate ? kGateParts : 1;
  return launch(&matmul_kernel<Format, kRows>, static_cast<int>(panel_count(args.n)),
                static_cast<int>(ceil_div(args.rows, kRows)), parts * kPanelThreads,
                static_cast<int64_t>(sizeof(MatmulShared<Format, kRows>)), stream, args);
}

/// The smallest tile that holds all rows, or the largest.
template <class Format>
int matmul(const MatmulArgs& args, void* stream) {
  if constexpr (WarpReader<Format>::kTensorCores) {
    if (args.rows <= 8) return matmul_tiles<Format, 8>(args, stream);
    if (args.rows <= 16) return matmul_tiles<Format, 16>(args, stream);
    return matmul_tiles<Format, 32>(args, stream);
  } else {
    if (args.rows == 1) return matmul_tiles<Format, 1>(args, stream);
    if (args.rows == 2) return matmul_tiles<Format, 2>(args, stream);
    if (args.rows <= 4) return matmul_tiles<Format, 4>(args, stream);
    return matmul_tiles<Format, 8>(args, stream);
  }
}

}  // namespace
}  // namespace pygpt::cuda
