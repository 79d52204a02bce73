#pragma once
// One to eight tokens times a matrix, by FMA and by mma.sync, for weights in bf16 and in q8 (bytes; each 64 of a row
// and of a token share a scale). A block keeps the tokens in shared memory and goes through strips of rows; no sum is
// split by how many tokens there are.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "lab.cuh"

namespace lab {

constexpr int kGemvThreads = 256;
constexpr int kGemvWarps = kGemvThreads / 32;
constexpr int kFmaRows = 4;   // of a warp's strip
constexpr int kMmaRows = 16;  // of a block's strip
constexpr int kMmaTokens = 8;
constexpr int kGroup = 64;  // weights of a row under one scale

/// `matrices` matrices of [n, k], one after the other, times [tokens, k].
struct GemvJob {
  const unsigned char* weights;  ///< row by row for FMA, in tiles for mma
  const __half* scales;          ///< [matrices * n, k / kGroup] for FMA with q8; mma has them in the tiles
  const uint4* x;                ///< [tokens, k]
  const float* x_scales;         ///< [tokens, k / kGroup] for q8
  float* y;                      ///< [matrices, tokens, n]
  int n, k, tokens, matrices;
};

__device__ inline float low_half(uint32_t two) { return __uint_as_float(two << 16); }
__device__ inline float high_half(uint32_t two) { return __uint_as_float(two & 0xffff0000u); }

__device__ inline float dot_bf16(uint32_t w, uint32_t x, float sum) {
  return fmaf(high_half(w), high_half(x), fmaf(low_half(w), low_half(x), sum));
}

/// bf16: 8 weights in 16 bytes; a tile is 16 rows of 32 k.
struct Bf16 {
  static constexpr const char* kName = "bf16";
  static constexpr bool kScaled = false;
  static constexpr int kWeightBytes = 2;
  static constexpr int kTileK = 32;
  static constexpr int kTileBytes = kMmaRows * kTileK * 2;

  /// sum += w x, 16 bytes of each.
  __device__ static void fma(float& sum, uint4 w, uint4 x, float) {
    sum = dot_bf16(w.x, x.x, sum);
    sum = dot_bf16(w.y, x.y, sum);
    sum = dot_bf16(w.z, x.z, sum);
    sum = dot_bf16(w.w, x.w, sum);
  }
  __device__ static float scale(const GemvJob&, int64_t, int) { return 1; }
  __device__ static float x_scale(const float*, int) { return 1; }

  /// The tile's rows g and g + 8 times 8 tokens. A lane's 8 weights of a row are the k of both products: which k a slot
  /// of the fragment stands for is free, as long as it is the same for weights and tokens.
  __device__ static void mma(float (&sums)[4], uint4 low, uint4 high, uint4 x, const unsigned char*, const float*,
                             int) {
    product(sums, low.x, high.x, low.y, high.y, x.x, x.y);
    product(sums, low.z, high.z, low.w, high.w, x.z, x.w);
  }

 private:
  __device__ static void product(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                 uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, "
        "%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
};

/// q8: 16 weights in 16 bytes; a tile is 16 rows of 64 k, one group, and the 16 rows' scales behind them.
struct Q8 {
  static constexpr const char* kName = "q8";
  static constexpr bool kScaled = true;
  static constexpr int kWeightBytes = 1;
  static constexpr int kTileK = kGroup;
  static constexpr int kScalesAt = kMmaRows * kTileK;
  static constexpr int kTileBytes = kScalesAt + kMmaRows * 2;

  __device__ static void fma(float& sum, uint4 w, uint4 x, float scale) {
    int products = __dp4a(static_cast<int>(w.x), static_cast<int>(x.x), 0);
    products = __dp4a(static_cast<int>(w.y), static_cast<int>(x.y), products);
    products = __dp4a(static_cast<int>(w.z), static_cast<int>(x.z), products);
    products = __dp4a(static_cast<int>(w.w), static_cast<int>(x.w), products);
    sum = fmaf(static_cast<float>(products), scale, sum);
  }
  /// Of the 16 bytes number `chunk` of a row: four of them make a group.
  __device__ static float scale(const GemvJob& job, int64_t row, int chunk) {
    return __half2float(job.scales[row * (job.k / kGroup) + chunk / 4]);
  }
  __device__ static float x_scale(const float* scales, int chunk) { return scales[chunk / 4]; }

