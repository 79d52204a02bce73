#pragma once
// softmax(scale q k^T) v of one row and head by a block, in partial softmaxes over 256 absolute positions that are
// merged in ascending order (online softmax, arXiv:1805.02867). A score is one chain over head_dim.

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cache.cuh"

namespace pygpt::cuda {
namespace {

inline constexpr int kAttendThreads = kPartialRows;  // a thread a position, a warp a page
inline constexpr int kAttendWarps = kAttendThreads / kWarp;

struct AttendShared {
  float q[kMaxHeadDim];
  float weights[kPartialRows];
  float parts[kMaxHeadDim];  // [positions side by side][padded head_dim]
  float total[kMaxHeadDim];
  float largest[kAttendWarps];
  float sum[kAttendWarps];
};

/// The state of a softmax that sees its scores piece by piece.
struct Softmax {
  float largest;
  float sum;
};

/// One row and head.
template <class Kv>
struct Attending {
  const AttendArgs& args;
  const RowInfo& row;
  int head;
  int64_t begin;  // the row sees [begin, count)
  int64_t count;

  PYGPT_DEVICE int group() const { return head / args.heads_per_group; }
  PYGPT_DEVICE bool sees(int64_t position) const { return position >= begin && position < count; }
};

/// The score of the thread's position in the partial from `first` on; minus infinity where the row does not see it.
template <class Kv>
PYGPT_DEVICE float score(const Attending<Kv>& at, int64_t first, const AttendShared& shared) {
  const int64_t position = first + thread();
  if (!at.sees(position)) return bits_float(0xff800000u);
  const HeadPage<Kv> page = head_page<Kv>(at.args.cache, at.row, position, at.group());
  const auto* k = page.k + position % kPageRows;
  float sum = 0;
#pragma unroll 8
  for (int d = 0; d < at.args.cache.head_dim; ++d) sum = fmaf(shared.q[d], number(k[d * kPageRows]), sum);
  float scale = at.args.scale;
  if constexpr (Kv::kHasScales) scale = scale * page.k_scales[position % kPageRows];
  return sum * scale;
}

/// shared.weights = e^(score - largest) of the partial; 0 where the row sees nothing.
template <class Kv>
PYGPT_DEVICE Softmax weigh(const Attending<Kv>& at, int64_t first, AttendShared& shared) {
  const float own = score(at, first, shared);
  const float largest = block_max(own, shared.largest);
  float weight = expf(own - largest);
  const float sum = block_sum(weight, shared.sum);
  shared.weights[thread()] = weight;
  sync_block();
  return {largest, sum};
}

/// shared.parts[column] = sum of weight * v over the positions of the partial, in ascending order: as many chains of
/// every n-th position side by side as the block has threads for, added up in order. No v is touched that the row does
/// not see: that could be infinite.
template <class Kv>
PYGPT_DEVICE void weigh_values(const Attending<Kv>& at, int64_t first, AttendShared& shared) {
  const int width = static_cast<int>(round_up(at.args.cache.head_dim, kPanel));
  const int chains = width < kAttendThreads ? kAttendThreads / width : 1;
  const int64_t from = at.begin > first ? at.begin - first : 0;
  const int64_t to = at.count - first < kPartialRows ? at.count - first : kPartialRows;
  for (int i = thread(); i < chains * width; i += kAttendThreads) {
    const int column = i % width;
    float sum = 0;
    for (int64_t p = i / width; p < to; p += chains) {
      if (p < from) continue;
      const HeadPage<Kv> page = head_page<Kv>(at.args.cache, at.row, first + p, at.group());
      const int64_t place = p % kPageRows;
      float weight = shared.weights[p];
      if constexpr (Kv::kHasScales) weight = weight * page.v_scales[place];
      sum = fmaf(weight, number(page.v[place * width + column]), sum);
    }
    shared.parts[i] = sum;
  }
  sync_block();
}

/// Joins the next partial with what came before it.
template <class Kv>
PYGPT_DEVICE void merge(const Attending<Kv>& at, bool is_first, const Softmax& next, Softmax& state,
                        AttendShared& shared) {
  const int width = static_cast<int>(round_up(at.args.cache.head_dim, kPanel));
  const int chains = width < kAttendThreads ? kAttendThreads / width : 1;
  const float largest = is_first || next.largest > state.largest ? next.largest : state.largest;
  const float old_scale = is_first ? 0.0f : expf(state.largest - largest);
  const float new_scale = expf(next.largest - largest);
  for (int d = thread(); d < at.args.cache.head_dim; d += kAttendThreads) {
    float part = shared.parts[d];
    for (int chain = 1; chain < chains; ++chain) part += shared.parts[chain * width + d];
    shared.total[d] = is_first ? part : shared.total[d] * old_scale + part * new_scale;
  }
  state = is_first ? next : Softmax{largest, state.sum * old_scale + next.sum * new_scale};
  sync_block();
}

/// grid: heads of q x rows. Reads k and v of the positions that the row sees once.
template <class Kv>
PYGPT_KERNEL(kAttendThreads)
attend_kernel(AttendArgs args) {
  auto& shared = *reinterpret_cast<AttendShared*>(shared_memory());
  const RowInfo& row = args.rows[block_y()];
  const int64_t count = int64_t{row.position} + 1;
  const Attending<Kv> at{args, row, block_x(), count > args.window ? count - args.window : 0, count};
  const int head_dim = args.cache.head_dim;
  const int64_t padded = round_up(head_dim, kPanel);
  const int64_t place = (int64_t{at.group()} * (args.heads_per_group + 2) + at.head % args.heads_per_group) * padded;
  for (int d = thread(); d < head_dim; d += kAttendThreads)
    shared.q[d] = args.qkv.data[block_y() * args.qkv.stride + place + d];
  sync_block();
  const int64_t origin = at.begin / kPartialRows * kPartialRows;
  Softmax state{0, 0};
  for (int64_t first = origin; first < count; first += kPartialRows) {
    const Softmax next = weigh(at, first, shared);
    if (args.weights == nullptr) weigh_values(at, first, shared);
    merge(at, first == origin, next, state, shared);
  }
  if (args.weights == nullptr) {
    float* out = args.out.data + block_y() * args.out.stride + at.head * head_dim;
    for (int d = thread(); d < head_dim; d += kAttendThreads) out[d] = shared.total[d] * (1.0f / state.sum);
    return;
  }
  float* out = args.weights + (at.head * args.length + row.position) * args.length;
  for (int64_t first = origin; first < count; first += kPartialRows) {  // made anew: now the whole is known
    const Softmax next = weigh(at, first, shared);
    const float scale = expf(next.largest - state.largest) / state.sum;
    if (at.sees(first + thread())) out[first + thread()] = shared.weights[thread()] * scale;
    sync_block();
  }
}

template <class Kv>
int attend(const AttendArgs& args, void* stream) {
  return launch(&attend_kernel<Kv>, args.n_head, args.count, kAttendThreads, static_cast<int64_t>(sizeof(AttendShared)),
                stream, args);
}

}  // namespace
}  // namespace pygpt::cuda
