#pragma once
// What kernels/cuda/lang.cuh offers, on the processor.

#include <bit>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "emulated/grid.h"

#define PYGPT_DEVICE inline
#define PYGPT_KERNEL(threads) void

namespace pygpt::cuda {
namespace {

using emulated::block_x;
using emulated::block_y;
using emulated::shared_memory;
using emulated::sync_block;
using emulated::sync_warp;
using emulated::thread;
using emulated::threads;

PYGPT_DEVICE float exchange(float value, int bits) {
  return std::bit_cast<float>(emulated::exchange(std::bit_cast<uint32_t>(value), bits));
}
PYGPT_DEVICE int exchange(int value, int bits) {
  return static_cast<int>(emulated::exchange(static_cast<uint32_t>(value), bits));
}

PYGPT_DEVICE Words load_words(const std::byte* from) { return *reinterpret_cast<const Words*>(from); }

PYGPT_DEVICE float half_to_float(uint16_t bits) { return to_float(Half{bits}); }
PYGPT_DEVICE uint16_t float_to_half(float value) { return to_half(value).bits; }
PYGPT_DEVICE uint32_t float_bits(float value) { return std::bit_cast<uint32_t>(value); }
PYGPT_DEVICE float bits_float(uint32_t bits) { return std::bit_cast<float>(bits); }

PYGPT_DEVICE int dot_bytes(uint32_t levels, int bytes, int sum) {
  for (int shift = 0; shift < 32; shift += 8)
    sum += static_cast<int>(levels >> shift & 0xffu) * static_cast<int8_t>(static_cast<uint32_t>(bytes) >> shift);
  return sum;
}

PYGPT_DEVICE uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t places) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  uint32_t picked = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t place = places >> 4 * i & 7u;
    picked |= static_cast<uint32_t>(bytes >> 8 * place & 0xffu) << 8 * i;
  }
  return picked;
}

PYGPT_DEVICE bool has_tiles() { return emulated::has_tiles; }

PYGPT_DEVICE float round_tf32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;
  return std::bit_cast<float>((bits + 0x1000u) & 0xffffe000u);  // ties away from zero
}

PYGPT_DEVICE void multiply_tiles(const float (&a)[4], float b0, float b1, float* sums) {
  emulated::multiply_tiles(a, b0, b1, sums);
}

PYGPT_DEVICE void add_shared(int32_t* to, int32_t value) { *to += value; }
PYGPT_DEVICE int32_t next_place(int32_t* counter) { return (*counter)++; }

template <class Args>
int launch(void (*kernel)(Args), int grid_x, int grid_y, int block, int64_t shared, void* stream, const Args& args) {
  auto& to = *static_cast<emulated::Stream*>(stream);
  to.submit(
      [=, order = to.order] { emulated::run_grid({grid_x, grid_y, block, shared}, order, [&] { kernel(args); }); });
  return 0;
}

}  // namespace
}  // namespace pygpt::cuda
