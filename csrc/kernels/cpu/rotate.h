#pragma once

#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

void rotate(const RotateArgs& args) noexcept {
  float* x = args.x;
  float* y = args.x + args.pairs;
  int64_t i = 0;
  for (; i + Simd::kLanes <= args.pairs; i += Simd::kLanes) {
    const Vec a = Simd::load(x + i);
    const Vec b = Simd::load(y + i);
    const Vec cos = Simd::load(args.cos + i);
    const Vec sin = Simd::load(args.sin + i);
    Simd::store(x + i, a * cos - b * sin);
    Simd::store(y + i, b * cos + a * sin);
  }
  for (; i < args.pairs; ++i) {  // no fused steps here or above: a pair turns alike wherever it stands
    const float a = x[i];
    const float b = y[i];
    x[i] = a * args.cos[i] - b * args.sin[i];
    y[i] = b * args.cos[i] + a * args.sin[i];
  }
}

}  // namespace
}  // namespace pygpt
