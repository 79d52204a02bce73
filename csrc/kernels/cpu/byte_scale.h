#pragma once
// How numbers become bytes, in activations and in the cache: whole multiples of a 127th of the largest magnitude.

namespace pygpt {
namespace {

/// What is smaller than this in every place counts as zero: its scale would have no inverse.
inline constexpr float kSmallest = 1e-30f;
inline constexpr float kLargestFinite = 3.40282347e38f;

/// The scale, and its inverse: both 0 for zeros. Where `largest` is not finite the inverse is 0, and the scale alone
/// carries it on.
struct ByteScale {
  float scale = 0;
  float inverse = 0;
};

inline ByteScale byte_scale(float largest) {
  if (largest < kSmallest) return {};
  return {largest / 127.0f, largest <= kLargestFinite ? 127.0f / largest : 0.0f};
}

}  // namespace
}  // namespace pygpt
