#include "formats/pack.h"

#include <cmath>
#include <cstring>

#include "formats/formats.h"

namespace pygpt {
namespace {

template <class Format>
void store(float weight, typename Format::Element* to, int64_t row, int64_t col) {
  *to = Format::encode(weight);
  check(std::isfinite(to_float(*to)) || !std::isfinite(weight), "the weight ", weight, " at row ", row, ", column ",
        col, " is too large for ", Format::kName);
}

template <class Format>
void pack_matrix(const float* weights, int64_t rows, int64_t cols, typename Format::Element* out) {
  for (int64_t row = 0; row < rows; ++row) {
    auto* panel = out + row / kPanel * Format::panel_elements(cols);
    for (int64_t k = 0; k < cols; ++k) {
      store<Format>(weights[row * cols + k], panel + Format::index(static_cast<int>(row % kPanel), k), row, k);
    }
  }
}

template <class Format>
void pack_rows(const float* weights, int64_t rows, int64_t cols, typename Format::Element* out) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) store<Format>(weights[row * cols + col], out + row * cols + col, row, col);
  }
}

}  // namespace

const char* kind_name(TensorKind kind) {
  switch (kind) {
    case TensorKind::matrix: return "matrix";
    case TensorKind::table: return "table";
    case TensorKind::vector: return "vector";
  }
  return "?";
}

std::optional<int64_t> packed_bytes(TensorKind kind, int format, int64_t rows, int64_t cols) {
  return WeightFormats::visit(format, [&]<class Format>() -> std::optional<int64_t> {
    std::optional<int64_t> elements;
    if (kind == TensorKind::matrix) {
      if (rows > INT64_MAX - kPanel || cols > INT64_MAX / kPanel - Format::kStep) return std::nullopt;
      elements = checked_multiply(panel_count(rows), Format::panel_elements(cols));
    } else {
      elements = checked_multiply(rows, cols);
    }
    return elements ? checked_multiply(*elements, sizeof(typename Format::Element)) : std::nullopt;
  });
}

void pack(TensorKind kind, int format, const float* weights, int64_t rows, int64_t cols, std::byte* out) {
  WeightFormats::visit(format, [&]<class Format>() {
    auto* elements = reinterpret_cast<typename Format::Element*>(out);
    if (kind == TensorKind::matrix) {
      std::memset(out, 0, static_cast<size_t>(packed_bytes(kind, format, rows, cols).value()));
      pack_matrix<Format>(weights, rows, cols, elements);
    } else {
      pack_rows<Format>(weights, rows, cols, elements);
    }
  });
}

void unpack_row(TensorKind kind, int format, const std::byte* packed, int64_t cols, int64_t row, float* out) {
  WeightFormats::visit(format, [&]<class Format>() {
    const auto* elements = reinterpret_cast<const typename Format::Element*>(packed);
    if (kind == TensorKind::matrix) {
      const auto* panel = elements + row / kPanel * Format::panel_elements(cols);
      for (int64_t k = 0; k < cols; ++k) out[k] = to_float(panel[Format::index(static_cast<int>(row % kPanel), k)]);
    } else {
      for (int64_t col = 0; col < cols; ++col) out[col] = to_float(elements[row * cols + col]);
    }
  });
}

}  // namespace pygpt
