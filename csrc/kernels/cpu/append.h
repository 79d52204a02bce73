#pragma once

#include "formats/kv_types.h"
#include "kernels/cpu/byte_scale.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

/// Where the scales of a page's k or v lie, behind its elements.
template <class Kv>
inline const float* scales_of(const typename Kv::Element* page, int64_t width) {
  return reinterpret_cast<const float*>(page + width * kPageRows);
}

inline ByteScale byte_scale(const float* x, int width) {
  int32_t most = 0;  // as integers, so that a NaN is not lost
  for (int i = 0; i < width; ++i) {
    const int32_t magnitude = __builtin_bit_cast(int32_t, x[i]) & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  return byte_scale(__builtin_bit_cast(float, most));
}

inline int8_t to_byte(float x, float inverse) {
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest whole number
  const float whole = (x * inverse + round) - round;
  return whole >= -127.0f && whole <= 127.0f ? static_cast<int8_t>(whole) : int8_t{0};
}

template <class Kv>
void append(const AppendArgs& args) noexcept {
  auto* k = reinterpret_cast<typename Kv::Element*>(args.k_page);
  const int64_t padded = round_up(args.head_dim, kPanel);
  auto* v = reinterpret_cast<typename Kv::Element*>(args.v_page);
  if constexpr (Kv::kHasScales) {
    const ByteScale k_scale = byte_scale(args.k, args.head_dim);
    const ByteScale v_scale = byte_scale(args.v, args.head_dim);
    for (int d = 0; d < args.head_dim; ++d) {
      k[d * kPageRows + args.column] = to_byte(args.k[d], k_scale.inverse);
      v[args.column * padded + d] = to_byte(args.v[d], v_scale.inverse);
    }
    const_cast<float*>(scales_of<Kv>(k, args.head_dim))[args.column] = k_scale.scale;
    const_cast<float*>(scales_of<Kv>(v, padded))[args.column] = v_scale.scale;
  } else {
    alignas(64) typename Kv::Element column[kMaxHeadDim];
    for (int64_t d = 0; d < padded; d += Simd::kLanes) Simd::store(column + d, Simd::load(args.k + d));
    for (int d = 0; d < args.head_dim; ++d) k[d * kPageRows + args.column] = column[d];
    for (int64_t d = 0; d < padded; d += Simd::kLanes)
      Simd::store(v + args.column * padded + d, Simd::load(args.v + d));
  }
}

}  // namespace
}  // namespace pygpt
