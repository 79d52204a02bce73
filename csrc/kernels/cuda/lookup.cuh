#pragma once
// One weight of a tensor that is looked up: of an embedding, which may be a table or, tied to the head, in panels.

#include "kernels/cuda/table.h"
#include "kernels/cuda/weights.cuh"

namespace pygpt::cuda {
namespace {

template <class Format>
PYGPT_DEVICE float plain_weight(const Lookup& from, int64_t row, int64_t column) {
  using Element = typename Format::Element;
  const auto* elements = reinterpret_cast<const Element*>(from.data);
  if (from.table) return number(elements[row * from.cols + column]);
  const std::byte* panel = from.data + row / kPanel * WarpReader<Format>::panel_bytes(from.cols);
  const int64_t place = WarpReader<Format>::kTensorCores ? fragment_index(row % kPanel, column)
                                                         : Format::index(static_cast<int>(row % kPanel), column);
  return number(reinterpret_cast<const Element*>(panel)[place]);
}

/// kUnit neighbours in k of 16 columns lie together, four bytes a column (formats/q8.h, q4.h).
template <class Format>
PYGPT_DEVICE float grouped_weight(const Lookup& from, int64_t row, int64_t column) {
  const std::byte* panel = from.data + row / kPanel * Format::panel_bytes(from.cols);
  const int64_t group = column / kGroup;
  const int64_t k = column % kGroup;
  const std::byte* unit = panel + Format::weights_at(group) + k / Format::kUnit * Format::kUnitBytes;
  int level = static_cast<int>(unit[row % kPanel * 4 + k % 4]);
  if constexpr (Format::kUnit == 8) {
    const int index = level >> (k % 8 < 4 ? 0 : 4) & 15;
    level = static_cast<int>(WarpReader<Format>::expand(static_cast<uint32_t>(index)) & 0xffu);
  }
  const auto* scales = reinterpret_cast<const uint16_t*>(panel + Format::scales_at(group));
  return half_to_float(scales[row % kPanel]) * static_cast<float>(level - kZeroPoint);
}

PYGPT_DEVICE float looked_up(const Lookup& from, int64_t row, int64_t column) {
  static_assert(WeightFormats::kCount == 5);
  switch (from.format) {
    case 0: return plain_weight<F32>(from, row, column);
    case 1: return plain_weight<F16>(from, row, column);
    case 2: return plain_weight<BF16>(from, row, column);
    case 3: return grouped_weight<Q8>(from, row, column);
    default: return grouped_weight<Q4>(from, row, column);
  }
}

}  // namespace
}  // namespace pygpt::cuda
