#pragma once
// x86-64 with AVX2, FMA and F16C: Haswell (2013), Zen (2017) and later.

#include <immintrin.h>

#include <cstddef>

#include "base/half.h"
#include "formats/panel.h"
#include "kernels/cpu/f16c.h"

namespace pygpt {
namespace {

struct Simd {
  static constexpr const char* kName = "avx2";
  static constexpr int kLanes = 8;
  static constexpr int kPanelVecs = kPanel / kLanes;
  static constexpr int kTileRows = 6;      // 12 sums, 2 weights, 1 factor: 15 of 16 registers
  static constexpr int kByteTileRows = 4;  // 8 sums, 2 weights, 1 factor, 2 for the product
  static constexpr int kStreamPanels = 4;  // 8 chains of FMA hide its latency of 4 at 2 a cycle
  static constexpr int kByteStreamPanels = 4;
  using Vec = float __attribute__((vector_size(32)));
  using Int = int32_t __attribute__((vector_size(32)));
  using Bytes = __m256i;  // 4 neighbours in k of each of 8 columns
  struct Panel {
    Vec v[kPanelVecs];
  };
  struct IntPanel {
    Int v[kPanelVecs];
  };

  static bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && supports_f16c(); }

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
  static Vec load(const int8_t* from) {
    return Vec(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)))));
  }
  /// Whole numbers of at most 127 in size.
  static void store(int8_t* to, Vec value) {
    const __m256i whole = _mm256_cvtps_epi32(__m256(value));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi16(words, words));
  }
  /// In assembler: GCC 12 takes a function that only prefetches for one without effect and drops its calls.
  static void prefetch(const std::byte* at) { asm volatile("prefetcht0 %0" : : "m"(*at)); }

  static Bytes load_bytes(const std::byte* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void store_bytes(std::byte* to, Bytes value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  static void load_nibbles(const std::byte* from, const uint8_t (&levels)[16], Bytes& low, Bytes& high) {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(levels)));
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i both = load_bytes(from);
    low = _mm256_shuffle_epi8(table, _mm256_and_si256(both, mask));
    high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(both, 4), mask));
  }
  static Bytes broadcast_quad(const int8_t* from) {
    int32_t quad;
    __builtin_memcpy(&quad, from, sizeof quad);
    return _mm256_set1_epi32(quad);
  }
  static Int broadcast(int32_t value) { return Int(_mm256_set1_epi32(value)); }
  /// sums + the products of 4 unsigned weights and 4 signed activations a lane. Pairs are added in int16 on the way.
  static Int dot(Int sums, Bytes weights, Bytes x) {
    const __m256i pairs = _mm256_maddubs_epi16(weights, x);
    return Int(_mm256_add_epi32(__m256i(sums), _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
  }
  static Vec fma(Vec a, Vec b, Vec c) { return Vec(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }

 private:
  static __m128i load_16_bits(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
  static Vec bits_to_float(__m256i bits) { return Vec(_mm256_castsi256_ps(bits)); }
};

}  // namespace
}  // namespace pygpt