  __device__ static void mma(float (&sums)[4], uint4 low, uint4 high, uint4 x, const unsigned char* tile,
                             const float* x_scales, int groups) {
    int products[4] = {};
    product(products, low.x, high.x, low.y, high.y, x.x, x.y);
    product(products, low.z, high.z, low.w, high.w, x.z, x.w);
    const auto* scales = reinterpret_cast<const __half*>(tile + kScalesAt);
    const int lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4, token = lane % 4 * 2;
    const float first = x_scales[token * groups], second = x_scales[(token + 1) * groups];
    const float of_low = __half2float(scales[row]), of_high = __half2float(scales[row + 8]);
    sums[0] = fmaf(static_cast<float>(products[0]), of_low * first, sums[0]);
    sums[1] = fmaf(static_cast<float>(products[1]), of_low * second, sums[1]);
    sums[2] = fmaf(static_cast<float>(products[2]), of_high * first, sums[2]);
    sums[3] = fmaf(static_cast<float>(products[3]), of_high * second, sums[3]);
  }

 private:
  __device__ static void product(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                 uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
};

/// Tokens and their scales in shared memory. A row of x is 64 bytes longer than a multiple of 128, so the eight tokens
/// of a fragment lie in different banks.
struct Tokens {
  uint4* x;
  float* scales;  ///< [kMmaTokens, groups]
  int pitch;      ///< of x, in 16 bytes

  __host__ __device__ static int pitch_of(int k_bytes) { return (k_bytes + 127) / 128 * 8 + 4; }
  __host__ __device__ static size_t bytes(int tokens, int k, int weight_bytes) {
    return size_t{16} * tokens * pitch_of(k * weight_bytes) + sizeof(float) * kMmaTokens * (k / kGroup);
  }

