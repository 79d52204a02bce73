#pragma once

#include "formats/plain.h"

namespace pygpt {

/// IEEE binary16, panel [k][16]. Weights of f32-trained models lose eight times less here than in bf16.
struct F16 : PlainFormat<F16, Half, 1> {
  static constexpr const char* kName = "f16";

  [[gnu::always_inline]] static Half encode(float weight) { return to_half(weight); }

  template <class Simd>
  [[gnu::always_inline]] static void load(const Half* from, typename Simd::Panel (&to)[1]) {
    for (int v = 0; v < Simd::kPanelVecs; ++v) to[0].v[v] = Simd::load(from + v * Simd::kLanes);
  }
};

}  // namespace pygpt
