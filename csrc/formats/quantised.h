#pragma once
// What q8 and q4 share: 64 weights of a column share an f16 scale; products of bytes are summed exactly in int32.
//
// A weight is scale * (u - 64) with u in 0..128, an activation scale * a with |a| <= 127 (formats/byte_row.h). So two
// products, at most 2 * 128 * 127 = 32512, fit into int16: AVX2 multiplies unsigned by signed bytes and adds pairs
// without ever saturating, at the full rate. docs/kernels.md has the loss and the speed of the alternatives.

#include <cmath>
#include <cstring>

#include "base/half.h"
#include "formats/byte_row.h"
#include "formats/panel.h"

namespace pygpt {

/// Weights up to this size can be quantised: the scale of a group is at most the largest f16.
inline constexpr float kLargestQuantised = 3e6f;

/// A panel is pairs of groups: f16 scales [2][16], then the weights of 128 k, each group Format::kUnit neighbours in k
/// after the other. So what is read together lies together, on whole cache lines. A last group without a partner
/// leaves its half of the scales zero. k is filled up to whole groups with weights of 0.
///
/// The format itself adds its name, kUnit (neighbours in k that lie together), its levels, put() and get() of one
/// weight, and load() for kernels.
template <class Format>
struct QuantisedFormat {
  static constexpr bool kIsPlain = false;
  static constexpr int64_t kBlock = 1024;  // k of a panel that many rows share: 16 KiB of bytes
  static constexpr int64_t kUnitBytes = 64;
  static constexpr int64_t kScaleBytes = 2 * kPanel * 2;

  [[gnu::always_inline]] static constexpr int64_t group_bytes() { return kGroup / Format::kUnit * kUnitBytes; }
  [[gnu::always_inline]] static constexpr int64_t pair_bytes() { return kScaleBytes + 2 * group_bytes(); }

  /// Bytes of a panel of depth k.
  [[gnu::always_inline]] static constexpr int64_t panel_bytes(int64_t k) {
    return group_count(k) / 2 * pair_bytes() + group_count(k) % 2 * (kScaleBytes + group_bytes());
  }

  /// The bytes of a panel before weight k, the first of a pair of groups.
  [[gnu::always_inline]] static constexpr int64_t bytes_before(int64_t k) { return k / (2 * kGroup) * pair_bytes(); }

  /// Where a group's weights and its scales [16] lie, from the start of a panel or of a block of it.
  [[gnu::always_inline]] static constexpr int64_t weights_at(int64_t group) {
    return group / 2 * pair_bytes() + kScaleBytes + group % 2 * group_bytes();
  }
  [[gnu::always_inline]] static constexpr int64_t scales_at(int64_t group) {
    return group / 2 * pair_bytes() + group % 2 * kPanel * 2;
  }

  /// Weight (column, k) of a panel.
  static float weight(const std::byte* panel, int64_t, int column, int64_t k) {
    const auto* scales = reinterpret_cast<const Half*>(panel + scales_at(k / kGroup));
    const int level = Format::get(panel + weights_at(k / kGroup), column, k % kGroup);
    return to_float(scales[column]) * static_cast<float>(level - kZeroPoint);
  }

  /// weights [rows, cols], at most 16 rows, into a zeroed panel.
  static void pack_panel(const float* weights, int64_t rows, int64_t cols, std::byte* panel) {
    for (int64_t column = 0; column < kPanel; ++column) {
      for (int64_t group = 0; group < group_count(cols); ++group) {
        float values[kGroup] = {};
        const int64_t count = cols - group * kGroup < kGroup ? cols - group * kGroup : kGroup;
        if (column < rows)
          std::memcpy(values, weights + column * cols + group * kGroup, static_cast<size_t>(count) * sizeof(float));
        int levels[kGroup];
        reinterpret_cast<Half*>(panel + scales_at(group))[column] = choose_scale(values, levels);
        for (int64_t i = 0; i < kGroup; ++i)
          Format::put(panel + weights_at(group), static_cast<int>(column), i, levels[i]);
      }
    }
  }

