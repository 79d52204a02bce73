#pragma once

#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

/// The sum of (x[i] - shift)^power for power 1 or 2: four vectors of partial sums, so that the additions do not wait
/// for each other, then what is left over.
template <int kPower>
inline float sum_of_powers(const float* x, int64_t width, float shift) {
  constexpr int kChains = 4;
  const auto add = [&](Vec sum, int64_t i) {
    const Vec d = Simd::load(x + i) - Simd::broadcast(shift);
    return kPower == 1 ? sum + d : Simd::fma(d, d, sum);
  };
  Vec sums[kChains] = {};
  int64_t i = 0;
  for (; i + kChains * Simd::kLanes <= width; i += kChains * Simd::kLanes) {
    for (int c = 0; c < kChains; ++c) sums[c] = add(sums[c], i + c * Simd::kLanes);
  }
  for (; i + Simd::kLanes <= width; i += Simd::kLanes) sums[0] = add(sums[0], i);
  float sum = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < width; ++i) {
    const float d = x[i] - shift;
    sum += kPower == 1 ? d : d * d;
  }
  return sum;
}

/// out = (x - mean) * gain / sqrt(variance + epsilon) + bias, the variance being the mean of (x - mean)^2.
inline void norm_about(float mean, const NormArgs& args) {
  const float variance = sum_of_powers<2>(args.x, args.width, mean) / static_cast<float>(args.width);
  const float scale = 1.0f / __builtin_sqrtf(variance + args.epsilon);
  for (int64_t i = 0; i < args.width; i += Simd::kLanes) {
    Vec value = (Simd::load(args.x + i) - Simd::broadcast(mean)) * Simd::broadcast(scale) * Simd::load(args.gain + i);
    if (args.bias != nullptr) value = value + Simd::load(args.bias + i);
    Simd::store(args.out + i, value);
  }
  // Whatever lies behind x: a row that is not finite may have left its mark there.
  for (int64_t i = args.width; i < round_up(args.width, kPanel); ++i) args.out[i] = 0.0f;
}

void layer_norm(const NormArgs& args) noexcept {
  norm_about(sum_of_powers<1>(args.x, args.width, 0.0f) / static_cast<float>(args.width), args);
}

void rms_norm(const NormArgs& args) noexcept { norm_about(0.0f, args); }

}  // namespace
}  // namespace pygpt
