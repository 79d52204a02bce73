#pragma once

#include "formats/plain.h"

namespace pygpt {

/// bfloat16, panel [k/2][16][2]: a 32-bit word holds two neighbouring k of one column, so that a shift and a mask make
/// floats of them without a shuffle. It is also the order that the bf16 dot product instructions of x86 and Arm want.
struct BF16 : PlainFormat<BF16, BFloat16, 2> {
  static constexpr const char* kName = "bf16";

  [[gnu::always_inline]] static BFloat16 encode(float weight) { return to_bfloat16(weight); }

  template <class Simd>
  [[gnu::always_inline]] static void load(const BFloat16* from, typename Simd::Panel (&to)[2]) {
    for (int v = 0; v < Simd::kPanelVecs; ++v) Simd::load_pairs(from + 2 * v * Simd::kLanes, to[0].v[v], to[1].v[v]);
  }
};

}  // namespace pygpt
