#pragma once

#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

template <Vec (*function)(Vec)>
void gate(const GateArgs& args) noexcept {
  for (int64_t panel = 0; panel < args.panels; ++panel) {
    const float* gates = args.x + 2 * panel * kPanel;
    const float* ups = gates + kPanel;
    for (int i = 0; i < kPanel; i += Simd::kLanes)
      Simd::store(args.out + panel * kPanel + i, function(Simd::load(gates + i)) * Simd::load(ups + i));
  }
}

}  // namespace
}  // namespace pygpt
