#pragma once
// How a warp multiplies a panel of weights: 512 bytes at a time, 16 a lane.
//
// For each format: kChunk, the k that a warp reads at once; Input, how rows of x lie in shared memory; Sums, what a
// lane adds up; multiply, sums += x . w over a chunk; put_sums, the warp's sums of all k as [rows][16].

#include "formats/formats.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/fragments.h"
#include "kernels/cuda/numbers.cuh"

namespace pygpt::cuda {
namespace {

/// Rows of x as floats, so many k of each at a time. The rows begin at other banks of the shared memory.
template <int kRows>
struct FloatInput {
  static constexpr int kDepth = 8192 / (kRows > 8 ? kRows : 8);
  float values[kRows][kDepth + 4];
};

/// Rows of x as bytes in groups of 64, each with its scale (formats/byte_row.h).
template <int kRows>
struct ByteInput {
  static constexpr int kDepth = 1024;
  int8_t bytes[kRows][kDepth];
  float scales[kRows][kDepth / kGroup];
};

/// Adds up the lanes that have other k of the same columns, in a tree. Each step halves the columns that a lane still
/// has; in the end it has the sum of one, which is in values[0].
template <int kColumns, int kLowest>
PYGPT_DEVICE float add_lanes(float (&values)[kColumns]) {
  int bit = kWarp / 2;
  for (int half = kColumns / 2; half > 0; half /= 2, bit /= 2) {
    const bool upper = (lane() & bit) != 0;
    for (int c = 0; c < half; ++c) {
      const float sent = upper ? values[c] : values[c + half];
      const float kept = upper ? values[c + half] : values[c];
      values[c] = kept + exchange(sent, bit);
    }
  }
  for (; bit >= kLowest; bit /= 2) values[0] += exchange(values[0], bit);
  return values[0];
}

template <class Format>
struct WarpReader;

/// A lane has four columns and every eighth k; what it reads of x is the same for the lanes beside it.
template <class Format>
struct ColumnReader {
  static constexpr bool kTensorCores = false;
  static constexpr int kColumns = 4;
  template <int kRows>
  struct Sums {
    float of[kRows][kColumns];
  };

  static constexpr int64_t panel_bytes(int64_t k) { return Format::panel_bytes(k); }

  template <int kRows>
  PYGPT_DEVICE static void put_sums(Sums<kRows>& sums, float (&to)[kRows][kPanel]) {
    constexpr int kLowest = 4;  // the bits of a lane's number from here on tell which k are its own
    const int column = lane() % kLowest * kColumns + lane() / 16 * 2 + lane() / 8 % 2;
    for (int r = 0; r < kRows; ++r) {
      const float sum = add_lanes<kColumns, kLowest>(sums.of[r]);
      if ((lane() & kLowest) == 0) to[r][column] = sum;
    }
  }
};

template <>
struct WarpReader<F32> : ColumnReader<F32> {
  static constexpr int kChunk = 8;
  template <int kRows>
  using Input = FloatInput<kRows>;

  template <int kRows>
  PYGPT_DEVICE static void multiply(const std::byte* panel, int64_t first, int64_t depth, int64_t at,
                                    const Input<kRows>& x, Sums<kRows>& sums) {
    const int64_t k = at + lane() / 4;
    if (k >= depth) return;
    const Words w = load_words(panel + ((first + k) * kPanel + lane() % 4 * 4) * static_cast<int64_t>(sizeof(float)));
    for (int c = 0; c < kColumns; ++c) {
      for (int r = 0; r < kRows; ++r) sums.of[r][c] = fmaf(x.values[r][k], bits_float(w.word[c]), sums.of[r][c]);
    }
  }
};

/// What f16 and bf16 share: tensor cores multiply tiles of 16 columns, 8 rows and 8 k. A 16-bit weight is a tf32 as it
/// is; a number of x is the sum of two, of which the larger is multiplied last. Without tensor cores, a lane multiplies
/// the same weights by itself.
template <class Format>
struct FragmentReader {
  static constexpr bool kTensorCores = true;
  static constexpr int kChunk = kFragmentDepth;
  template <int kRows>
  using Input = FloatInput<kRows>;

