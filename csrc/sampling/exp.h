#pragma once

#include <cstdint>
#include <cstring>

#include "sampling/device.h"

namespace pygpt::sampling {

/// e^x for x <= 0, within 2 units in the last place; exactly 1 at 0, exactly 0 below -87 and for NaN.
/// exp(x) = 2^n exp(r), |r| <= ln(2)/2, with the degree-5 polynomial of Cephes' expf (Moshier 1989).
PYGPT_HOST_DEVICE inline float exp_nonpositive(float x) {
  if (!(x >= -87.0f)) return 0.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float shifted = add(multiply(x, 1.44269504f), kRound);
  const float n = add(shifted, -kRound);
  const float r = add(add(x, multiply(n, -0.693359375f)), multiply(n, 2.12194440e-4f));  // ln 2 in two parts
  float p = 1.9875691500e-4f;
  p = add(multiply(p, r), 1.3981999507e-3f);
  p = add(multiply(p, r), 8.3334519073e-3f);
  p = add(multiply(p, r), 4.1665795894e-2f);
  p = add(multiply(p, r), 1.6666665459e-1f);
  p = add(multiply(p, r), 5.0000001201e-1f);
  p = add(add(multiply(multiply(p, r), r), r), 1.0f);
  const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  float power = 0;
  memcpy(&power, &bits, sizeof power);
  return multiply(p, power);
}

}  // namespace pygpt::sampling
