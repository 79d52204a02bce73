#pragma once

#include "formats/quantised.h"

namespace pygpt {

/// A byte a weight, 8.25 bits with its share of the scale: panel [k/4][16][4], the order that byte dot products of x86
/// and Arm want.
struct Q8 : QuantisedFormat<Q8> {
  static constexpr const char* kName = "q8";
  static constexpr int kUnit = 4;
  static constexpr int kCandidates = 6;

  /// Scales to try, as a share of the group's extreme value.
  static float candidate(int i) { return (1.0f - 0.02f * static_cast<float>(i)) / 64.0f; }

  /// The stored level (0..128) whose weight is nearest to `scaled`, a weight divided by its scale.
  static int nearest(float scaled) {
    const float clamped = scaled < -64.0f ? -64.0f : scaled > 64.0f ? 64.0f : scaled;
    return static_cast<int>(clamped + 64.5f);  // truncation of what is positive
  }

  static void put(std::byte* panel, int column, int64_t k, int level) { panel[index(column, k)] = std::byte(level); }
  static int get(const std::byte* panel, int column, int64_t k) { return static_cast<int>(panel[index(column, k)]); }

  /// Weights of one vector's columns for the 4 k of a unit; v: which vector of the panel.
  template <class Simd>
  [[gnu::always_inline]] static void load(const std::byte* unit, int v, typename Simd::Bytes (&quads)[1]) {
    quads[0] = Simd::load_bytes(unit + v * Simd::kLanes * 4);
  }

 private:
  static int64_t index(int column, int64_t k) { return k / 4 * (kPanel * 4) + column * 4 + k % 4; }
};

}  // namespace pygpt
