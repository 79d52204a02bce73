#pragma once
// What f32, f16 and bf16 share: an element holds one weight; sums are f32, one chain of additions for each output.

#include "base/half.h"
#include "formats/panel.h"

namespace pygpt {

/// A format whose panel is [k / kStep][16][kStep] elements; k is filled up to a multiple of kStep with zeros.
/// The format itself adds its name, encode() and load().
template <class Format, class ElementType, int kStepValue>
struct PlainFormat {
  using Element = ElementType;
  static constexpr int kStep = kStepValue;

  /// Elements of a panel of depth k.
  [[gnu::always_inline]] static constexpr int64_t panel_elements(int64_t k) { return round_up(k, kStep) * kPanel; }

  /// Where weight (column, k) of a panel lies, in elements.
  [[gnu::always_inline]] static constexpr int64_t index(int column, int64_t k) {
    return k / kStep * (kPanel * kStep) + column * kStep + k % kStep;
  }

  /// The inner product: sums[r][p] += x[r][k] * w[p][k] for k in [0, depth) in ascending order, one fused step each.
  /// x: rows of `depth` floats, filled up with zeros to a multiple of kStep. w: panels.
  template <class Simd, int kRows, int kPanels>
  [[gnu::always_inline]] static void accumulate(const float* const (&x)[kRows], const Element* const (&w)[kPanels],
                                                int64_t depth, typename Simd::Panel (&sums)[kRows][kPanels]) {
    for (int64_t k = 0; k < depth; k += kStep) {
      for (int p = 0; p < kPanels; ++p) {
        typename Simd::Panel weights[kStep];
        Format::template load<Simd>(w[p] + k * kPanel, weights);
        for (int step = 0; step < kStep; ++step) {
          for (int r = 0; r < kRows; ++r) {
            const typename Simd::Vec factor = Simd::broadcast(x[r][k + step]);
            for (int v = 0; v < Simd::kPanelVecs; ++v) {
              sums[r][p].v[v] = Simd::fma(factor, weights[step].v[v], sums[r][p].v[v]);
            }
          }
        }
      }
    }
  }
};

}  // namespace pygpt
