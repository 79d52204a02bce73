#pragma once
// The kernels of one ISA, as plain functions on raw rows: noexcept, no allocation, no threads.
// Rows of floats are filled up to a multiple of 16 with zeros, and kernels may write those.

#include <cstddef>
#include <cstdint>

#include "formats/byte_row.h"
#include "formats/formats.h"
#include "formats/kv_types.h"
#include "kernels/shapes.h"

namespace pygpt {

inline constexpr int kAttendRows = 6;  // rows that share what is read of the cache

/// y = x w^T + bias, or y += x w^T + bias, for the panels [first, last) of w.
/// Row r of y depends on row r of x only, bit for bit, whatever the other rows and the range of panels.
struct MatmulArgs {
  const std::byte* x;  // [rows, k]: floats, or ByteRows where the format is quantised
  int64_t x_stride;    // bytes
  int64_t rows;
  const std::byte* w;  // [n, k] in the kernel's format
  int64_t k;
  int64_t first;
  int64_t last;
  const float* bias;  // [16 * panels], or null
  float* y;           // [rows, 16 * panels]
  int64_t y_stride;
  bool add;
  bool far = false;  // w lies in memory rather than in a cache; a matter of speed alone
};

/// Groups [first, last) of a row of activations as bytes (formats/byte_row.h): scale = max |x| / 127, and the nearest
/// whole number, ties to even.
struct QuantiseArgs {
  const float* x;  // [k], filled up with zeros to whole groups
  int64_t k;
  int64_t first_group;
  int64_t last_group;
  std::byte* row;  // a ByteRow of k
};

/// Over one row, layer_norm: out = (x - mean) / sqrt(variance + epsilon) * gain + bias (Ba, Kiros and Hinton 2016);
/// rms_norm: out = x / sqrt(mean of x^2 + epsilon) * gain + bias (Zhang and Sennrich, arXiv:1910.07467).
/// All four are filled up to a multiple of 16, gain and bias with zeros; out may be x.
struct NormArgs {
  const float* x;     // [width]
  const float* gain;  // [width]
  const float* bias;  // [width], or null
  float epsilon;
  int64_t width;
  float* out;  // [width]
};

/// Turns pairs of one head's q or k, (x[i], x[i + pairs]), in place (Su et al., arXiv:2104.09864).
struct RotateArgs {
  float* x;          // [2 * pairs]
  const float* cos;  // [pairs]
  const float* sin;  // [pairs]
  int64_t pairs;
};

/// out = activation(gate) * up, where panels of gate and of up take turns (Shazeer, arXiv:2002.05202).
struct GateArgs {
  const float* x;  // [panels][2][16]
  float* out;      // [panels][16]
  int64_t panels;
};

/// One position's k and v into its page. Within a page: k as [head_dim][32], v as [32][padded head_dim]; where the type
/// has scales, each followed by f32 scales [32].
struct AppendArgs {
  const float* k;  // [padded head_dim], zeros behind head_dim
  const float* v;  // [padded head_dim], zeros behind head_dim
  int head_dim;
  int column;  // position % 32
  std::byte* k_page;
  std::byte* v_page;
};

/// softmax(scale * q k^T) v for rows that read the same k and v, row r the last `window` of the
/// positions [0, counts[r]). Pages of which no row sees anything are not read.
/// Partials over 256 absolute positions are formed and merged in ascending order (online softmax, arXiv:1805.02867).
struct AttendArgs {
  int rows;                       // 1..kAttendRows
  const float* q[kAttendRows];    // [head_dim] each
  float* out[kAttendRows];        // [head_dim] each, exactly
  int64_t counts[kAttendRows];    // ascending; equal for heads that share k and v
  int64_t window;                 // positions that a row sees at most
  const std::byte* const* pages;  // of this sequence
  int64_t k_offset;               // bytes from a page's start to this layer's and head's k
  int64_t v_offset;
  int head_dim;
  float scale;
};

/// Loops that show what one core can do at most; see kernels/cpu/probe.h.
struct ProbeTable {
  /// The sum of the 32-bit words of `bytes`, read as `streams` (1, 4 or 8) equal parts side by side.
  /// bytes: a multiple of 64 * streams.
  uint32_t (*read)(const std::byte* from, int64_t bytes, int streams, bool prefetch) noexcept;
  float (*fma)(int64_t iterations) noexcept;
  int64_t fma_flops;  // floating-point operations of an iteration
  int32_t (*dot8)(int64_t iterations) noexcept;
  int64_t dot8_ops;  // multiplications and additions of an iteration
};

struct KernelTable {
  const char* isa;
  void (*matmul[WeightFormats::kCount])(const MatmulArgs&) noexcept;
  void (*quantise)(const QuantiseArgs&) noexcept;
  void (*norm[kNormCount])(const NormArgs&) noexcept;
  void (*rotate)(const RotateArgs&) noexcept;
  void (*activate[kActivationCount])(float* x, int64_t count) noexcept;  // count: a multiple of 16
  void (*gate[kActivationCount])(const GateArgs&) noexcept;
  void (*soft_cap)(float* x, int64_t count, float cap) noexcept;  // cap * tanh(x / cap); count: a multiple of 16
  void (*append[KvTypes::kCount])(const AppendArgs&) noexcept;
  void (*attend[KvTypes::kCount])(const AttendArgs&) noexcept;
  /// The softmax alone: out[r], [counts[r]], is what attend weighs each position with; positions before the window are
  /// left as they are. Does not look at v.
  void (*attention_weights[KvTypes::kCount])(const AttendArgs&) noexcept;
  void (*exp)(float* x, int64_t count) noexcept;  // count: a multiple of 16; for tests
  ProbeTable probe;
};

}  // namespace pygpt
