#pragma once
// Rows of numbers that phases hand to each other.

#include "base/aligned.h"
#include "formats/byte_row.h"
#include "formats/panel.h"

namespace pygpt {

/// Memory for `rows` rows of at least `bytes` bytes each, zeroed. The stride is an odd number of cache lines: else rows
/// of widths that are powers of two would all fall on the same few places of a cache.
class Rows {
 public:
  Rows() = default;
  Rows(int64_t rows, int64_t bytes) : stride_(stride_for(bytes)), rows_(rows), memory_(rows * stride_) {}

  static constexpr int64_t stride_for(int64_t bytes) { return (ceil_div(bytes, kAlignment) | 1) * kAlignment; }

  std::byte* row(int64_t r) noexcept { return memory_.data() + r * stride_; }
  int64_t stride() const noexcept { return stride_; }  // bytes
  int64_t rows() const noexcept { return rows_; }

 private:
  int64_t stride_ = 0;
  int64_t rows_ = 0;
  AlignedArray<std::byte> memory_;
};

/// Rows of floats, each filled up with zeros to a multiple of 64.
class FloatRows : public Rows {
 public:
  FloatRows() = default;
  FloatRows(int64_t rows, int64_t width) : Rows(rows, bytes_for(width)) {}
  static constexpr int64_t bytes_for(int64_t width) { return round_up(width, kGroup) * int64_t{sizeof(float)}; }
  float* row(int64_t r) noexcept { return reinterpret_cast<float*>(Rows::row(r)); }
};

/// Rows as a matrix reads them.
struct Input {
  const std::byte* rows;
  int64_t stride;  // bytes
};

/// What is multiplied by a matrix: [rows, width] as floats and, where the matrix is quantised, as bytes.
struct Activations {
  Activations() = default;
  Activations(int64_t rows, int64_t width, bool quantised)
      : floats(rows, width), bytes(quantised ? rows : 0, ByteRow(width).size()) {}

  /// Bytes of memory of one row.
  static constexpr int64_t row_bytes(int64_t width, bool quantised) {
    return Rows::stride_for(FloatRows::bytes_for(width)) + (quantised ? Rows::stride_for(ByteRow(width).size()) : 0);
  }

  Input input(bool quantised) noexcept {
    Rows& rows = quantised ? bytes : floats;
    return {rows.row(0), rows.stride()};
  }

  FloatRows floats;
  Rows bytes;  // ByteRows
};

}  // namespace pygpt