  template <class Format>
  __device__ static Tokens load(const GemvJob& job, uint4* shared) {
    const int chunks = job.k * Format::kWeightBytes / 16, groups = job.k / kGroup;
    const Tokens here{shared, reinterpret_cast<float*>(shared + job.tokens * pitch_of(chunks * 16)),
                      pitch_of(chunks * 16)};
    for (int i = static_cast<int>(threadIdx.x); i < job.tokens * chunks; i += kGemvThreads) {
      here.x[i / chunks * here.pitch + i % chunks] = job.x[i];
    }
    for (int i = static_cast<int>(threadIdx.x); i < kMmaTokens * groups; i += kGemvThreads) {
      here.scales[i] = i < job.tokens * groups ? job.x_scales[i] : 0;
    }
    __syncthreads();
    return here;
  }
};

/// A warp takes 4 rows at once; a lane every 32nd 16 bytes of each. Reads each weight once: 16-byte loads, kAhead of
/// each row under way. The lanes' sums meet in a fixed tree.
template <class Format, int kTokens>
__global__ void __launch_bounds__(kGemvThreads) fma_kernel(GemvJob job) {
  constexpr int kAhead = kTokens < 8 ? 2 : 1;
  extern __shared__ uint4 shared[];
  const Tokens tokens = Tokens::load<Format>(job, shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, chunks = job.k * Format::kWeightBytes / 16;
  const int64_t strips = int64_t{job.n} * job.matrices / kFmaRows;
  // A small matrix's strips go to all multiprocessors, not to the warps of a few.
  const int64_t warp = int64_t{threadIdx.x / 32} * gridDim.x + blockIdx.x;
  for (int64_t strip = warp; strip < strips; strip += int64_t{gridDim.x} * kGemvWarps) {
    const auto* rows = reinterpret_cast<const uint4*>(job.weights) + strip * kFmaRows * chunks;
    float sums[kFmaRows][kTokens] = {};
    for (int chunk = lane; chunk < chunks; chunk += 32 * kAhead) {
      uint4 w[kAhead][kFmaRows];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
#pragma unroll
        for (int r = 0; r < kFmaRows; ++r) {
          const bool inside = chunk + 32 * a < chunks;
          w[a][r] = inside ? __ldcs(rows + r * chunks + chunk + 32 * a) : uint4{};
        }
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int here = min(chunk + 32 * a, chunks - 1);  // beyond the end weights are 0
#pragma unroll
        for (int r = 0; r < kFmaRows; ++r) {
          const float scale = Format::scale(job, strip * kFmaRows + r, here);
#pragma unroll
          for (int t = 0; t < kTokens; ++t) {
            const float both = scale * Format::x_scale(tokens.scales + t * (job.k / kGroup), here);
            Format::fma(sums[r][t], w[a][r], tokens.x[t * tokens.pitch + here], both);
          }
        }
      }
    }
    const int64_t matrix = strip * kFmaRows / job.n, row = strip * kFmaRows % job.n;
#pragma unroll
    for (int r = 0; r < kFmaRows; ++r) {
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        float sum = sums[r][t];
        for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffff, sum, apart);
        if (lane == 0) job.y[(matrix * kTokens + t) * job.n + row + r] = sum;
      }
    }
  }
}

/// A block takes 16 rows at once; warp w every 8th tile from the w-th on, 4 tiles (128 bytes a lane) under way. Tokens
/// are the 8 columns, however many there are. The warps' sums meet in shared memory, in their order.
template <class Format>
__global__ void __launch_bounds__(kGemvThreads) mma_kernel(GemvJob job) {
  constexpr int kAhead = 4;
  extern __shared__ uint4 shared[];
  __shared__ float of_warp[kGemvWarps][kMmaRows * kMmaTokens];
  const Tokens tokens = Tokens::load<Format>(job, shared);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int tiles = job.k / Format::kTileK, groups = job.k / kGroup;
  const bool has_token = lane / 4 < job.tokens;
  for (int64_t strip = blockIdx.x; strip < int64_t{job.n} * job.matrices / kMmaRows; strip += gridDim.x) {
    const unsigned char* strip_tiles = job.weights + strip * tiles * Format::kTileBytes;
    float sums[4] = {};
    for (int tile = warp; tile < tiles; tile += kGemvWarps * kAhead) {
      uint4 low[kAhead], high[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int here = tile + a * kGemvWarps;
        const auto* words = reinterpret_cast<const uint4*>(strip_tiles + here * Format::kTileBytes);
        low[a] = here < tiles ? __ldcs(words + lane) : uint4{};
        high[a] = here < tiles ? __ldcs(words + 32 + lane) : uint4{};
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int here = min(tile + a * kGemvWarps, tiles - 1);  // beyond the end weights are 0
        const uint4 x = has_token ? tokens.x[lane / 4 * tokens.pitch + here * 4 + lane % 4] : uint4{};
        Format::mma(sums, low[a], high[a], x, strip_tiles + here * Format::kTileBytes, tokens.scales + here, groups);
      }
    }
    const int at = lane / 4 * kMmaTokens + lane % 4 * 2;
    of_warp[warp][at] = sums[0], of_warp[warp][at + 1] = sums[1];
    of_warp[warp][at + 8 * kMmaTokens] = sums[2], of_warp[warp][at + 8 * kMmaTokens + 1] = sums[3];
    __syncthreads();
    const int row = static_cast<int>(threadIdx.x) % kMmaRows, token = static_cast<int>(threadIdx.x) / kMmaRows;
    if (token < job.tokens) {
      float sum = 0;
      for (int w = 0; w < kGemvWarps; ++w) sum += of_warp[w][row * kMmaTokens + token];
      const int64_t matrix = strip * kMmaRows / job.n;
      job.y[(matrix * job.tokens + token) * job.n + strip * kMmaRows % job.n + row] = sum;
    }
    __syncthreads();
  }
}

}  // namespace lab
