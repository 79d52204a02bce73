#pragma once
// x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI: Ice Lake (2019), Zen 4 (2022) and later servers.

#include <immintrin.h>

#include <cstddef>

#include "base/half.h"
#include "formats/panel.h"
#include "kernels/cpu/f16c.h"

namespace pygpt {
namespace {

struct Simd {
  static constexpr const char* kName = "avx512";
  static constexpr int kLanes = 16;
  static constexpr int kPanelVecs = kPanel / kLanes;
  static constexpr int kTileRows = 12;      // 12 sums: enough chains for two units of latency 4, and every row block
  static constexpr int kByteTileRows = 12;  // is a whole number of tiles
  static constexpr int kStreamPanels = 4;
  static constexpr int kByteStreamPanels = 2;
  using Vec = float __attribute__((vector_size(64)));
  using Int = int32_t __attribute__((vector_size(64)));
  using Bytes = __m512i;  // 4 neighbours in k of each of 16 columns
  struct Panel {
    Vec v[kPanelVecs];
  };
  struct IntPanel {
    Int v[kPanelVecs];
  };

  static bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") && supports_f16c();
  }

  static Vec broadcast(float value) { return Vec(_mm512_set1_ps(value)); }
  static Vec load(const float* from) { return Vec(_mm512_loadu_ps(from)); }
  static Vec load(const Half* from) { return Vec(_mm512_cvtph_ps(load_16_bits(from))); }
  static Vec load(const BFloat16* from) {
    return bits_to_float(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_16_bits(from)), 16));
  }
  static void load_pairs(const BFloat16* from, Vec& even, Vec& odd) {
    const __m512i pairs = _mm512_loadu_si512(from);
    even = bits_to_float(_mm512_slli_epi32(pairs, 16));
    odd = bits_to_float(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static Vec load(const int8_t* from) {
    return Vec(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))));
  }
  static void store(float* to, Vec value) { _mm512_storeu_ps(to, __m512(value)); }
  static void store(Half* to, Vec value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(__m512(value), _MM_FROUND_TO_NEAREST_INT));
  }
  static void store(BFloat16* to, Vec value) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = to_bfloat16(value[lane]);
  }
  /// Whole numbers of at most 127 in size.
  static void store(int8_t* to, Vec value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(__m512(value))));
  }
  /// In assembler: GCC 12 takes a function that only prefetches for one without effect and drops its calls.
  static void prefetch(const std::byte* at) { asm volatile("prefetcht0 %0" : : "m"(*at)); }

  static Bytes load_bytes(const std::byte* from) { return _mm512_loadu_si512(from); }
  static void store_bytes(std::byte* to, Bytes value) { _mm512_storeu_si512(to, value); }
  static void load_nibbles(const std::byte* from, const uint8_t (&levels)[16], Bytes& low, Bytes& high) {
    const __m512i table = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(levels)));
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i both = load_bytes(from);
    low = _mm512_shuffle_epi8(table, _mm512_and_si512(both, mask));
    high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(both, 4), mask));
  }
  static Bytes broadcast_quad(const int8_t* from) {
    int32_t quad;
    __builtin_memcpy(&quad, from, sizeof quad);
    return _mm512_set1_epi32(quad);
  }
  static Int broadcast(int32_t value) { return Int(_mm512_set1_epi32(value)); }
  /// sums + the products of 4 unsigned weights and 4 signed activations a lane.
  static Int dot(Int sums, Bytes weights, Bytes x) { return Int(_mm512_dpbusd_epi32(__m512i(sums), weights, x)); }
  static Vec fma(Vec a, Vec b, Vec c) { return Vec(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }

 private:
  static __m256i load_16_bits(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static Vec bits_to_float(__m512i bits) { return Vec(_mm512_castsi512_ps(bits)); }
};

}  // namespace
}  // namespace pygpt
