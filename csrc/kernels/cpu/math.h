#pragma once
// Elementary functions on vectors, with stated error bounds (held by tests/kernels/test_math.py).
// Included after the ISA's Simd; everything is internal to the object file.

namespace pygpt {
namespace {

using Vec = Simd::Vec;
using Int = Simd::Int;

inline Vec vec_max(Vec a, Vec b) { return a > b ? a : b; }

inline Int vec_bits(Vec value) {
  Int bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// The sum of the lanes, as a fixed tree: halves, then quarters, ...
inline float sum_lanes(Vec value) {
  float lane[Simd::kLanes];
  Simd::store(lane, value);
  for (int half = Simd::kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

inline float max_lanes(Vec value) {
  float lane[Simd::kLanes];
  Simd::store(lane, value);
  float largest = lane[0];
  for (int i = 1; i < Simd::kLanes; ++i) largest = lane[i] > largest ? lane[i] : largest;
  return largest;
}

/// e^x within 2 units in the last place for |x| < 87; exactly 1 at 0, exactly 0 below -87, infinity above 88; NaN stays
/// NaN. exp(x) = 2^n exp(r), |r| <= ln(2)/2, with the degree-5 polynomial of Cephes' expf (Moshier 1989).
inline Vec vec_exp(Vec x) {
  const Vec low = Simd::broadcast(-87.0f);
  const Vec high = Simd::broadcast(88.0f);
  const Vec round = Simd::broadcast(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  Vec clamped = x < low ? low : x;
  clamped = clamped > high ? high : clamped;
  const Vec n = Simd::fma(clamped, Simd::broadcast(1.44269504f), round) - round;
  const Vec r = Simd::fma(n, Simd::broadcast(2.12194440e-4f), Simd::fma(n, Simd::broadcast(-0.693359375f), clamped));
  Vec p = Simd::broadcast(1.9875691500e-4f);
  p = Simd::fma(p, r, Simd::broadcast(1.3981999507e-3f));
  p = Simd::fma(p, r, Simd::broadcast(8.3334519073e-3f));
  p = Simd::fma(p, r, Simd::broadcast(4.1665795894e-2f));
  p = Simd::fma(p, r, Simd::broadcast(1.6666665459e-1f));
  p = Simd::fma(p, r, Simd::broadcast(5.0000001201e-1f));
  p = Simd::fma(p, r * r, r) + Simd::broadcast(1.0f);
  const Int power = (__builtin_convertvector(n, Int) + 127) << 23;
  Vec result;
  Vec scale;
  __builtin_memcpy(&scale, &power, sizeof scale);
  result = p * scale;
  result = x < low ? Simd::broadcast(0.0f) : result;
  return x > high ? Simd::broadcast(__builtin_inff()) : result;
}

/// 1 - erf(z) for z >= 0. Relative error: 1.2e-7 of the fit, and some roundings of z * z, which the exponential makes
/// 2e-5 at z = 8; there it is 1e-29 itself.
/// Chebyshev fit of Numerical Recipes (Press et al., 3rd edition, section 6.2.2, the short form).
inline Vec vec_erfc_nonnegative(Vec z) {
  const Vec t = Simd::broadcast(1.0f) / Simd::fma(z, Simd::broadcast(0.5f), Simd::broadcast(1.0f));
  Vec p = Simd::broadcast(0.17087277f);
  p = Simd::fma(p, t, Simd::broadcast(-0.82215223f));
  p = Simd::fma(p, t, Simd::broadcast(1.48851587f));
  p = Simd::fma(p, t, Simd::broadcast(-1.13520398f));
  p = Simd::fma(p, t, Simd::broadcast(0.27886807f));
  p = Simd::fma(p, t, Simd::broadcast(-0.18628806f));
  p = Simd::fma(p, t, Simd::broadcast(0.09678418f));
  p = Simd::fma(p, t, Simd::broadcast(0.37409196f));
  p = Simd::fma(p, t, Simd::broadcast(1.00002368f));
  p = Simd::fma(p, t, Simd::broadcast(-1.26551223f));
  return t * vec_exp(p - z * z);
}

inline Vec relu(Vec x) { return x < Simd::broadcast(0.0f) ? Simd::broadcast(0.0f) : x; }

/// Within 4 units in the last place; NaN stays NaN. Near zero an odd polynomial, since 1 - 2 / (e^2x + 1) loses there
/// what it subtracts (Cephes' tanhf, Moshier 1989).
inline Vec vec_tanh(Vec x) {
  const Vec size = x < Simd::broadcast(0.0f) ? -x : x;
  const Vec square = x * x;
  Vec p = Simd::broadcast(-5.70498872745e-3f);
  p = Simd::fma(p, square, Simd::broadcast(2.06390887954e-2f));
  p = Simd::fma(p, square, Simd::broadcast(-5.37397155531e-2f));
  p = Simd::fma(p, square, Simd::broadcast(1.33314422036e-1f));
  p = Simd::fma(p, square, Simd::broadcast(-3.33332819422e-1f));
  const Vec near = Simd::fma(p * square, x, x);
  const Vec rest = Simd::broadcast(2.0f) / (vec_exp(size + size) + Simd::broadcast(1.0f));
  const Vec far = Simd::broadcast(1.0f) - rest;
  const Vec signed_far = x < Simd::broadcast(0.0f) ? -far : far;
  return size < Simd::broadcast(0.625f) ? near : signed_far;
}

/// x * Phi(x), Hendrycks and Gimpel 2016: PyTorch's GELU(approximate="none").
inline Vec gelu(Vec x) {
  const Vec z = x < Simd::broadcast(0.0f) ? -x : x;
  const Vec tail = Simd::broadcast(0.5f) * x * vec_erfc_nonnegative(z * Simd::broadcast(0.70710678f));
  return x < Simd::broadcast(0.0f) ? tail : x - tail;
}

/// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): the approximation that GPT-2 was trained with.
inline Vec gelu_tanh(Vec x) {
  const Vec cubic = Simd::fma(x * x, Simd::broadcast(0.044715f), Simd::broadcast(1.0f)) * x;
  const Vec twice = cubic * Simd::broadcast(-1.59576912f);  // 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2u))
  return x / (Simd::broadcast(1.0f) + vec_exp(twice));
}

/// x / (1 + e^-x), Elfwing, Uchibe and Doya 2017, arXiv:1702.03118. Within 5 units in the last place for x > -87, and
/// within 1e-35 below, where it becomes zero.
inline Vec silu(Vec x) { return x / (Simd::broadcast(1.0f) + vec_exp(-x)); }

}  // namespace
}  // namespace pygpt
