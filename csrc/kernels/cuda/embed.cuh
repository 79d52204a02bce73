#pragma once
// How the residual stream begins, and what is mixed into it between layers.

#include "kernels/cuda/lookup.cuh"
#include "kernels/cuda/norm.cuh"

namespace pygpt::cuda {
namespace {

inline constexpr int kEmbedThreads = 256;

/// sigmoid(gate . x) over `width` columns, which are few: in float64, in ascending order, by every thread.
PYGPT_DEVICE float gate_of(const float* gate, const float* x, int64_t width) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(gate[i]) * static_cast<double>(x[i]);
  return static_cast<float>(1.0 / (1.0 + exp(-sum)));
}

/// x = wte[token] + wpe[position], normed if the embedding is. By a block; all of it is there behind.
PYGPT_DEVICE void embed_token(const EmbedArgs& args, int32_t token, int32_t position, float* x) {
  const int64_t width = args.wte.cols;
  for (int64_t i = thread(); i < width; i += kEmbedThreads) {
    float value = looked_up(args.wte, token, i);
    if (args.wpe.data != nullptr) value += looked_up(args.wpe, position, i);
    x[i] = value;
  }
  sync_block();
  if (args.norm.gain == nullptr) return;
  const RowNorm moments = row_norm(x, width, args.norm);  // each warp for itself
  sync_block();
  for (int64_t i = thread(); i < width; i += kEmbedThreads) x[i] = normed(x[i], moments, args.norm, i);
  sync_block();
}

/// grid: a block a row.
PYGPT_KERNEL(kEmbedThreads) embed_kernel(EmbedArgs args) {
  const RowInfo& row = args.rows[block_x()];
  const int64_t width = args.wte.cols;
  float* x = args.x.data + block_x() * args.x.stride;
  embed_token(args, row.token, row.position, x);
  if (args.smear_gate != nullptr && row.position > 0) {
    // What the position before began with is embedded anew: no state to keep, whatever chunk it was in.
    float* before = args.before.data + block_x() * args.before.stride;
    embed_token(args, row.previous, row.position - 1, before);
    const float share = args.smear_lambda * gate_of(args.smear_gate, x, args.smear_width);
    sync_block();
    for (int64_t i = thread(); i < width; i += kEmbedThreads) x[i] += share * before[i];
  }
  if (args.lambdas == nullptr) return;
  float* x0 = args.x0.data + block_x() * args.x0.stride;
  for (int64_t i = thread(); i < width; i += kEmbedThreads) {  // the columns that this thread has just written
    x0[i] = x[i];
    x[i] = args.lambdas[0] * x[i] + args.lambdas[1] * x0[i];
  }
}

int embed(const EmbedArgs& args, void* stream) {
  return launch(&embed_kernel, args.count, 1, kEmbedThreads, 0, stream, args);
}

/// grid: a row each y, 256 columns each x.
PYGPT_KERNEL(kEmbedThreads) mix_kernel(MixArgs args) {
  const int64_t i = block_x() * kEmbedThreads + thread();
  const int row = block_y();
  if (i >= args.width) return;
  float value = args.x.data[row * args.x.stride + i];
  if (args.keep.data != nullptr) args.keep.data[row * args.keep.stride + i] = value;
  if (args.lambdas != nullptr)
    value = args.lambdas[0] * value + args.lambdas[1] * args.x0.data[row * args.x0.stride + i];
  if (args.backout.data != nullptr) value += -args.backout_lambda * args.backout.data[row * args.backout.stride + i];
  args.x.data[row * args.x.stride + i] = value;
}

int mix(const MixArgs& args, void* stream) {
  return launch(&mix_kernel, static_cast<int>(ceil_div(args.width, kEmbedThreads)), args.count, kEmbedThreads, 0,
                stream, args);
}

}  // namespace
}  // namespace pygpt::cuda
