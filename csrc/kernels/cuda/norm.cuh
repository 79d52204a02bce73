#pragma once
// The norm of a row by one warp: the same order of additions wherever it is made.

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/numbers.cuh"
#include "kernels/cuda/table.h"

namespace pygpt::cuda {
namespace {

/// What turns a number of a row into its normed one.
struct RowNorm {
  float mean;
  float scale;
};

/// By a warp: lane i adds numbers i, i + 32, ..., then the lanes in a tree.
PYGPT_DEVICE RowNorm row_norm(const float* x, int64_t width, const NormOf& norm) {
  float mean = 0;
  if (norm.kind == Norm::layer_norm) {
    float sum = 0;
    for (int64_t i = lane(); i < width; i += kWarp) sum += x[i];
    mean = warp_sum(sum) / static_cast<float>(width);
  }
  float squares = 0;
  for (int64_t i = lane(); i < width; i += kWarp) {
    const float d = x[i] - mean;
    squares = fmaf(d, d, squares);
  }
  const float variance = warp_sum(squares) / static_cast<float>(width);
  return {mean, 1.0f / sqrtf(variance + norm.epsilon)};
}

PYGPT_DEVICE float normed(float x, const RowNorm& row, const NormOf& norm, int64_t i) {
  const float value = (x - row.mean) * row.scale * norm.gain[i];
  return norm.bias != nullptr ? value + norm.bias[i] : value;
}

inline constexpr int kNormThreads = 128;

/// grid: a row each four; a warp a row. Reads a row twice, the second time from a cache, and writes it once.
PYGPT_KERNEL(kNormThreads) norm_kernel(NormArgs args) {
  const int row = block_x() * (kNormThreads / kWarp) + warp();
  if (row >= args.rows) return;
  const float* x = args.x.data + (args.places != nullptr ? args.places[row] : row) * args.x.stride;
  float* out = args.out.data + row * args.out.stride;
  const RowNorm moments = row_norm(x, args.width, args.norm);
  for (int64_t i = lane(); i < args.width; i += kWarp) out[i] = normed(x[i], moments, args.norm, i);
}

int norm(const NormArgs& args, void* stream) {
  const int blocks = static_cast<int>(ceil_div(args.rows, kNormThreads / kWarp));
  return launch(&norm_kernel, blocks, 1, kNormThreads, 0, stream, args);
}

}  // namespace
}  // namespace pygpt::cuda
