#pragma once
// The chain of rules of sampling/chain.cpp by one block for each row: the same IEEE operations in the same order, so
// the same token for the same logits. What is counted or compared may be shared out; what is added is added in the
// chain's order, chunks of 256 ids by a thread each, then chunk by chunk.

#include "kernels/cuda/candidates.cuh"
#include "sampling/exp.h"
#include "sampling/philox.h"

namespace pygpt::cuda {
namespace {

inline constexpr int kChunkIds = 256;      // of sampling/chain.cpp
inline constexpr int32_t kNotFinite = -1;  // Choice
inline constexpr int32_t kNoneLeft = -2;

/// Which values top_k keeps: those above the threshold, and those that equal it up to the id `last`.
struct TopK {
  float threshold;
  int32_t last;

  PYGPT_DEVICE bool keeps(float value, int32_t id) const {
    return value > threshold || (value == threshold && id <= last);
  }
};

/// The id of the n-th value that equals the threshold: each thread counts a run of ids, then one run is looked through.
PYGPT_DEVICE int32_t nth_equal(const Candidates& c, float threshold, int32_t n) {
  ChooseShared& shared = c.shared;
  const int32_t length = static_cast<int32_t>(ceil_div(c.count, kChooseThreads));
  const int32_t begin = thread() * length;
  int32_t equal = 0;
  for (int32_t id = begin; id < begin + length && id < c.count; ++id) equal += c.value(id) == threshold ? 1 : 0;
  shared.counts[thread()] = equal;
  if (thread() == 0) shared.found = c.count;
  sync_block();
  int32_t before = 0;
  for (int i = 0; i < thread(); ++i) before += shared.counts[i];
  if (before < n && before + equal >= n) {
    for (int32_t id = begin; id < begin + length && id < c.count; ++id) {
      if (c.value(id) == threshold && ++before == n) shared.found = id;
    }
  }
  sync_block();
  return shared.found;
}

PYGPT_DEVICE TopK find_top_k(const Candidates& c) {
  const int32_t k = c.rules.top_k;
  if (k == 0 || k >= c.count) return {bits_float(0xff800000u), c.count};
  const uint32_t bits = kth_largest(c, k, [&](int32_t id) { return ordered(c.value(id)); });
  const float threshold = bits_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
  if (c.rules.top_k_ties != 0) return {threshold, c.count};
  int above = 0;
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) above += c.value(id) > threshold ? 1 : 0;
  return {threshold, nth_equal(c, threshold, k - count_all(c.shared, above))};
}

/// The sum of a chunk's weights, in ascending order of id.
PYGPT_DEVICE double chunk_sum(const Candidates& c, int32_t chunk) {
  double sum = 0;
  const int32_t begin = chunk * kChunkIds;
  for (int32_t id = begin; id < begin + kChunkIds && id < c.count; ++id) sum += static_cast<double>(c.weights[id]);
  return sum;
}

/// shared.parts = the sums of the chunks from `first` on, as many as there are threads. Behind a sync.
PYGPT_DEVICE void sum_chunks(const Candidates& c, int32_t first) {
  const int32_t chunks = static_cast<int32_t>(ceil_div(c.count, kChunkIds));
  sync_block();
  if (first + thread() < chunks) c.shared.parts[thread()] = chunk_sum(c, first + thread());
  sync_block();
}

PYGPT_DEVICE double total(const Candidates& c) {
  const int32_t chunks = static_cast<int32_t>(ceil_div(c.count, kChunkIds));
  if (thread() == 0) c.shared.sum = 0;
  for (int32_t first = 0; first < chunks; first += kChooseThreads) {
    sum_chunks(c, first);
    if (thread() != 0) continue;
    double sum = c.shared.sum;
    for (int32_t i = first; i < chunks && i < first + kChooseThreads; ++i) sum += c.shared.parts[i - first];
    c.shared.sum = sum;
  }
  sync_block();
  return c.shared.sum;
}

/// A weight and its id as one number: larger weights first, then lower ids.
PYGPT_DEVICE uint64_t sort_key(float weight, int32_t id) {
  return uint64_t{float_bits(weight)} << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

/// Puts shared.sorted in descending order (Batcher's bitonic network).
PYGPT_DEVICE void sort_keys(uint64_t* keys) {
  for (int size = 2; size <= kMostSorted; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      for (int i = thread(); i < kMostSorted / 2; i += kChooseThreads) {
        const int a = i / step * 2 * step + i % step;
        const int b = a + step;
        const bool descending = (a & size) == 0;
        if ((keys[a] < keys[b]) == descending) {
          const uint64_t key = keys[a];
          keys[a] = keys[b];
          keys[b] = key;
        }
      }
      sync_block();
    }
  }
}

/// The weights that may be of the nucleus, in order; how many. 0 beside fewer candidates than there are, if not all are
/// among them.
PYGPT_DEVICE int32_t gather_best(const Candidates& c, int32_t positive) {
  ChooseShared& shared = c.shared;
  uint32_t least = 1;  // bits of the smallest weight that is taken; weights are not negative
  if (positive > kMostSorted) {
    least = kth_largest(c, kMostSorted, [&](int32_t id) { return float_bits(c.weights[id]); });
    int taken = 0;
    for (int32_t id = thread(); id < c.count; id += kChooseThreads) taken += float_bits(c.weights[id]) >= least ? 1 : 0;
    if (count_all(shared, taken) > kMostSorted) ++least;  // the last ones are equal to others: leave them all out
  }
  if (thread() == 0) shared.found = 0;
  for (int i = thread(); i < kMostSorted; i += kChooseThreads) shared.sorted[i] = 0;
  sync_block();
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) {
    if (float_bits(c.weights[id]) < least) continue;
    shared.sorted[next_place(&shared.found)] = sort_key(c.weights[id], id);
  }
  sync_block();
  sort_keys(shared.sorted);
  return shared.found;
}

