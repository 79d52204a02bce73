#pragma once
// The kernels of read_bandwidth.cu: each reads a stretch of memory some times over and adds it all up.

#include "bulk.cuh"

namespace lab {
namespace {

constexpr int kThreads = 512;
[[maybe_unused]] constexpr int kWarps = kThreads / 32;

/// What a launch reads: `count` words of 16 bytes, `passes` times; their sum is added to `sum`.
struct Job {
  const uint4* words;
  size_t count;
  int passes;
  uint32_t* sum;
  uint32_t* abort;
};

__host__ __device__ uint32_t pattern(size_t i) { return static_cast<uint32_t>(i) * 2654435761u + 12345u; }

/// Sum over i < n of pattern(i), modulo 2^32.
uint32_t sum_of_pattern(size_t n) {
  const uint64_t pairs = n % 2 == 0 ? n / 2 * (n - 1) : (n - 1) / 2 * n;
  return static_cast<uint32_t>(pairs) * 2654435761u + static_cast<uint32_t>(n) * 12345u;
}

__global__ void fill_kernel(uint32_t* words, size_t count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    words[i] = pattern(i);
  }
}

__device__ uint32_t added(uint4 word) { return word.x + word.y + word.z + word.w; }

__device__ void give(uint32_t* total, uint32_t mine) {
  mine = __reduce_add_sync(0xffffffff, mine);
  if (threadIdx.x % 32 == 0) atomicAdd(total, mine);
}

__device__ uint4 load_16(const uint4* from) {
  uint4 word;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(from));
  return word;
}

/// A thread has kUnroll loads under way; neighbouring threads read neighbouring words.
template <int kUnroll>
__global__ void __launch_bounds__(kThreads) plain_kernel(Job job) {
  const size_t stride = static_cast<size_t>(gridDim.x) * kThreads;
  uint32_t sum = 0;
  for (int pass = 0; pass < job.passes; ++pass) {
    size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
    for (; i + (kUnroll - 1) * stride < job.count; i += kUnroll * stride) {
      uint4 words[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) words[u] = load_16(job.words + i + u * stride);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) sum += added(words[u]);
    }
    for (; i < job.count; i += stride) sum += added(load_16(job.words + i));
  }
  give(job.sum, sum);
}

/// The same through shared memory: kStages copies of 16 bytes a thread are under way. A thread reads what it copied
/// itself, so there is no barrier.
template <int kStages>
__global__ void __launch_bounds__(kThreads) async_kernel(Job job) {
  extern __shared__ uint4 staged[];
  const size_t stride = static_cast<size_t>(gridDim.x) * kThreads;
  const size_t first = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const size_t mine = first < job.count ? (job.count - 1 - first) / stride + 1 : 0;
  const size_t all = mine * job.passes;
  uint32_t sum = 0;
  size_t place = 0;  // of the next copy within the pass
  const auto copy = [&](size_t n) {
    if (n < all) {
      const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(staged + n % kStages * kThreads + threadIdx.x));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(job.words + first + place * stride)
                   : "memory");
      place = place + 1 == mine ? 0 : place + 1;
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  for (size_t n = 0; n < kStages - 1; ++n) copy(n);
  for (size_t n = 0; n < all; ++n) {
    copy(n + kStages - 1);
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
    sum += added(staged[n % kStages * kThreads + threadIdx.x]);
  }
  give(job.sum, sum);
}

/// One block a multiprocessor: 16 warps read pages, the thread of a 17th loads them. A block's pages are one stretch of
/// memory, a page is free again when each reading warp said so.
template <bool kEvictFirst>
__global__ void __launch_bounds__(kThreads + 32, 1) ring_kernel(Job job, RingShape ring) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint4 pages[];
  __shared__ uint64_t full[kMostStages], empty[kMostStages];
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < ring.stages; ++stage) {
      barrier_init(full + stage, 1);
      barrier_init(empty + stage, kWarps);
    }
    barrier_fence();
  }
  __syncthreads();
  const size_t words = ring.page / sizeof(uint4), count = job.count / words;
  const size_t first = count * blockIdx.x / gridDim.x, mine = count * (blockIdx.x + 1) / gridDim.x - first;
  Patience patience(job.abort);
  uint32_t sum = 0, parity = 0;
  int stage = 0;
  const auto next = [&] {
    parity ^= ++stage == ring.stages;
    stage = stage == ring.stages ? 0 : stage;
  };
  if (threadIdx.x < kThreads) {
    for (size_t n = 0; n < mine * job.passes; ++n, next()) {
      patience.until([&] { return barrier_done(full + stage, parity); });
      if (__any_sync(0xffffffff, patience.lost())) break;  // the whole warp, or its lanes would wait for each other
      const uint4* page = pages + stage * words;
      for (size_t i = threadIdx.x; i < words; i += kThreads) sum += added(page[i]);
      __syncwarp();
      if (threadIdx.x % 32 == 0) barrier_arrive(empty + stage);
    }
    give(job.sum, sum);
  } else if (threadIdx.x == kThreads) {
    const uint64_t policy = evict_first();
    for (int pass = 0; pass < job.passes; ++pass) {
      for (size_t n = 0; n < mine; ++n, next()) {
        // The first turn finds every page free: the phase before the first counts as complete.
        patience.until([&] { return barrier_done(empty + stage, parity ^ 1); });
        if (patience.lost()) return;
        barrier_expect(full + stage, ring.page);
        bulk_load<kEvictFirst>(pages + stage * words, job.words + (first + n) * words, ring.page, full + stage, policy);
      }
    }
  }
#endif
}

}  // namespace
}  // namespace lab
