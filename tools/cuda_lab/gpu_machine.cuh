#pragma once
// The Machine of exchange.h on a GPU: one thread of a thread block. PTX's memory model: relaxed and acquire loads of
// scope gpu do not stop at L1, and each element of a vector access is by itself never torn.

#include "exchange.h"
#include "lab.cuh"

namespace lab {

constexpr int kThreads = 512;  // of a block
constexpr int kWarps = kThreads / 32;

class GpuMachine {
 public:
  __device__ explicit GpuMachine(uint32_t* abort) : patience(abort) {}

  __device__ int block() const { return static_cast<int>(blockIdx.x); }
  __device__ int blocks() const { return static_cast<int>(gridDim.x); }
  __device__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return kThreads; }
  __device__ void block_barrier() const { __syncthreads(); }

  /// One barrier a call: two calls in a row use different memory. Every thread adds the same numbers in the same order.
  __device__ float block_sum(float mine) {
    __shared__ float of_warp[2][kWarps];
    turn_ ^= 1;
    for (int apart = 16; apart > 0; apart /= 2) mine += __shfl_xor_sync(0xffffffff, mine, apart);
    if (threadIdx.x % 32 == 0) of_warp[turn_][threadIdx.x / 32] = mine;
    __syncthreads();
    float sum = 0;
    for (int warp = 0; warp < kWarps; ++warp) sum += of_warp[turn_][warp];
    return sum;
  }

  template <class Ready>
  __device__ void until(Ready ready) {
    patience.until(ready);
  }

  __device__ uint32_t load_acquire(const uint32_t* from) const {
    uint32_t value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
  }
  __device__ void store_release(uint32_t* to, uint32_t value) const {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
  }
  __device__ void add_release(uint32_t* to) const {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory");
  }
  __device__ Pair load_2x64(const uint64_t* from) const {
    Pair pair;
    asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(pair.a), "=l"(pair.b) : "l"(from) : "memory");
    return pair;
  }
  __device__ void store_64(uint64_t* to, uint64_t value) const {
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
  }
  __device__ Quad load_4x32(const uint32_t* from) const {
    Quad quad;
    asm volatile("ld.relaxed.gpu.global.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(quad.a), "=r"(quad.b), "=r"(quad.c), "=r"(quad.d)
                 : "l"(from)
                 : "memory");
    return quad;
  }
  __device__ void store_32(uint32_t* to, uint32_t value) const {
    asm volatile("st.relaxed.gpu.global.b32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
  }
  __device__ Floats load_4_plain(const float* from) const {
    Floats floats;
    asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(floats.a), "=f"(floats.b), "=f"(floats.c), "=f"(floats.d)
                 : "l"(from)
                 : "memory");
    return floats;
  }
  /// __threadfence() would be sequentially consistent, which costs more than is needed.
  __device__ void fence() const { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

  Patience patience;

 private:
  int turn_ = 0;
};

/// What a launch of rounds is told and leaves behind.
struct Job {
  int width;
  uint32_t rounds;
  uint32_t* abort;
  uint32_t* history;  ///< a word a block
};

/// Whether nobody gave up and every block saw every sum.
inline bool verified(const Buffer<uint32_t>& abort, const Buffer<uint32_t>& history, uint32_t expected) {
  const auto seen = history.read();
  return abort.read()[0] == 0 && std::all_of(seen.begin(), seen.end(), [&](uint32_t each) { return each == expected; });
}

}  // namespace lab
