#pragma once

#include "formats/quantised.h"

namespace pygpt {

/// What a four-bit index stands for, with the zero point added. Not a member: a kernel must not export it.
alignas(16) constexpr uint8_t kQ4Levels[16] = {0, 15, 26, 34, 41, 48, 54, 60, 65, 70, 76, 82, 88, 95, 104, 116};

/// The nearest level by halves: place h + kQ4Range is for what lies above (h - 1) / 2, up to h / 2.
constexpr int kQ4Range = 128;
struct Q4Nearest {
  uint8_t level[2 * kQ4Range + 1];
};
constexpr Q4Nearest kQ4Nearest = [] {
  Q4Nearest nearest{};
  for (int half = -kQ4Range; half <= kQ4Range; ++half) {
    int index = 0;
    for (int i = 0; i < 15; ++i) index += half > kQ4Levels[i] + kQ4Levels[i + 1] - 2 * kZeroPoint ? 1 : 0;
    nearest.level[half + kQ4Range] = kQ4Levels[index];
  }
  return nearest;
}();

/// Four bits a weight, 4.25 with its share of the scale. The 16 levels are not evenly spaced: they are where the
/// weights of a group are, for they are close to normally distributed (Lloyd's algorithm, 1982, on groups of 64 normal
/// numbers divided by their best scale; tools/quantisation_study.py). A level is a byte of q8, so the arithmetic is
/// q8's. Panel [k/8][16][4]: the low halves of the bytes hold k 0..3, the high ones k 4..7.
struct Q4 : QuantisedFormat<Q4> {
  static constexpr const char* kName = "q4";
  static constexpr int kUnit = 8;
  static constexpr int kCandidates = 14;

  /// Scales to try, of both signs: the levels reach further on one side.
  static float candidate(int i) {
    const float size = (0.82f + 0.06f * static_cast<float>(i / 2)) / 64.0f;
    return i % 2 == 0 ? size : -size;
  }

  /// The stored level whose weight is nearest to `scaled`, a weight divided by its scale.
  static int nearest(float scaled) {
    // Between two levels lies a multiple of a half, so the next multiple tells on which side `scaled` is.
    float twice = 2.0f * scaled;
    twice = twice < kQ4Range ? twice : kQ4Range;
    twice = twice > -kQ4Range ? twice : -kQ4Range;
    const int truncated = static_cast<int>(twice);
    const int next = truncated + (twice > static_cast<float>(truncated) ? 1 : 0);
    return kQ4Nearest.level[next + kQ4Range];
  }

  static void put(std::byte* panel, int column, int64_t k, int level) {
    int index = 0;
    while (kQ4Levels[index] != level) ++index;
    panel[byte_of(column, k)] |= std::byte(index << shift_of(k));
  }

  static int get(const std::byte* panel, int column, int64_t k) {
    return kQ4Levels[(static_cast<int>(panel[byte_of(column, k)]) >> shift_of(k)) & 15];
  }

  /// Weights of one vector's columns for the two times 4 k of a unit; v: which vector of the panel.
  template <class Simd>
  [[gnu::always_inline]] static void load(const std::byte* unit, int v, typename Simd::Bytes (&quads)[2]) {
    Simd::load_nibbles(unit + v * Simd::kLanes * 4, kQ4Levels, quads[0], quads[1]);
  }

 private:
  static int64_t byte_of(int column, int64_t k) { return k / 8 * (kPanel * 4) + column * 4 + k % 4; }
  static int shift_of(int64_t k) { return k % 8 < 4 ? 0 : 4; }
};

}  // namespace pygpt
