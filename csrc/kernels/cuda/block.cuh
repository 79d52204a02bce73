#pragma once
// Sums and maxima over a warp and over a block, each in one fixed order.

#include "kernels/cuda/lang.cuh"

namespace pygpt::cuda {
namespace {

PYGPT_DEVICE int lane() { return thread() % kWarp; }
PYGPT_DEVICE int warp() { return thread() / kWarp; }

/// Every lane gets the sum: a tree of halves.
PYGPT_DEVICE float warp_sum(float value) {
  for (int bits = kWarp / 2; bits > 0; bits /= 2) value += exchange(value, bits);
  return value;
}

PYGPT_DEVICE int warp_sum(int value) {
  for (int bits = kWarp / 2; bits > 0; bits /= 2) value += exchange(value, bits);
  return value;
}

/// A NaN may get lost.
PYGPT_DEVICE float warp_max(float value) {
  for (int bits = kWarp / 2; bits > 0; bits /= 2) {
    const float other = exchange(value, bits);
    value = other > value ? other : value;
  }
  return value;
}

PYGPT_DEVICE int warp_max(int value) {
  for (int bits = kWarp / 2; bits > 0; bits /= 2) {
    const int other = exchange(value, bits);
    value = other > value ? other : value;
  }
  return value;
}

/// Every thread gets the sum over the block, warps in ascending order. scratch: a number for each warp; free again
/// behind the next sync_block.
template <class T>
PYGPT_DEVICE T block_sum(T value, T* scratch) {
  value = warp_sum(value);
  if (lane() == 0) scratch[warp()] = value;
  sync_block();
  T sum = scratch[0];
  for (int i = 1; i < threads() / kWarp; ++i) sum += scratch[i];
  return sum;
}

template <class T>
PYGPT_DEVICE T block_max(T value, T* scratch) {
  value = warp_max(value);
  if (lane() == 0) scratch[warp()] = value;
  sync_block();
  T most = scratch[0];
  for (int i = 1; i < threads() / kWarp; ++i) most = scratch[i] > most ? scratch[i] : most;
  return most;
}

}  // namespace
}  // namespace pygpt::cuda
