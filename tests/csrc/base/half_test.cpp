// Every half and every rounding boundary, against arithmetic on the fields in double, where all of these values are
// exact.

#include "base/half.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "check.h"

namespace pygpt::test {
namespace {

struct HalfTraits {
  using Type = Half;
  static constexpr int kMantissa = 10;
  static constexpr int kBias = 15;
  static Type from(float value) { return to_half(value); }
};

struct BFloat16Traits {
  using Type = BFloat16;
  static constexpr int kMantissa = 7;
  static constexpr int kBias = 127;
  static Type from(float value) { return to_bfloat16(value); }
};

template <class Traits>
constexpr uint16_t infinity_bits() {
  return static_cast<uint16_t>((1 << 15) - (1 << Traits::kMantissa));
}

/// The value that sign, exponent and mantissa name; infinity and beyond as if the exponent went on.
template <class Traits>
double naive_value(uint32_t bits) {
  const double sign = bits & 0x8000u ? -1 : 1;
  const auto mantissa = static_cast<double>(bits & ((1u << Traits::kMantissa) - 1));
  const int exponent = static_cast<int>((bits & 0x7fffu) >> Traits::kMantissa);
  const double scale = 1 << Traits::kMantissa;
  if (exponent == 0) return sign * std::ldexp(mantissa / scale, 1 - Traits::kBias);
  return sign * std::ldexp(1 + mantissa / scale, exponent - Traits::kBias);
}

template <class Traits>
bool is_nan(uint32_t bits) {
  return (bits & 0x7fffu) > infinity_bits<Traits>();
}

template <class Traits>
void every_value_goes_there_and_back() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = to_float(typename Traits::Type{static_cast<uint16_t>(bits)});
    if (is_nan<Traits>(bits)) {
      expect(std::isnan(value) && is_nan<Traits>(Traits::from(value).bits), join("NaN ", bits));
      continue;
    }
    const bool infinite = (bits & 0x7fffu) == infinity_bits<Traits>();
    const double wanted = infinite ? std::copysign(std::numeric_limits<double>::infinity(), bits & 0x8000u ? -1.0 : 1.0)
                                   : naive_value<Traits>(bits);
    expect_equal(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(static_cast<float>(wanted)),
                 join("value of ", bits));
    expect_equal(Traits::from(value).bits, bits, "and back");
  }
}

template <class Traits>
void expect_rounds_to(double value, uint32_t bits) {
  const auto single = static_cast<float>(value);
  expect_equal(static_cast<double>(single), value, "the test's own value must be a float");
  expect_equal(Traits::from(single).bits, bits, join("rounding ", value));
  expect_equal(Traits::from(-single).bits, bits | 0x8000u, join("rounding ", -value));
}

/// Between two neighbours lies one boundary: below it the lower, above it the upper, on it the even one.
template <class Traits>
void every_boundary_rounds_to_nearest_even() {
  for (uint32_t lower = 0; lower < infinity_bits<Traits>(); ++lower) {
    const uint32_t upper = lower + 1;  // past the largest number this is infinity, and its value the next power of two
    const double boundary = (naive_value<Traits>(lower) + naive_value<Traits>(upper)) / 2;
    const auto middle = static_cast<float>(boundary);
    if (std::isinf(middle)) continue;  // bfloat16 ends where float does
    const uint32_t even = lower & 1 ? upper : lower;
    if (static_cast<double>(middle) == boundary) expect_rounds_to<Traits>(boundary, even);
    const float below = static_cast<double>(middle) < boundary ? middle : std::nextafter(middle, 0.0f);
    const float above = static_cast<double>(middle) > boundary
                            ? middle
                            : std::nextafter(middle, std::numeric_limits<float>::infinity());
    expect_rounds_to<Traits>(static_cast<double>(below), lower);
    if (!std::isinf(above)) expect_rounds_to<Traits>(static_cast<double>(above), upper);
  }
}

const Test half_values{"every binary16 means what its fields say, and survives the way to float and back",
                       every_value_goes_there_and_back<HalfTraits>};
const Test bfloat_values{"every bfloat16 means what its fields say, and survives the way to float and back",
                         every_value_goes_there_and_back<BFloat16Traits>};
const Test half_rounding{"floats around every boundary between two binary16 round to nearest even",
                         every_boundary_rounds_to_nearest_even<HalfTraits>};
const Test bfloat_rounding{"floats around every boundary between two bfloat16 round to nearest even",
                           every_boundary_rounds_to_nearest_even<BFloat16Traits>};

void flushing() {
#if defined(__x86_64__)
  const uint32_t before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040);  // as -ffast-math in some library, or torch.set_flush_denormal, leaves it
  every_value_goes_there_and_back<HalfTraits>();
  __builtin_ia32_ldmxcsr(before);
#endif
}
const Test flushing_test{"every binary16 survives in a thread that flushes subnormals to zero", flushing};

void extremes() {
  constexpr float kLargest = std::numeric_limits<float>::max();
  expect_equal(to_half(65519.996f).bits, 0x7bff);
  expect_equal(to_half(65520.0f).bits, 0x7c00);
  expect_equal(to_half(-kLargest).bits, 0xfc00);
  expect_equal(to_half(std::numeric_limits<float>::infinity()).bits, 0x7c00);
  expect_equal(to_half(0x1p-25f).bits, 0x0000);
  expect_equal(to_half(-0x1p-149f).bits, 0x8000);
  expect_equal(to_bfloat16(kLargest).bits, 0x7f80);
  // A NaN whose payload lies in the bits that are cut must not become infinity.
  const float quiet = std::bit_cast<float>(0x7f800001u);
  expect(std::isnan(to_float(to_bfloat16(quiet))) && std::isnan(to_float(to_half(quiet))), "NaN");
}
const Test extremes_test{"what is too large becomes infinity, what is too small zero, and NaN stays NaN", extremes};

}  // namespace
}  // namespace pygpt::test
