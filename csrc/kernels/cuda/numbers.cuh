#pragma once
// Numbers as weights and caches hold them, and the functions of a model on one number. Nothing is contracted: the build
// says -fmad=false, and what is fused says fmaf.

#include "base/half.h"
#include "kernels/cuda/lang.cuh"
#include "kernels/shapes.h"

namespace pygpt::cuda {
namespace {

PYGPT_DEVICE float number(float value) { return value; }
PYGPT_DEVICE float number(Half value) { return half_to_float(value.bits); }
PYGPT_DEVICE float number(BFloat16 value) { return bits_float(uint32_t{value.bits} << 16); }
PYGPT_DEVICE float number(int8_t value) { return static_cast<float>(value); }

/// The nearest value, ties to even; a NaN stays one.
PYGPT_DEVICE void put_number(float value, float* to) { *to = value; }
PYGPT_DEVICE void put_number(float value, Half* to) { to->bits = float_to_half(value); }
PYGPT_DEVICE void put_number(float value, BFloat16* to) {
  const uint32_t bits = float_bits(value);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  to->bits = static_cast<uint16_t>(nan ? bits >> 16 | 0x40u : rounded >> 16);
}

/// The activations of kernels/shapes.h: docs and sources beside those of the CPU. Each within a few units in the last
/// place of the largest of its parts.
PYGPT_DEVICE float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::relu: return x < 0 ? 0.0f : x;
    case Activation::gelu: return 0.5f * x * erfcf(x * -0.70710678f);
    case Activation::gelu_tanh: {
      const float cubic = fmaf(x * x, 0.044715f, 1.0f) * x;
      return x / (1.0f + expf(cubic * -1.59576912f));  // 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2u))
    }
    case Activation::silu: return x / (1.0f + expf(-x));
    case Activation::relu_squared: {
      const float positive = x < 0 ? 0.0f : x;
      return positive * positive;
    }
    case Activation::tanh: return tanhf(x);
  }
  return x;
}

/// What is smaller than this in every place counts as zero: its scale would have no inverse.
inline constexpr float kSmallest = 1e-30f;
inline constexpr float kLargestFinite = 3.40282347e38f;

/// How numbers become bytes: whole multiples of a 127th of the largest magnitude. Both are 0 for zeros; where `largest`
/// is not finite the inverse is 0, and the scale alone carries it on.
struct ByteScale {
  float scale;
  float inverse;
};

PYGPT_DEVICE ByteScale byte_scale(float largest) {
  if (largest < kSmallest) return {0.0f, 0.0f};
  return {largest / 127.0f, largest <= kLargestFinite ? 127.0f / largest : 0.0f};
}

PYGPT_DEVICE int8_t to_byte(float x, float inverse) {
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest whole number
  const float whole = (x * inverse + round) - round;
  return whole >= -127.0f && whole <= 127.0f ? static_cast<int8_t>(whole) : int8_t{0};
}

}  // namespace
}  // namespace pygpt::cuda