/// Keeps the nucleus; false where it is larger than what can be put in order here.
PYGPT_DEVICE bool keep_top_p(const Candidates& c) {
  if (c.rules.top_p >= 1) return true;
  ChooseShared& shared = c.shared;
  const double wanted = total(c) * static_cast<double>(c.rules.top_p);
  int positive = 0;
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) positive += c.weights[id] > 0 ? 1 : 0;
  positive = count_all(shared, positive);
  const int32_t gathered = gather_best(c, positive);
  if (thread() == 0) {
    double sum = 0;
    int32_t done = 0;
    for (; done < gathered && (done == 0 || sum < wanted); ++done)
      sum += static_cast<double>(bits_float(static_cast<uint32_t>(shared.sorted[done] >> 32)));
    shared.left = sum >= wanted || done == positive ? 1 : 0;
    shared.last = done > 0 ? shared.sorted[done - 1] : ~uint64_t{0};
  }
  sync_block();
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) {
    if (sort_key(c.weights[id], id) < shared.last) c.weights[id] = 0;
  }
  const bool whole = shared.left != 0;
  sync_block();
  return whole;
}

/// The token at which the running sum of weights passes a random share of the whole.
PYGPT_DEVICE int32_t draw(const Candidates& c) {
  ChooseShared& shared = c.shared;
  const double target =
      sampling::uniform(c.rules.seed, c.rules.sample, static_cast<uint64_t>(c.rules.index)) * total(c);
  int last = -1;  // rounding may leave target at the very end
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) last = c.weights[id] > 0 ? id : last;
  last = block_max(last, shared.ints);
  const int32_t chunks = static_cast<int32_t>(ceil_div(c.count, kChunkIds));
  if (thread() == 0) {
    shared.sum = 0;
    shared.found = -1;
  }
  for (int32_t first = 0; first < chunks; first += kChooseThreads) {
    sum_chunks(c, first);
    if (thread() == 0 && shared.found < 0) {
      double sum = shared.sum;
      for (int32_t i = first; i < chunks && i < first + kChooseThreads && shared.found < 0; ++i) {
        if (sum + shared.parts[i - first] > target) shared.found = i;
        if (shared.found < 0) sum += shared.parts[i - first];
      }
      shared.sum = sum;
    }
  }
  sync_block();
  if (shared.found < 0) return last >= 0 ? last : kNoneLeft;
  double part = 0;
  const int32_t begin = shared.found * kChunkIds;
  for (int32_t id = begin; id < begin + kChunkIds && id < c.count; ++id) {
    part += static_cast<double>(c.weights[id]);
    if (c.weights[id] > 0 && shared.sum + part > target) return id;
  }
  return last;
}

PYGPT_DEVICE int32_t choose_token(const Candidates& c) {
  if (c.rules.host_chooses != 0) return kHostChooses;
  if (!all_below_infinity(c)) return kNotFinite;
  const float largest = largest_value(c);
  if (!(largest > bits_float(0xff800000u))) return kNoneLeft;
  if (c.rules.temperature < 1.17549435e-38f) return most_likely(c, largest);
  const TopK top_k = find_top_k(c);
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) {
    const float value = c.value(id);
    const bool kept = top_k.keeps(value, id) && value > bits_float(0xff800000u);
    c.weights[id] = kept ? sampling::exp_nonpositive((value - largest) / c.rules.temperature) : 0;
  }
  sync_block();
  if (!keep_top_p(c)) return kHostChooses;
  if (c.rules.min_p > 0) {
    for (int32_t id = thread(); id < c.count; id += kChooseThreads) {
      if (c.weights[id] < c.rules.min_p) c.weights[id] = 0;
    }
    sync_block();
  }
  return draw(c);
}

/// grid: a block a row. Reads the row's logits about ten times, mostly from a cache.
PYGPT_KERNEL(kChooseThreads) choose_kernel(ChooseArgs args) {
  auto& shared = *reinterpret_cast<ChooseShared*>(shared_memory());
  const int row = block_x();
  ChooseRules& rules = args.rules[row];
  const Candidates c{args.logits.data + row * args.logits.stride, args.scratch.data + row * args.scratch.stride,
                     args.vocab_size, rules, shared};
  const int32_t token = choose_token(c);
  sync_block();
  if (thread() != 0) return;
  args.out[row] = token;
  if (args.rows == nullptr) return;
  ++rules.index;
  RowInfo& next = args.rows[rules.row];
  next.previous = next.token;
  next.token = token >= 0 ? token : next.token;
  ++next.position;
}

int choose(const ChooseArgs& args, void* stream) {
  return launch(&choose_kernel, args.count, 1, kChooseThreads, static_cast<int64_t>(sizeof(ChooseShared)), stream,
                args);
}

}  // namespace
}  // namespace pygpt::cuda
