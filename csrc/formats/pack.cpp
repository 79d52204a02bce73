#include "formats/pack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/machine.h"
#include "base/team.h"
#include "formats/formats.h"

namespace pygpt {
namespace {

/// The bits of the largest |weight| of a row; NaN and infinity are larger than every number.
uint32_t largest_bits(const float* row, int64_t cols) {
  uint32_t largest = 0;
  for (int64_t col = 0; col < cols; ++col) largest = std::max(largest, std::bit_cast<uint32_t>(row[col]) & 0x7fffffffu);
  return largest;
}

/// What packing a float gives, back as a float, must be finite where the float is.
template <class Format>
void check_finite(const float* weights, int64_t cols, int64_t row) {
  if constexpr (Format::kIsPlain) {  // rounding keeps the order: where the largest fits, all do
    const auto largest = std::bit_cast<float>(largest_bits(weights + row * cols, cols));
    if (std::isfinite(to_float(Format::encode(largest)))) return;
  }
  for (int64_t col = 0; col < cols; ++col) {
    const float weight = weights[row * cols + col];
    if constexpr (Format::kIsPlain) {
      check(std::isfinite(to_float(Format::encode(weight))) || !std::isfinite(weight), "the weight ", weight,
            " at row ", row, ", column ", col, " is too large for ", Format::kName);
    } else {
      check(std::fabs(weight) <= kLargestQuantised, "the weight ", weight, " at row ", row, ", column ", col,
            " is too large for ", Format::kName);
    }
  }
}

constexpr int64_t kFewWeights = 1 << 16;  // packed sooner than a thread has started

template <class Format>
void pack_matrix(const float* weights, int64_t rows, int64_t cols, std::byte* out) {
  const int64_t panels = panel_count(rows);
  Team team(rows * cols <= kFewWeights ? 1 : available_cpus());
  team.run([&](int worker) noexcept {
    for (int64_t panel = panels * worker / team.size(); panel < panels * (worker + 1) / team.size(); ++panel) {
      const int64_t row = panel * kPanel;
      Format::pack_panel(weights + row * cols, std::min<int64_t>(kPanel, rows - row), cols,
                         out + panel * Format::panel_bytes(cols));
    }
  });
}

template <class Format>
void pack_rows(const float* weights, int64_t count, std::byte* out) {
  auto* elements = reinterpret_cast<typename Format::Element*>(out);
  for (int64_t i = 0; i < count; ++i) elements[i] = Format::encode(weights[i]);
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

bool is_plain(int format) {
  return WeightFormats::visit(format, []<class Format>() { return Format::kIsPlain; });
}

bool can_store(TensorKind kind, int format) { return kind == TensorKind::matrix || is_plain(format); }

std::optional<int64_t> packed_bytes(TensorKind kind, int format, int64_t rows, int64_t cols) {
  if (!can_store(kind, format)) return std::nullopt;
  return WeightFormats::visit(format, [&]<class Format>() -> std::optional<int64_t> {
    if (kind == TensorKind::matrix) {
      if (rows > INT64_MAX - kPanel || cols > INT64_MAX / (8 * kPanel) - kGroup) return std::nullopt;
      return checked_multiply(panel_count(rows), Format::panel_bytes(cols));
    }
    const auto elements = checked_multiply(rows, cols);
    if constexpr (Format::kIsPlain) {
      return elements ? checked_multiply(*elements, sizeof(typename Format::Element)) : std::nullopt;
    }
    return std::nullopt;
  });
}

void pack(TensorKind kind, int format, const float* weights, int64_t rows, int64_t cols, std::byte* out) {
  check(can_store(kind, format), "a ", kind_name(kind), " cannot be stored in this format");
  WeightFormats::visit(format, [&]<class Format>() {
    for (int64_t row = 0; row < rows; ++row) check_finite<Format>(weights, cols, row);
    if (kind == TensorKind::matrix) {
      std::memset(out, 0, static_cast<size_t>(packed_bytes(kind, format, rows, cols).value()));
      pack_matrix<Format>(weights, rows, cols, out);
    } else if constexpr (Format::kIsPlain) {
      pack_rows<Format>(weights, rows * cols, out);
    }
  });
}

void unpack_row(TensorKind kind, int format, const std::byte* packed, int64_t cols, int64_t row, float* out) {
  WeightFormats::visit(format, [&]<class Format>() {
    if (kind == TensorKind::matrix) {
      const std::byte* panel = packed + row / kPanel * Format::panel_bytes(cols);
      for (int64_t k = 0; k < cols; ++k) out[k] = Format::weight(panel, cols, static_cast<int>(row % kPanel), k);
    } else if constexpr (Format::kIsPlain) {
      const auto* elements = reinterpret_cast<const typename Format::Element*>(packed);
      for (int64_t col = 0; col < cols; ++col) out[col] = to_float(elements[row * cols + col]);
    }
  });
}

}  // namespace pygpt
