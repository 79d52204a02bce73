#pragma once

#include "formats/plain.h"

namespace pygpt {

/// IEEE binary32, panel [k][16].
struct F32 : PlainFormat<F32, float, 1> {
  static constexpr const char* kName = "f32";

  [[gnu::always_inline]] static float encode(float weight) { return weight; }

  template <class Simd>
  [[gnu::always_inline]] static void load(const float* from, typename Simd::Panel (&to)[1]) {
    for (int v = 0; v < Simd::kPanelVecs; ++v) to[0].v[v] = Simd::load(from + v * Simd::kLanes);
  }
};

}  // namespace pygpt
