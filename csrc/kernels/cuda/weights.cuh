#pragma once
// How a warp reads a panel of weights: in the file's own layout, 512 bytes at a time, 16 a lane. A lane has kColumns
// columns and every so many k; what it reads of x is the same for the lanes beside it.
//
// For each format: kChunk, the k that a warp reads at once; kColumns; kLowest, the lowest bit of the lane's number that
// tells which k are its own; Input, how rows of x lie in shared memory; and multiply, sums[r][c] += x[r] . w[c].

#include "formats/formats.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/numbers.cuh"

namespace pygpt::cuda {
namespace {

/// k of each row that are in shared memory at a time.
inline constexpr int kBlockDepth = 1024;

/// Rows of x as floats.
template <int kRows>
struct FloatInput {
  float values[kRows][kBlockDepth];
};

/// Rows of x as bytes in groups of 64, each with its scale (formats/byte_row.h).
template <int kRows>
struct ByteInput {
  int8_t bytes[kRows][kBlockDepth];
  float scales[kRows][kBlockDepth / kGroup];
};

template <class Format>
struct WarpReader;

struct PlainReader {
  template <int kRows>
  using Input = FloatInput<kRows>;
};

template <>
struct WarpReader<F32> : PlainReader {
  static constexpr int kChunk = 8, kColumns = 4, kLowest = 4;

  template <int kRows>
  PYGPT_DEVICE static void multiply(const std::byte* panel, int64_t first, int64_t depth, int64_t at,
                                    const Input<kRows>& x, float (&sums)[kRows][kColumns]) {
    const int64_t k = at + lane() / 4;
    if (k >= depth) return;
    const Words w = load_words(panel + ((first + k) * kPanel + lane() % 4 * 4) * static_cast<int64_t>(sizeof(float)));
    for (int c = 0; c < kColumns; ++c) {
      for (int r = 0; r < kRows; ++r) sums[r][c] = fmaf(x.values[r][k], bits_float(w.word[c]), sums[r][c]);
    }
  }
};

template <>
struct WarpReader<F16> : PlainReader {
  static constexpr int kChunk = 16, kColumns = 8, kLowest = 2;

  template <int kRows>
  PYGPT_DEVICE static void multiply(const std::byte* panel, int64_t first, int64_t depth, int64_t at,
                                    const Input<kRows>& x, float (&sums)[kRows][kColumns]) {
    const int64_t k = at + lane() / 2;
    if (k >= depth) return;
    const Words w = load_words(panel + ((first + k) * kPanel + lane() % 2 * 8) * 2);
    for (int c = 0; c < kColumns; ++c) {
      const float weight = half_to_float(static_cast<uint16_t>(w.word[c / 2] >> c % 2 * 16));
      for (int r = 0; r < kRows; ++r) sums[r][c] = fmaf(x.values[r][k], weight, sums[r][c]);
    }
  }
};

template <>
struct WarpReader<BF16> : PlainReader {
  static constexpr int kChunk = 16, kColumns = 4, kLowest = 4;

  template <int kRows>
  PYGPT_DEVICE static void multiply(const std::byte* panel, int64_t first, int64_t depth, int64_t at,
                                    const Input<kRows>& x, float (&sums)[kRows][kColumns]) {
    const int64_t k = at + lane() / 4 * 2;  // and the one behind it: a last one without is filled up with zeros
    if (k >= depth) return;
    const Words w = load_words(panel + ((first + k) * kPanel + lane() % 4 * 8) * 2);
    for (int c = 0; c < kColumns; ++c) {
      for (int r = 0; r < kRows; ++r) {
        sums[r][c] = fmaf(x.values[r][k], bits_float(w.word[c] << 16), sums[r][c]);
        sums[r][c] = fmaf(x.values[r][k + 1], bits_float(w.word[c] & 0xffff0000u), sums[r][c]);
      }
    }
  }
};

/// What q8 and q4 share: in a group, a lane's products are summed exactly; each group's sum is scaled.
template <class Format>
struct GroupReader {
  static constexpr int kChunk = kGroup, kColumns = 4, kLowest = 4;
  template <int kRows>
  using Input = ByteInput<kRows>;

