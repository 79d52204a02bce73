#pragma once
// The two 16-bit floats, and their exact conversions in plain integer arithmetic (round to nearest, ties to even).
// Kernels include this: no std templates here, see docs/architecture.md, "The ODR trap".

#include <cstdint>

namespace pygpt {

/// IEEE binary16.
struct Half {
  uint16_t bits;
};

/// The upper half of an IEEE binary32.
struct BFloat16 {
  uint16_t bits;
};

[[gnu::always_inline]] inline float to_float(float value) { return value; }

[[gnu::always_inline]] inline float to_float(BFloat16 value) {
  return __builtin_bit_cast(float, uint32_t{value.bits} << 16);
}

[[gnu::always_inline]] inline float to_float(Half value) {
  // Shift exponent and mantissa into place and rebias. A subnormal is given the exponent of 2^-14 and loses it again in
  // an exact subtraction: no operand is a subnormal float, which a thread may be set to flush to zero.
  const uint32_t magnitude = (value.bits & 0x7fffu) << 13;
  const uint32_t exponent = value.bits & 0x7c00u;
  const float subnormal = __builtin_bit_cast(float, magnitude + 0x38800000u) - 0x1p-14f;
  const uint32_t rebiased =
      magnitude + (exponent == 0x7c00u ? 0x70000000u : 0x38000000u);  // infinity and NaN: 31 to 255
  const uint32_t bits = exponent == 0 ? __builtin_bit_cast(uint32_t, subnormal) : rebiased;
  return __builtin_bit_cast(float, bits | (uint32_t{value.bits} & 0x8000u) << 16);
}

// The next two compute every case and choose, without a branch: compilers make vectors of loops over them.

[[gnu::always_inline]] inline BFloat16 to_bfloat16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  const uint32_t nan = bits | 0x400000u;  // kept a (quiet) NaN
  return {static_cast<uint16_t>(((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded) >> 16)};
}

[[gnu::always_inline]] inline Half to_half(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  // Below 2^-14: adding 0.5 aligns the mantissa to the subnormal grid and rounds it.
  const float aligned = __builtin_bit_cast(float, magnitude) + 0.5f;
  const uint32_t subnormal = __builtin_bit_cast(uint32_t, aligned) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // 65520 and above round to infinity
  half = magnitude > 0x7f800000u ? 0x7e00u : half;   // NaN
  return {static_cast<uint16_t>(sign | half)};
}

/// The nearest value of the type of `to`: for templates over element types.
[[gnu::always_inline]] inline void convert(float value, float& to) { to = value; }
[[gnu::always_inline]] inline void convert(float value, Half& to) { to = to_half(value); }
[[gnu::always_inline]] inline void convert(float value, BFloat16& to) { to = to_bfloat16(value); }

}  // namespace pygpt
