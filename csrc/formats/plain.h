#pragma once
// What f32, f16 and bf16 share: an element holds one weight; sums are f32, one chain of additions for each output.

#include <cstddef>

#include "base/half.h"
#include "formats/panel.h"

namespace pygpt {

/// A format whose panel is [k / kStep][16][kStep] elements; k is filled up to a multiple of kStep with zeros.
/// The format itself adds its name, encode() and load().
template <class Format, class ElementType, int kStepValue>
struct PlainFormat {
  using Element = ElementType;
  static constexpr bool kIsPlain = true;
  static constexpr int kStep = kStepValue;
  static constexpr int64_t kBlock = 256;  // k of a panel that many rows share: 16 KiB of f32, half of an L1 cache

  /// Bytes of a panel of depth k.
  [[gnu::always_inline]] static constexpr int64_t panel_bytes(int64_t k) {
    return round_up(k, kStep) * kPanel * static_cast<int64_t>(sizeof(Element));
  }

  /// Where weight (column, k) of a panel lies, in elements.
  [[gnu::always_inline]] static constexpr int64_t index(int column, int64_t k) {
    return k / kStep * (kPanel * kStep) + column * kStep + k % kStep;
  }

  /// Weight (column, k) of a panel of depth `cols`.
  static float weight(const std::byte* panel, int64_t, int column, int64_t k) {
    return to_float(reinterpret_cast<const Element*>(panel)[index(column, k)]);
  }

  /// weights [rows, cols], at most 16 rows, into a zeroed panel.
  static void pack_panel(const float* weights, int64_t rows, int64_t cols, std::byte* panel) {
    auto* elements = reinterpret_cast<Element*>(panel);
    for (int64_t first = 0; first < cols; first += kTurned) {
      const int64_t count = cols - first < kTurned ? cols - first : kTurned;
      for (int64_t row = 0; row < rows; ++row) {
        Element encoded[kTurned];  // apart from the scattered stores, so that encoding is vectors
        for (int64_t i = 0; i < count; ++i) encoded[i] = Format::encode(weights[row * cols + first + i]);
        for (int64_t i = 0; i < count; ++i) elements[index(static_cast<int>(row), first + i)] = encoded[i];
      }
    }
  }

  /// A panel back into weights [rows, cols], at most 16 rows.
  static void unpack_panel(const std::byte* panel, int64_t rows, int64_t cols, float* weights) {
    const auto* elements = reinterpret_cast<const Element*>(panel);
    for (int64_t first = 0; first < cols; first += kTurned) {
      const int64_t count = cols - first < kTurned ? cols - first : kTurned;
      for (int64_t row = 0; row < rows; ++row) {
        Element encoded[kTurned];
        for (int64_t i = 0; i < count; ++i) encoded[i] = elements[index(static_cast<int>(row), first + i)];
        for (int64_t i = 0; i < count; ++i) weights[row * cols + first + i] = to_float(encoded[i]);
      }
    }
  }

  /// The bytes of a panel of depth k that come before weight k.
  [[gnu::always_inline]] static constexpr int64_t bytes_before(int64_t k) { return panel_bytes(k); }

  /// The inner product: sums[r][p] += x[r][k] * w[p][k] for k in [first, first + depth) in ascending order, one fused
  /// step each. x: rows of floats, filled up with zeros to a multiple of kStep. w: where weight `first` of each panel
  /// lies.
  template <class Simd, int kRows, int kPanels>
  [[gnu::always_inline]] static void accumulate(const std::byte* const (&x)[kRows], int64_t first, int64_t depth,
                                                const std::byte* const (&w)[kPanels], int64_t, const Ahead& ahead,
                                                typename Simd::Panel (&sums)[kRows][kPanels]) {
    constexpr int kUnroll = 4;
    constexpr int kChunk = 16;
    const float* rows[kRows];
    const Element* panels[kPanels];
    for (int r = 0; r < kRows; ++r) rows[r] = reinterpret_cast<const float*>(x[r]) + first;
    for (int p = 0; p < kPanels; ++p) panels[p] = reinterpret_cast<const Element*>(w[p]);
    int64_t k = 0;
    for (; k + kChunk <= depth; k += kChunk) {
      ahead.template fetch<Simd, kChunk * kPanel * sizeof(Element)>(k * kPanel * static_cast<int64_t>(sizeof(Element)));
      for (int part = 0; part < kChunk; part += kUnroll) {
        for (int u = 0; u < kUnroll; u += kStep) step<Simd, kRows, kPanels>(rows, panels, k + part + u, sums);
      }
    }
    for (; k < depth; k += kStep) step<Simd, kRows, kPanels>(rows, panels, k, sums);
  }

 private:
  template <class Simd, int kRows, int kPanels>
  [[gnu::always_inline]] static void step(const float* const (&x)[kRows], const Element* const (&w)[kPanels], int64_t k,
                                          typename Simd::Panel (&sums)[kRows][kPanels]) {
    for (int p = 0; p < kPanels; ++p) {
      typename Simd::Panel weights[kStep];
      Format::template load<Simd>(w[p] + k * kPanel, weights);
      for (int step = 0; step < kStep; ++step) {
        for (int r = 0; r < kRows; ++r) {
          const typename Simd::Vec factor = Simd::broadcast(x[r][k + step]);
          for (int v = 0; v < Simd::kPanelVecs; ++v)
            sums[r][p].v[v] = Simd::fma(factor, weights[step].v[v], sums[r][p].v[v]);
        }
      }
    }
  }
};

}  // namespace pygpt
