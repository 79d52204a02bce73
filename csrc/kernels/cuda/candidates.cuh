#pragma once
// A row's logits under its rules, and what a block finds out about them: counts, the largest, the k-th largest.

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/table.h"

namespace pygpt::cuda {
namespace {

inline constexpr int kChooseThreads = 512;

struct ChooseShared {
  uint64_t sorted[kMostSorted];
  double parts[kChooseThreads];
  int32_t counts[kChooseThreads];
  int32_t bins[256];
  float floats[kChooseThreads / kWarp];
  int32_t ints[kChooseThreads / kWarp];
  double sum;
  uint64_t last;
  uint32_t prefix;
  int32_t left;
  int32_t found;
};

/// One row's logits under its rules.
struct Candidates {
  const float* logits;
  float* weights;
  int32_t count;
  const ChooseRules& rules;
  ChooseShared& shared;

  PYGPT_DEVICE float value(int32_t id) const {
    if (rules.index < rules.min_tokens) {
      for (int i = 0; i < rules.forbidden_count; ++i) {
        if (rules.forbidden[i] == id) return bits_float(0xff800000u);
      }
    }
    return logits[id];
  }
};

/// The sum of a number of each thread.
PYGPT_DEVICE int count_all(ChooseShared& shared, int mine) {
  const int sum = block_sum(mine, shared.ints);
  sync_block();
  return sum;
}

PYGPT_DEVICE bool all_below_infinity(const Candidates& c) {
  int wrong = 0;
#pragma unroll 8
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) {
    if (!(c.logits[id] < bits_float(0x7f800000u))) wrong = 1;
  }
  return count_all(c.shared, wrong) == 0;
}

PYGPT_DEVICE float largest_value(const Candidates& c) {
  float most = bits_float(0xff800000u);
#pragma unroll 8
  for (int32_t id = thread(); id < c.count; id += kChooseThreads) {
    const float value = c.value(id);
    most = value > most ? value : most;
  }
  most = block_max(most, c.shared.floats);
  sync_block();
  return most;
}

/// The lowest id whose value is the largest.
PYGPT_DEVICE int32_t most_likely(const Candidates& c, float largest) {
  int best = -c.count;
#pragma unroll 8
  for (int32_t id = c.count - 1 - thread(); id >= 0; id -= kChooseThreads) {
    if (c.value(id) == largest) best = -id;
  }
  return -block_max(best, c.shared.ints);
}

/// Bits in the order of the numbers.
PYGPT_DEVICE uint32_t ordered(float value) {
  const uint32_t bits = float_bits(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// The k-th largest of the keys key(id), ids that have none saying so by 0: byte by byte, from histograms.
template <class Key>
PYGPT_DEVICE uint32_t kth_largest(const Candidates& c, int32_t k, const Key& key) {
  ChooseShared& shared = c.shared;
  if (thread() == 0) {
    shared.prefix = 0;
    shared.left = k;
  }
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = thread(); i < 256; i += kChooseThreads) shared.bins[i] = 0;
    sync_block();
    const uint32_t prefix = shared.prefix;
    const uint32_t known = shift == 24 ? 0u : 0xffffffffu << (shift + 8);
    for (int32_t id = thread(); id < c.count; id += kChooseThreads) {
      const uint32_t bits = key(id);
      if ((bits & known) == prefix) add_shared(&shared.bins[bits >> shift & 0xffu], 1);
    }
    sync_block();
    if (thread() == 0) {
      int bin = 255;
      while (bin > 0 && shared.bins[bin] < shared.left) shared.left -= shared.bins[bin--];
      shared.prefix = prefix | static_cast<uint32_t>(bin) << shift;
    }
    sync_block();
  }
  return shared.prefix;
}

}  // namespace
}  // namespace pygpt::cuda
