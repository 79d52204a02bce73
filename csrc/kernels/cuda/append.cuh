#pragma once
// From the rows of q, k, v to what attention reads: norms and turns q and k, adds values to v, writes k and v to pages.

#include "kernels/cuda/cache.cuh"
#include "kernels/cuda/embed.cuh"
#include "kernels/cuda/norm.cuh"

namespace pygpt::cuda {
namespace {

inline constexpr int kAppendThreads = 128;

PYGPT_DEVICE void norm_head(const AppendArgs& args, const float* gain, float* x) {
  if (gain == nullptr) return;
  const NormOf norm{gain, nullptr, args.epsilon, Norm::rms_norm};
  const RowNorm moments = row_norm(x, args.cache.head_dim, norm);
  for (int i = lane(); i < args.cache.head_dim; i += kWarp) x[i] = normed(x[i], moments, norm, i);
  sync_warp();
}

/// Pairs (x[i], x[i + head_dim / 2]) by the angles of the position. No fused steps, as on the CPU.
PYGPT_DEVICE void turn_head(const AppendArgs& args, int64_t position, float* x) {
  if (args.angles == nullptr) return;
  const int pairs = args.cache.head_dim / 2;
  const float* cos = args.angles + position * args.cache.head_dim;
  const float* sin = cos + pairs;
  for (int i = lane(); i < pairs; i += kWarp) {
    const float a = x[i];
    const float b = x[i + pairs];
    x[i] = a * cos[i] - b * sin[i];
    x[i + pairs] = b * cos[i] + a * sin[i];
  }
  sync_warp();
}

/// Numbers of a head to bytes with a scale: the largest magnitude of the warp's lanes.
PYGPT_DEVICE ByteScale head_scale(const float* x, int width) {
  int largest = 0;  // as integers, so that a NaN is not lost
  for (int i = lane(); i < width; i += kWarp) {
    const int size = static_cast<int>(float_bits(x[i]) & 0x7fffffffu);
    largest = size > largest ? size : largest;
  }
  return byte_scale(bits_float(static_cast<uint32_t>(warp_max(largest))));
}

/// One head's k or v to its place, `step` elements apart. scale: null where the type has none.
template <class Kv>
PYGPT_DEVICE void write_head(const float* x, int width, typename Kv::Element* to, int step, float* scale) {
  if constexpr (Kv::kHasScales) {
    const ByteScale bytes = head_scale(x, width);
    if (lane() == 0) *scale = bytes.scale;
    for (int i = lane(); i < width; i += kWarp) to[i * step] = to_byte(x[i], bytes.inverse);
  } else {
    for (int i = lane(); i < width; i += kWarp) put_number(x[i], to + i * step);
  }
}

PYGPT_DEVICE void add_value(const AppendArgs& args, int row, int group, float* v) {
  if (args.value_gate == nullptr) return;
  const float* h = args.normed.data + row * args.normed.stride;
  const float gate =
      args.value_gate_scale * gate_of(args.value_gate + group * args.value_gate_width, h, args.value_gate_width);
  const int64_t place = int64_t{args.rows[row].token} * args.n_kv_head + group;
  for (int i = lane(); i < args.cache.head_dim; i += kWarp) v[i] += gate * looked_up(args.value_embed, place, i);
  sync_warp();
}

/// grid: groups x rows; a warp a head: those of q, k, then v. Reads and writes each number once or twice.
template <class Kv>
PYGPT_KERNEL(kAppendThreads)
append_kernel(AppendArgs args) {
  const int group = block_x();
  const int row = block_y();
  const RowInfo& info = args.rows[row];
  const int64_t padded = round_up(args.cache.head_dim, kPanel);
  const int heads = args.heads_per_group;
  float* x = args.qkv.data + row * args.qkv.stride + group * (heads + 2) * padded;
  const HeadPage<Kv> page = head_page<Kv>(args.cache, info, info.position, group);
  const int column = info.position % kPageRows;
  for (int head = warp(); head < heads + 2; head += kAppendThreads / kWarp) {
    float* one = x + head * padded;
    if (head == heads + 1) {
      add_value(args, row, group, one);
      write_head<Kv>(one, args.cache.head_dim, page.v + column * padded, 1, page.v_scales + column);
      continue;
    }
    const float* gain = head < heads ? args.q_gain : args.k_gain;
    if (args.order == TurnAndNorm::norm_turn) norm_head(args, gain, one);
    turn_head(args, info.position, one);
    if (args.order == TurnAndNorm::turn_norm) norm_head(args, gain, one);
    if (head == heads) write_head<Kv>(one, args.cache.head_dim, page.k + column, kPageRows, page.k_scales + column);
  }
}

template <class Kv>
int append(const AppendArgs& args, void* stream) {
  return launch(&append_kernel<Kv>, args.n_kv_head, args.count, kAppendThreads, 0, stream, args);
}

}  // namespace
}  // namespace pygpt::cuda
