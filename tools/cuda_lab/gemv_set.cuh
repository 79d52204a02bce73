#pragma once
// The numbers of gemv.cu: small integers times powers of two, so that every sum is exact whatever its order, and a
// result is right only if it equals the host's in float64 to the last bit.

#include <cmath>

#include "gemv_kernels.cuh"

namespace lab {

struct Shape {
  const char* name;
  int n, k;
};

/// Scattered bits of i (splitmix64's finaliser).
__host__ __device__ inline uint32_t scattered(uint64_t i) {
  i = (i + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
  i = (i ^ (i >> 31)) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>(i >> 33);
}
__host__ __device__ inline int number(uint64_t i) { return static_cast<int>(scattered(i) % 17) - 8; }
__host__ __device__ inline float scale_number(uint64_t i) { return scattered(i) % 2 == 0 ? 0.5f : 1.0f; }
constexpr uint64_t kOfTokens = uint64_t{1} << 60;  // where the numbers of tokens begin; those of weights begin at 0

__host__ __device__ inline void store(unsigned char* to, int value, Bf16) {
  *reinterpret_cast<__nv_bfloat16*>(to) = __float2bfloat16(static_cast<float>(value));
}
__host__ __device__ inline void store(unsigned char* to, int value, Q8) { *to = static_cast<unsigned char>(value); }

/// Where weight `at` of a row lies in tiles: a lane's 16 bytes of row g of a tile; 512 bytes further, those of row g
/// + 8.
template <class Format>
__device__ int64_t place_in_tiles(int64_t row, int at, int k) {
  const int64_t tile = row / kMmaRows * (k / Format::kTileK) + at / Format::kTileK;
  const int inside = static_cast<int>(row % kMmaRows), byte = at % Format::kTileK * Format::kWeightBytes;
  return tile * Format::kTileBytes + inside / 8 * 512 + (inside % 8 * 4 + byte / 16) * 16 + byte % 16;
}

/// Fills [rows, k], a thread a weight. scales: null where they lie in the tiles, or there are none.
template <class Format, bool kTiled>
__global__ void fill_kernel(unsigned char* weights, __half* scales, int64_t rows, int k) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < rows * k; i += stride) {
    const int64_t row = i / k;
    const int at = static_cast<int>(i % k);
    const int64_t place = kTiled ? place_in_tiles<Format>(row, at, k) : i * Format::kWeightBytes;
    store(weights + place, number(static_cast<uint64_t>(i)), Format{});
    if (!Format::kScaled || at % kGroup != 0) continue;
    const int64_t tile = row / kMmaRows * (k / Format::kTileK) + at / Format::kTileK;
    auto* in_tile = reinterpret_cast<__half*>(weights + tile * Format::kTileBytes + kMmaRows * kGroup) + row % kMmaRows;
    *(kTiled ? in_tile : scales + i / kGroup) = __float2half(scale_number(static_cast<uint64_t>(i / kGroup)));
  }
}

/// Matrices of one shape in one format and layout, tokens, and what comes of them.
template <class Format, bool kTiled>
class Set {
 public:
  Set(const Shape& shape, size_t wanted_bytes)
      : shape_(shape), matrices_(static_cast<int>(wanted_bytes / matrix_bytes()) + 1) {
    fill_kernel<Format, kTiled><<<1024, 256>>>(weights_.data, scales_.data, int64_t{shape.n} * matrices_, shape.k);
    check(cudaGetLastError());
    const size_t numbers = size_t{kMmaTokens} * static_cast<size_t>(shape.k);
    std::vector<unsigned char> x(numbers * Format::kWeightBytes);
    for (size_t i = 0; i < numbers; ++i) store(x.data() + i * Format::kWeightBytes, number(kOfTokens + i), Format{});
    std::vector<float> x_scales(numbers / kGroup);
    for (size_t i = 0; i < x_scales.size(); ++i) x_scales[i] = scale_number(kOfTokens + i);
    check(cudaMemcpy(x_.data, x.data(), x.size(), cudaMemcpyHostToDevice));
    check(cudaMemcpy(x_scales_.data, x_scales.data(), x_scales.size() * sizeof(float), cudaMemcpyHostToDevice));
  }

  int matrices() const { return matrices_; }
  /// Bytes of all matrices, scales included.
  double bytes() const { return static_cast<double>(matrix_bytes()) * matrices_; }

  /// Matrices [first, first + count) times so many tokens.
  GemvJob job(int tokens, int first, int count) const {
    const size_t rows = static_cast<size_t>(first) * static_cast<size_t>(shape_.n);
    return {weights_.data + first * (kTiled ? matrix_bytes() : plain_bytes()),
            scales_.data + rows * groups(),
            reinterpret_cast<const uint4*>(x_.data),
            x_scales_.data,
            y_.data + rows * static_cast<size_t>(tokens),
            shape_.n,
            shape_.k,
            tokens,
            count};
  }

  /// No number may be left as it was.
  void poison() { y_.fill(0xff); }

  /// Whether every number was written, and those of some rows of the first and the last matrix are exact.
  bool right(int tokens) const {
    const auto y = y_.read();
    const size_t n = static_cast<size_t>(shape_.n), written = n * static_cast<size_t>(tokens * matrices_);
    if (std::any_of(y.begin(), y.begin() + static_cast<int64_t>(written),
                    [](float each) { return std::isnan(each); })) {
      return false;
    }
    for (const int matrix : {0, matrices_ - 1}) {
      for (int row = 0; row < shape_.n; row += 1 + shape_.n / kCheckedRows) {
        for (int token = 0; token < tokens; ++token) {
          const size_t at = static_cast<size_t>(matrix * tokens + token) * n + static_cast<size_t>(row);
          if (static_cast<double>(y[at]) != exact(matrix, row, token)) return false;
        }
      }
    }
    return true;
  }

 private:
  static constexpr int kCheckedRows = 31;

  size_t groups() const { return static_cast<size_t>(shape_.k / kGroup); }
  size_t plain_bytes() const { return size_t{Format::kWeightBytes} * static_cast<size_t>(shape_.n) * shape_.k; }
  size_t matrix_bytes() const { return plain_bytes() + (Format::kScaled ? 2 * groups() * shape_.n : 0); }

  double exact(int matrix, int row, int token) const {
    const uint64_t k = static_cast<uint64_t>(shape_.k);
    const uint64_t w =
        (static_cast<uint64_t>(matrix) * static_cast<uint64_t>(shape_.n) + static_cast<uint64_t>(row)) * k;
    const uint64_t x = static_cast<uint64_t>(token) * k;
    double sum = 0;
    for (uint64_t i = 0; i < k; ++i) {
      const double product = static_cast<double>(number(w + i)) * number(kOfTokens + x + i);
      const double scales =
          static_cast<double>(scale_number((w + i) / kGroup)) * scale_number(kOfTokens + (x + i) / kGroup);
      sum += Format::kScaled ? product * scales : product;
    }
    return sum;
  }

  Shape shape_;
  int matrices_;
  Buffer<unsigned char> weights_{matrix_bytes() * static_cast<size_t>(matrices_)};
  Buffer<__half> scales_{Format::kScaled && !kTiled ? groups() * shape_.n * static_cast<size_t>(matrices_) : 1};
  Buffer<unsigned char> x_{size_t{kMmaTokens} * static_cast<size_t>(shape_.k) * Format::kWeightBytes};
  Buffer<float> x_scales_{kMmaTokens * groups()};
  Buffer<float> y_{size_t{kMmaTokens} * static_cast<size_t>(shape_.n) * static_cast<size_t>(matrices_)};
};

}  // namespace lab
