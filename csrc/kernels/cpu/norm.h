#pragma once

#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

/// The sum of (x[i] - shift)^power for power 1 or 2: lanes over the full vectors, then the rest one by one.
template <int kPower>
inline float sum_of_powers(const float* x, int64_t width, float shift) {
  Vec sums = Simd::broadcast(0.0f);
  int64_t i = 0;
  for (; i + Simd::kLanes <= width; i += Simd::kLanes) {
    const Vec d = Simd::load(x + i) - Simd::broadcast(shift);
    sums = kPower == 1 ? sums + d : Simd::fma(d, d, sums);
  }
  float sum = sum_lanes(sums);
  for (; i < width; ++i) {
    const float d = x[i] - shift;
    sum += kPower == 1 ? d : d * d;
  }
  return sum;
}

void layer_norm(const LayerNormArgs& args) noexcept {
  const auto width = static_cast<float>(args.width);
  const float mean = sum_of_powers<1>(args.x, args.width, 0.0f) / width;
  const float variance = sum_of_powers<2>(args.x, args.width, mean) / width;
  const float scale = 1.0f / __builtin_sqrtf(variance + args.epsilon);
  for (int64_t i = 0; i < args.width; ++i) {
    const float value = (args.x[i] - mean) * scale * args.gain[i];
    args.out[i] = args.bias == nullptr ? value : value + args.bias[i];
  }
}

}  // namespace
}  // namespace pygpt
