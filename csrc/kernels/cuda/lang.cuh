#pragma once
// All that kernels use of CUDA beyond C++, so that the tests can put something else in its place: compiled by a plain
// C++ compiler, the same kernels run on the processor, thread for thread (tests/csrc/emulated).

#include <cstddef>
#include <cstdint>

namespace pygpt::cuda {
namespace {

inline constexpr int kWarp = 32;

/// What one thread reads of weights at a time.
struct alignas(16) Words {
  uint32_t word[4];
};

}  // namespace
}  // namespace pygpt::cuda

#if defined(__CUDACC__)

#define PYGPT_DEVICE __device__ __forceinline__
#define PYGPT_KERNEL(threads) __global__ void __launch_bounds__(threads)

namespace pygpt::cuda {
namespace {

PYGPT_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
PYGPT_DEVICE int threads() { return static_cast<int>(blockDim.x); }
PYGPT_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
PYGPT_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }

/// As many bytes as the launch asked for.
PYGPT_DEVICE std::byte* shared_memory() {
  extern __shared__ __align__(16) unsigned char pygpt_shared[];
  return reinterpret_cast<std::byte*>(pygpt_shared);
}

PYGPT_DEVICE void sync_block() { __syncthreads(); }
PYGPT_DEVICE void sync_warp() { __syncwarp(); }

/// What the lane has whose number differs in these bits. All lanes of the warp must call.
PYGPT_DEVICE float exchange(float value, int bits) { return __shfl_xor_sync(0xffffffffu, value, bits); }
PYGPT_DEVICE int exchange(int value, int bits) { return __shfl_xor_sync(0xffffffffu, value, bits); }

/// 16 bytes that nobody will want again soon.
PYGPT_DEVICE Words load_words(const std::byte* from) {
  Words to;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(to.word[0]), "=r"(to.word[1]), "=r"(to.word[2]), "=r"(to.word[3])
      : "l"(from));
  return to;
}

PYGPT_DEVICE float half_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

PYGPT_DEVICE uint16_t float_to_half(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

PYGPT_DEVICE uint32_t float_bits(float value) { return __float_as_uint(value); }
PYGPT_DEVICE float bits_float(uint32_t bits) { return __uint_as_float(bits); }

/// sum + the four products of an unsigned and a signed byte.
PYGPT_DEVICE int dot_bytes(uint32_t levels, int bytes, int sum) {
  int result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(levels), "r"(bytes), "r"(sum));
  return result;
}

/// Byte i is the byte of (low, high) whose number is nibble i of `places`, 0..7.
PYGPT_DEVICE uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t places) {
  return __byte_perm(low, high, places);
}

/// Whether the tensor cores multiply tf32 (from compute capability 8.0 on).
PYGPT_DEVICE constexpr bool has_tiles() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return true;
#else
  return false;
#endif
}

/// The nearest number with ten bits of mantissa.
PYGPT_DEVICE float round_tf32(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
#else
  return value;
#endif
}

/// sums [16, 8] += a [16, 8] b [8, 8] by a warp, of numbers with ten bits of mantissa (PTX's mma.m16n8k8). Lane (g, t)
/// of 8 x 4 has a at (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), b at (t, g), (t + 4, g), and sums at (g, 2t), (g,
/// 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
PYGPT_DEVICE void multiply_tiles(const float (&a)[4], float b0, float b1, float* sums) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
#endif
}

/// Of shared memory; whole numbers only, so that the order does not matter.
PYGPT_DEVICE void add_shared(int32_t* to, int32_t value) { atomicAdd(to, value); }

/// What a counter in shared memory said before this thread raised it by one. Which thread gets which is not fixed.
PYGPT_DEVICE int32_t next_place(int32_t* counter) { return atomicAdd(counter, 1); }

/// Launches a kernel; returns CUDA's error code, 0 if all is well.
template <class Args>
int launch(void (*kernel)(Args), int grid_x, int grid_y, int block, int64_t shared, void* stream, const Args& args) {
  if (shared > 48 << 10) {
    const cudaError_t refused = cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (refused != cudaSuccess) return refused;
  }
  kernel<<<dim3(static_cast<unsigned>(grid_x), static_cast<unsigned>(grid_y)), static_cast<unsigned>(block),
           static_cast<size_t>(shared), static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace
}  // namespace pygpt::cuda

#else
#include "emulated/lang.h"
#endif