  template <int kRows>
  PYGPT_DEVICE static void multiply(const std::byte* panel, int64_t first, int64_t, int64_t at, const Input<kRows>& x,
                                    float (&sums)[kRows][kColumns]) {
    const int64_t group = (first + at) / kGroup;
    const std::byte* weights = panel + Format::weights_at(group);
    int products[kRows][kColumns] = {};
    int starts[kRows] = {};  // the zero point's share: 64 times the sum of the bytes
    for (int half = 0; half < 2; ++half) {
      const int quad = WarpReader<Format>::quad(half);  // of k
      uint32_t levels[kColumns];
      WarpReader<Format>::levels(weights, half, levels);
      for (int r = 0; r < kRows; ++r) {
        const int bytes = *reinterpret_cast<const int*>(&x.bytes[r][at + quad * 4]);
        starts[r] = dot_bytes(kZeroPoint * 0x01010101u, bytes, starts[r]);
        for (int c = 0; c < kColumns; ++c) products[r][c] = dot_bytes(levels[c], bytes, products[r][c]);
      }
    }
    const auto* scales = reinterpret_cast<const uint16_t*>(panel + Format::scales_at(group)) + lane() % 4 * 4;
    for (int c = 0; c < kColumns; ++c) {
      const float w_scale = half_to_float(scales[c]);
      for (int r = 0; r < kRows; ++r) {
        const float scale = x.scales[r][at / kGroup] * w_scale;
        sums[r][c] = fmaf(static_cast<float>(products[r][c] - starts[r]), scale, sums[r][c]);
      }
    }
  }
};

template <>
struct WarpReader<Q8> : GroupReader<Q8> {
  PYGPT_DEVICE static int quad(int half) { return half * 8 + lane() / 4; }

  PYGPT_DEVICE static void levels(const std::byte* weights, int half, uint32_t (&to)[kColumns]) {
    const Words w = load_words(weights + half * 512 + lane() * static_cast<int>(sizeof(Words)));
    for (int c = 0; c < kColumns; ++c) to[c] = w.word[c];
  }
};

/// Four of the levels, as bytes.
constexpr uint32_t q4_levels(int first) {
  return uint32_t{kQ4Levels[first]} | uint32_t{kQ4Levels[first + 1]} << 8 | uint32_t{kQ4Levels[first + 2]} << 16 |
         uint32_t{kQ4Levels[first + 3]} << 24;
}

template <>
struct WarpReader<Q4> : GroupReader<Q4> {
  PYGPT_DEVICE static int quad(int half) { return lane() / 4 * 2 + half; }

  PYGPT_DEVICE static void levels(const std::byte* weights, int half, uint32_t (&to)[kColumns]) {
    const Words w = load_words(weights + lane() * static_cast<int>(sizeof(Words)));
    for (int c = 0; c < kColumns; ++c) to[c] = expand(w.word[c] >> half * 4 & 0x0f0f0f0fu);
  }

  /// The level of each of four indices, a byte each.
  PYGPT_DEVICE static uint32_t expand(uint32_t indices) {
    const uint32_t pairs = (indices | indices >> 4) & 0x00ff00ffu;
    const uint32_t places = (pairs | pairs >> 8) & 0x7777u;
    const uint32_t low = pick_bytes(q4_levels(0), q4_levels(4), places);
    const uint32_t high = pick_bytes(q4_levels(8), q4_levels(12), places);
    const uint32_t is_high = (indices >> 3 & 0x01010101u) * 0xffu;
    return (high & is_high) | (low & ~is_high);
  }
};

}  // namespace
}  // namespace pygpt::cuda