  static constexpr int kTileRows = 8;
  template <int kRows>
  struct Sums {
    float tiles[kRows / kTileRows][4];
    float of[kRows][2];  // instead, without tensor cores: of columns g and g + 8
  };

  static constexpr int64_t panel_bytes(int64_t k) { return fragment_panel(k) * 2; }

  template <int kRows>
  PYGPT_DEVICE static void multiply(const std::byte* panel, int64_t first, int64_t, int64_t at, const Input<kRows>& x,
                                    Sums<kRows>& sums) {
    const Words w = load_words(panel + (first + at) * kPanel * 2 + lane() * static_cast<int>(sizeof(Words)));
    float weights[8];
    for (int i = 0; i < 4; ++i) WarpReader<Format>::unpack(w.word[i], weights[2 * i], weights[2 * i + 1]);
    for (int step = 0; step < 2; ++step) {
      const float (&a)[4] = *reinterpret_cast<const float (*)[4]>(weights + 4 * step);
      const int64_t k = at + step * 8 + lane() % 4;
      if (has_tiles()) {
        multiply_step<kRows>(a, k, x, sums);
      } else {
        multiply_alone<kRows>(a, k, x, sums);
      }
    }
  }

  template <int kRows>
  PYGPT_DEVICE static void put_sums(Sums<kRows>& sums, float (&to)[kRows][kPanel]) {
    const int g = lane() / 4, t = lane() % 4;
    if (has_tiles()) {
      for (int tile = 0; tile < kRows / kTileRows; ++tile) {
        for (int i = 0; i < 4; ++i) to[tile * kTileRows + 2 * t + i % 2][g + i / 2 * 8] = sums.tiles[tile][i];
      }
    } else {
      for (int i = 0; i < 2 * kRows; ++i) {
        float sum = sums.of[i / 2][i % 2];
        for (int bit = 2; bit > 0; bit /= 2) sum += exchange(sum, bit);
        if (t == 0) to[i / 2][g + i % 2 * 8] = sum;
      }
    }
  }

 private:
  template <int kRows>
  PYGPT_DEVICE static void multiply_step(const float (&a)[4], int64_t k, const Input<kRows>& x, Sums<kRows>& sums) {
    for (int tile = 0; tile < kRows / kTileRows; ++tile) {
      const float* row = x.values[tile * kTileRows + lane() / 4];
      const float large0 = round_tf32(row[k]), large1 = round_tf32(row[k + 4]);
      multiply_tiles(a, round_tf32(row[k] - large0), round_tf32(row[k + 4] - large1), sums.tiles[tile]);
      multiply_tiles(a, large0, large1, sums.tiles[tile]);
    }
  }

  template <int kRows>
  PYGPT_DEVICE static void multiply_alone(const float (&a)[4], int64_t k, const Input<kRows>& x, Sums<kRows>& sums) {
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < 4; ++i) sums.of[r][i % 2] = fmaf(x.values[r][k + i / 2 * 4], a[i], sums.of[r][i % 2]);
    }
  }
};

template <>
struct WarpReader<F16> : FragmentReader<F16> {
  PYGPT_DEVICE static void unpack(uint32_t word, float& low, float& high) {
    low = half_to_float(static_cast<uint16_t>(word));
    high = half_to_float(static_cast<uint16_t>(word >> 16));
  }
};

template <>
struct WarpReader<BF16> : FragmentReader<BF16> {
  PYGPT_DEVICE static void unpack(uint32_t word, float& low, float& high) {
    low = bits_float(word << 16);
    high = bits_float(word & 0xffff0000u);
  }
};

/// What q8 and q4 share: in a group, a lane's products are summed exactly; each group's sum is scaled.
template <class Format>
struct GroupReader : ColumnReader<Format> {
  static constexpr int kChunk = kGroup;
  using ColumnReader<Format>::kColumns;
  template <int kRows>
  using Sums = typename ColumnReader<Format>::template Sums<kRows>;
  template <int kRows>
  using Input = ByteInput<kRows>;

  template <int kRows>
  PYGPT_DEVICE static void multiply(const std::byte* panel, int64_t first, int64_t, int64_t at, const Input<kRows>& x,
                                    Sums<kRows>& sums) {
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
        sums.of[r][c] = fmaf(static_cast<float>(products[r][c] - starts[r]), scale, sums.of[r][c]);
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
