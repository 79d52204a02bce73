#pragma once
// How matrices of 16-bit weights lie in a GPU's memory: in the order in which tensor cores want them, so that a lane's
// 16 bytes are its share of 16 columns and 16 k. The other formats lie as in the file.

#include <cstdint>

#include "base/checked.h"
#include "formats/panel.h"

namespace pygpt::cuda {

inline constexpr int kFragmentDepth = 16;  // k of a fragment; the last one is filled up with zeros

/// Elements of a panel of depth k.
constexpr int64_t fragment_panel(int64_t k) { return round_up(k, kFragmentDepth) * kPanel; }

/// Where weight (column, k) of a panel lies, in elements. Lane (g, t) of 8 x 4 has columns g and g + 8 of k t, t + 4,
/// t + 8 and t + 12: two operands A of PTX's mma.m16n8k8, one behind the other.
constexpr int64_t fragment_index(int64_t column, int64_t k) {
  const int64_t lane = column % 8 * 4 + k % 4;
  const int64_t element = k % kFragmentDepth / 4 * 2 + column / 8;
  return k / kFragmentDepth * (kFragmentDepth * kPanel) + lane * 8 + element;
}

}  // namespace pygpt::cuda
