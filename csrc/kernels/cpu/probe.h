#pragma once
// What one core can do at most, each as a loop of nothing else: reading memory, multiply-adds, dot products of bytes.
// The roofs that `pygpt bench` holds the engine against.

#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));

constexpr int64_t kProbeLine = 64;        // bytes of a cache line
constexpr int64_t kPrefetchAhead = 1024;  // bytes: what the streaming kernels of other engines use
constexpr int kChains = 12;               // sums under way: an FMA takes 4 to 5 cycles, two start in each

inline Words load_words(const std::byte* from) {
  Words words;
  __builtin_memcpy(&words, from, sizeof words);
  return words;
}

/// The sum of the words of one cache line, lane by lane.
inline Words sum_of_line(const std::byte* from) {
  Words sum = load_words(from);
  for (size_t i = sizeof(Words); i < kProbeLine; i += sizeof(Words)) sum = sum + load_words(from + i);
  return sum;
}

/// A request for a line that may lie behind the memory's end: it never faults.
inline void prefetch_line(const std::byte* from) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from) + kPrefetchAhead));
}

template <int kStreams, bool kPrefetch>
uint32_t read_streams(const std::byte* from, int64_t bytes) noexcept {
  const int64_t part = bytes / kStreams;
  Words sums[kStreams] = {};
  for (int64_t at = 0; at < part; at += kProbeLine) {
#pragma GCC unroll 8
    for (int stream = 0; stream < kStreams; ++stream) {
      const std::byte* line = from + stream * part + at;
      if constexpr (kPrefetch) prefetch_line(line);
      sums[stream] = sums[stream] + sum_of_line(line);
    }
  }
  for (int stream = 1; stream < kStreams; ++stream) sums[0] = sums[0] + sums[stream];
  uint32_t sum = 0;
  for (int lane = 0; lane < Simd::kLanes; ++lane) sum += sums[0][lane];
  return sum;
}

template <bool kPrefetch>
uint32_t read_as(const std::byte* from, int64_t bytes, int streams) noexcept {
  if (streams == 1) return read_streams<1, kPrefetch>(from, bytes);
  if (streams == 4) return read_streams<4, kPrefetch>(from, bytes);
  return read_streams<8, kPrefetch>(from, bytes);
}

uint32_t probe_read(const std::byte* from, int64_t bytes, int streams, bool prefetch) noexcept {
  return prefetch ? read_as<true>(from, bytes, streams) : read_as<false>(from, bytes, streams);
}

/// Each chain is a different number on its way to 2, so that no compiler can compute one for all.
float probe_fma(int64_t iterations) noexcept {
  const Vec half = Simd::broadcast(0.5f);
  const Vec one = Simd::broadcast(1.0f);
  Vec sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = Simd::broadcast(static_cast<float>(i));
  for (int64_t iteration = 0; iteration < iterations; ++iteration) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = Simd::fma(sums[i], half, one);
  }
  for (int i = 1; i < kChains; ++i) sums[0] = sums[0] + sums[i];
  return sum_lanes(sums[0]);
}

inline Int dot_of(Int sums, Int weights, Int x) {
  Simd::Bytes weight_bytes;
  Simd::Bytes x_bytes;
  __builtin_memcpy(&weight_bytes, &weights, sizeof weight_bytes);
  __builtin_memcpy(&x_bytes, &x, sizeof x_bytes);
  return Simd::dot(sums, weight_bytes, x_bytes);
}

/// The sums are factors as well: a product of two constants would be computed once.
int32_t probe_dot8(int64_t iterations) noexcept {
  const Int factors = Int{} + 0x01020304;
  Int sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = factors + i;
  for (int64_t iteration = 0; iteration < iterations; ++iteration) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = dot_of(sums[i], sums[i], factors);
  }
  int32_t mixed = 0;
  for (int i = 0; i < kChains; ++i) mixed ^= sums[i][0];
  return mixed;
}

constexpr ProbeTable kProbes = {
    .read = probe_read,
    .fma = probe_fma,
    .fma_flops = 2 * kChains * Simd::kLanes,
    .dot8 = probe_dot8,
    .dot8_ops = 2 * kChains * static_cast<int64_t>(sizeof(Int)),
};

}  // namespace
}  // namespace pygpt