  /// A panel back into weights [rows, cols], at most 16 rows.
  static void unpack_panel(const std::byte* panel, int64_t rows, int64_t cols, float* weights) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t k = 0; k < cols; ++k) weights[row * cols + k] = weight(panel, cols, static_cast<int>(row), k);
    }
  }

  /// The inner product: sums[r][p] += x[r][k] * w[p][k] for k in [first, first + depth), whole groups. In a group, an
  /// exact integer; over the groups, one chain of fused steps in ascending order. x: ByteRows of `k` activations; w:
  /// where the pair of groups of weight `first` lies in each panel.
  template <class Simd, int kRows, int kPanels>
  [[gnu::always_inline]] static void accumulate(const std::byte* const (&x)[kRows], int64_t first, int64_t depth,
                                                const std::byte* const (&w)[kPanels], int64_t k, const Ahead& ahead,
                                                typename Simd::Panel (&sums)[kRows][kPanels]) {
    constexpr int kAheadBytes = static_cast<int>(pair_bytes() / 64 / 2 * 64);  // the last line is fetched by hardware
    const ByteRow row(k);
    for (int64_t group = 0; group < group_count(depth); ++group) {
      const int64_t at = first / kGroup + group;
      typename Simd::IntPanel products[kRows][kPanels];
      for (int r = 0; r < kRows; ++r) {
        const typename Simd::Int start = Simd::broadcast(reinterpret_cast<const int32_t*>(x[r] + row.starts())[at]);
        for (int p = 0; p < kPanels; ++p) {
          for (int v = 0; v < Simd::kPanelVecs; ++v) products[r][p].v[v] = start;
        }
      }
      ahead.template fetch<Simd, kAheadBytes>(group * kAheadBytes);
      const std::byte* weights[kPanels];
      for (int p = 0; p < kPanels; ++p) weights[p] = w[p] + weights_at(group);
      multiply_group<Simd, kRows, kPanels>(x, at * kGroup, weights, products);
      for (int p = 0; p < kPanels; ++p) {
        const Half* scales = reinterpret_cast<const Half*>(w[p] + scales_at(group));
        for (int v = 0; v < Simd::kPanelVecs; ++v) {
          const typename Simd::Vec w_scale = Simd::load(scales + v * Simd::kLanes);
          for (int r = 0; r < kRows; ++r) {
            const float* x_scales = reinterpret_cast<const float*>(x[r] + row.scales());
            sums[r][p].v[v] = Simd::fma(__builtin_convertvector(products[r][p].v[v], typename Simd::Vec),
                                        Simd::broadcast(x_scales[at]) * w_scale, sums[r][p].v[v]);
          }
        }
      }
    }
  }

 private:
  /// products += bytes of x times levels of w, over one group.
  template <class Simd, int kRows, int kPanels>
  [[gnu::always_inline]] static void multiply_group(const std::byte* const (&x)[kRows], int64_t k,
                                                    const std::byte* const (&w)[kPanels],
                                                    typename Simd::IntPanel (&products)[kRows][kPanels]) {
    constexpr int kQuads = Format::kUnit / 4;
    constexpr int64_t kUnits = kGroup / Format::kUnit;
    for (int64_t unit = 0; unit < kUnits; ++unit) {
      for (int p = 0; p < kPanels; ++p) {
        const std::byte* weights = w[p] + unit * kUnitBytes;
        for (int v = 0; v < Simd::kPanelVecs; ++v) {
          typename Simd::Bytes quads[kQuads];
          Format::template load<Simd>(weights, v, quads);
          for (int q = 0; q < kQuads; ++q) {
            for (int r = 0; r < kRows; ++r) {
              const auto* quad = reinterpret_cast<const int8_t*>(x[r]) + k + unit * Format::kUnit + q * 4;
              products[r][p].v[v] = Simd::dot(products[r][p].v[v], quads[q], Simd::broadcast_quad(quad));
            }
          }
        }
      }
    }
  }

  /// The f16 scale of least squared error among the format's candidates, and the level of each value under it.
  /// The largest |value| alone would choose a scale that serves one weight and coarsens 63.
  static Half choose_scale(const float (&values)[kGroup], int (&levels)[kGroup]) {
    float extreme = 0;
    for (const float value : values) extreme = std::fabs(value) > std::fabs(extreme) ? value : extreme;
    Half scales[Format::kCandidates];
    for (int i = 0; i < Format::kCandidates; ++i) scales[i] = to_half(extreme * Format::candidate(i));
    float errors[Format::kCandidates];
    sum_squared_errors(values, scales, errors);
    float least = 0;
    Half best{0};
    for (int i = 0; i < kGroup; ++i) least += values[i] * values[i];  // of the scale 0
    for (int i = 0; i < Format::kCandidates; ++i) {
      if (errors[i] < least) {
        least = errors[i];
        best = scales[i];
      }
    }
    const float inverse = reciprocal(to_float(best));
    for (int i = 0; i < kGroup; ++i) levels[i] = Format::nearest(values[i] * inverse);
    return best;
  }

  /// Of every candidate, value by value: the sums do not wait for each other.
  static void sum_squared_errors(const float (&values)[kGroup], const Half* scales, float* errors) {
    float scale[Format::kCandidates];
    float inverse[Format::kCandidates];
    for (int i = 0; i < Format::kCandidates; ++i) {
      errors[i] = 0;
      scale[i] = to_float(scales[i]);
      inverse[i] = reciprocal(scale[i]);
    }
    for (const float value : values) {
      for (int i = 0; i < Format::kCandidates; ++i) {
        const float difference =
            value - scale[i] * static_cast<float>(Format::nearest(value * inverse[i]) - kZeroPoint);
        errors[i] += difference * difference;
      }
    }
  }

  static float reciprocal(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }
};

}  // namespace pygpt
