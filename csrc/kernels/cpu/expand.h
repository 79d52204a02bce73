#pragma once
// Blocks of weights that many rows will read, turned once into the form that is read fastest.

#include "formats/formats.h"
#include "kernels/cpu/math.h"

namespace pygpt {
namespace {

/// What a format is expanded to: floats, or bytes.
template <bool kIsPlain>
struct Expanded {
  using Type = F32;
};
template <>
struct Expanded<false> {
  using Type = Q8;
};
template <class Format>
using ExpandedFormat = typename Expanded<Format::kIsPlain>::Type;

/// Nothing to do where a block is read as it lies.
template <class Format, class BlockFormat>
struct BlockScratch {
  alignas(64) std::byte memory[BlockFormat::weight_bytes(Format::kBlock)];

  WeightBlock expand(const WeightBlock& block, int64_t depth) {
    if constexpr (Format::kIsPlain) {
      const auto* from = reinterpret_cast<const typename Format::Element*>(block.weights);
      auto* to = reinterpret_cast<float*>(memory);
      for (int64_t k = 0; k < depth; k += Format::kStep) {
        Simd::Panel weights[Format::kStep];
        Format::template load<Simd>(from + k * kPanel, weights);
        for (int step = 0; step < Format::kStep; ++step) {
          for (int v = 0; v < Simd::kPanelVecs; ++v)
            Simd::store(to + (k + step) * kPanel + v * Simd::kLanes, weights[step].v[v]);
        }
      }
    } else {
      constexpr int kQuads = Format::kUnit / 4;
      const int64_t units = round_up(depth, kGroup) / Format::kUnit;
      for (int64_t unit = 0; unit < units; ++unit) {
        for (int v = 0; v < Simd::kPanelVecs; ++v) {
          Simd::Bytes quads[kQuads];
          Format::template load<Simd>(block.weights + unit * Format::kUnitBytes, v, quads);
          for (int q = 0; q < kQuads; ++q)
            Simd::store_bytes(memory + (unit * kQuads + q) * Q8::kUnitBytes + v * Simd::kLanes * 4, quads[q]);
        }
      }
    }
    return {memory, block.scales};
  }
};

template <class Format>
struct BlockScratch<Format, Format> {
  WeightBlock expand(const WeightBlock& block, int64_t) { return block; }
};

}  // namespace
}  // namespace pygpt
