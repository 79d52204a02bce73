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

/// A block of one format in another's layout.
template <class Format, class BlockFormat>
struct BlockScratch {
  static constexpr bool kInPlace = false;
  alignas(64) std::byte memory[BlockFormat::panel_bytes(Format::kBlock)];

  const std::byte* expand(const std::byte* block, int64_t depth) {
    if constexpr (Format::kIsPlain) {
      expand_floats(block, depth);
    } else {
      for (int64_t group = 0; group < group_count(depth); ++group) expand_group(block, group);
    }
    return memory;
  }

 private:
  void expand_floats(const std::byte* block, int64_t depth) {
    const auto* from = reinterpret_cast<const typename Format::Element*>(block);
    auto* to = reinterpret_cast<float*>(memory);
    for (int64_t k = 0; k < depth; k += Format::kStep) {
      Simd::Panel weights[Format::kStep];
      Format::template load<Simd>(from + k * kPanel, weights);
      for (int step = 0; step < Format::kStep; ++step) {
        for (int v = 0; v < Simd::kPanelVecs; ++v)
          Simd::store(to + (k + step) * kPanel + v * Simd::kLanes, weights[step].v[v]);
      }
    }
  }

  void expand_group(const std::byte* block, int64_t group) {
    constexpr int kQuads = Format::kUnit / 4;
    __builtin_memcpy(memory + BlockFormat::scales_at(group), block + Format::scales_at(group), kPanel * sizeof(Half));
    const std::byte* from = block + Format::weights_at(group);
    std::byte* to = memory + BlockFormat::weights_at(group);
    for (int64_t unit = 0; unit < kGroup / Format::kUnit; ++unit) {
      for (int v = 0; v < Simd::kPanelVecs; ++v) {
        Simd::Bytes quads[kQuads];
        Format::template load<Simd>(from + unit * Format::kUnitBytes, v, quads);
        for (int q = 0; q < kQuads; ++q)
          Simd::store_bytes(to + (unit * kQuads + q) * BlockFormat::kUnitBytes + v * Simd::kLanes * 4, quads[q]);
      }
    }
  }
};

/// Nothing to do where a block is read as it lies.
template <class Format>
struct BlockScratch<Format, Format> {
  static constexpr bool kInPlace = true;

  const std::byte* expand(const std::byte* block, int64_t) { return block; }
};

}  // namespace
}  // namespace pygpt
