#pragma once
// x86-64 with AVX2, FMA and F16C: Haswell (2013), Zen (2017) and later.

#include <immintrin.h>

#include "base/half.h"
#include "formats/panel.h"

namespace pygpt {
namespace {

struct Simd {
  static constexpr const char* kName = "avx2";
  static constexpr int kLanes = 8;
  static constexpr int kPanelVecs = kPanel / kLanes;
  static constexpr int kTileRows = 6;      // 12 sums, 2 weights, 1 factor: 15 of 16 registers
  static constexpr int kStreamPanels = 4;  // 8 chains of FMA hide its latency of 4 at 2 a cycle
  using Vec = float __attribute__((vector_size(32)));
  using Int = int32_t __attribute__((vector_size(32)));
  struct Panel {
    Vec v[kPanelVecs];
  };

  static bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }

  static Vec broadcast(float value) { return Vec(_mm256_set1_ps(value)); }
  static Vec load(const float* from) { return Vec(_mm256_loadu_ps(from)); }
  static Vec load(const Half* from) { return Vec(_mm256_cvtph_ps(load_16_bits(from))); }
  static Vec load(const BFloat16* from) {
    return bits_to_float(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bits(from)), 16));
  }
  static void load_pairs(const BFloat16* from, Vec& even, Vec& odd) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    even = bits_to_float(_mm256_slli_epi32(pairs, 16));
    odd = bits_to_float(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static void store(float* to, Vec value) { _mm256_storeu_ps(to, __m256(value)); }
  static void store(Half* to, Vec value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(__m256(value), _MM_FROUND_TO_NEAREST_INT));
  }
  static void store(BFloat16* to, Vec value) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = to_bfloat16(value[lane]);
  }
  static Vec fma(Vec a, Vec b, Vec c) { return Vec(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }

  /// sums + the products of unsigned and signed bytes, four by four. Pairs of products saturate at 16 bits.
  static Int dot8(Int sums, Int unsigned_bytes, Int signed_bytes) {
    const __m256i pairs = _mm256_maddubs_epi16(__m256i(unsigned_bytes), __m256i(signed_bytes));
    return Int(_mm256_add_epi32(__m256i(sums), _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
  }

 private:
  static __m128i load_16_bits(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
  static Vec bits_to_float(__m256i bits) { return Vec(_mm256_castsi256_ps(bits)); }
};

}  // namespace
}  // namespace pygpt
