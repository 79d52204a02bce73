#pragma once

#include "formats/byte_row.h"
#include "kernels/cpu/byte_scale.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

/// max |x| of a group. As integers, so that a NaN counts as more than infinity and is not lost.
inline float largest_magnitude(const float* x) {
  Int largest = Simd::broadcast(0);
  for (int64_t i = 0; i < kGroup; i += Simd::kLanes) {
    const Int magnitude = vec_bits(Simd::load(x + i)) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  int32_t lane[Simd::kLanes];
  __builtin_memcpy(lane, &largest, sizeof lane);
  int32_t most = 0;
  for (int i = 0; i < Simd::kLanes; ++i) most = lane[i] > most ? lane[i] : most;
  return __builtin_bit_cast(float, most);
}

/// The bytes of one group; returns their sum.
inline int32_t quantise_group(const float* x, float inverse, int8_t* bytes) {
  const Vec round = Simd::broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest whole number
  Vec sums = Simd::broadcast(0.0f);
  for (int64_t i = 0; i < kGroup; i += Simd::kLanes) {
    const Vec whole = (Simd::load(x + i) * Simd::broadcast(inverse) + round) - round;
    Simd::store(bytes + i, whole);
    sums = sums + whole;
  }
  return static_cast<int32_t>(sum_lanes(sums));  // of whole numbers, each at most 127: exact
}

void quantise(const QuantiseArgs& args) noexcept {
  const ByteRow row(args.k);
  auto* bytes = reinterpret_cast<int8_t*>(args.row);
  auto* scales = reinterpret_cast<float*>(args.row + row.scales());
  auto* starts = reinterpret_cast<int32_t*>(args.row + row.starts());
  for (int64_t group = args.first_group; group < args.last_group; ++group) {
    const float largest = largest_magnitude(args.x + group * kGroup);
    const bool finite = largest <= kLargestFinite;
    const ByteScale scale = byte_scale(largest);
    scales[group] = scale.scale;
    if (!finite) __builtin_memset(bytes + group * kGroup, 0, kGroup);
    const int32_t sum = finite ? quantise_group(args.x + group * kGroup, scale.inverse, bytes + group * kGroup) : 0;
    starts[group] = -kZeroPoint * sum;
  }
}

}  // namespace
}  // namespace pygpt
