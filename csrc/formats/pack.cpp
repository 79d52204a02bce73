#include "formats/pack.h"

#include <algorithm>
#include <atomic>
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
bool fits(float weight) noexcept {
  if constexpr (Format::kIsPlain) return std::isfinite(to_float(Format::encode(weight))) || !std::isfinite(weight);
  return std::fabs(weight) <= kLargestQuantised;
}

/// Whether all weights of a row do. Rounding keeps the order: where the largest fits, all do.
template <class Format>
bool row_fits(const float* row, int64_t cols) noexcept {
  const auto largest = std::bit_cast<float>(largest_bits(row, cols));
  return (std::isfinite(largest) && fits<Format>(largest)) || std::all_of(row, row + cols, fits<Format>);
}

/// Names the first weight that does not fit.
template <class Format>
void check_fits(const float* weights, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows * cols; ++i)
    check(fits<Format>(weights[i]), "the weight ", weights[i], " at row ", i / cols, ", column ", i % cols,
          " is too large for ", Format::kName);
}

constexpr int64_t kFewWeights = 1 << 16;  // done sooner than a thread has started

/// Calls job(panel) for all panels of a matrix, on all CPUs where that is worth it. The job must not throw.
template <class Job>
void for_panels(int64_t rows, int64_t cols, const Job& job) {
  const int64_t panels = panel_count(rows);
  Team team(rows * cols <= kFewWeights ? 1 : available_cpus());
  team.run([&](int worker) noexcept {
    for (int64_t panel = panels * worker / team.size(); panel < panels * (worker + 1) / team.size(); ++panel)
      job(panel);
  });
}

template <class Format>
bool pack_matrix(const float* weights, int64_t rows, int64_t cols, std::byte* out) {
  std::atomic<bool> all_fit = true;
  for_panels(rows, cols, [&](int64_t panel) noexcept {
    const int64_t first = panel * kPanel;
    const int64_t count = std::min<int64_t>(kPanel, rows - first);
    for (int64_t row = first; row < first + count; ++row) {
      if (!row_fits<Format>(weights + row * cols, cols)) all_fit = false;
    }
    if (!all_fit) return;
    std::byte* packed = out + panel * Format::panel_bytes(cols);
    std::memset(packed, 0, static_cast<size_t>(Format::panel_bytes(cols)));
    Format::pack_panel(weights + first * cols, count, cols, packed);
  });
  return all_fit;
}

template <class Format>
bool pack_rows(const float* weights, int64_t rows, int64_t cols, std::byte* out) {
  auto* elements = reinterpret_cast<typename Format::Element*>(out);
  for (int64_t row = 0; row < rows; ++row) {
    if (!row_fits<Format>(weights + row * cols, cols)) return false;
    for (int64_t i = row * cols; i < (row + 1) * cols; ++i) elements[i] = Format::encode(weights[i]);
  }
  return true;
}

template <class Format>
void unpack_matrix(const std::byte* packed, int64_t rows, int64_t cols, float* out) {
  for_panels(rows, cols, [&](int64_t panel) noexcept {
    const int64_t first = panel * kPanel;
    const int64_t count = std::min<int64_t>(kPanel, rows - first);
    Format::unpack_panel(packed + panel * Format::panel_bytes(cols), count, cols, out + first * cols);
  });
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
    bool fit = true;
    if (kind == TensorKind::matrix) {
      fit = pack_matrix<Format>(weights, rows, cols, out);
    } else if constexpr (Format::kIsPlain) {
      fit = pack_rows<Format>(weights, rows, cols, out);
    }
    if (!fit) check_fits<Format>(weights, rows, cols);
  });
}

void unpack(TensorKind kind, int format, const std::byte* packed, int64_t rows, int64_t cols, float* out) {
  if (kind != TensorKind::matrix) {
    for (int64_t row = 0; row < rows; ++row) unpack_row(kind, format, packed, cols, row, out + row * cols);
    return;
  }
  WeightFormats::visit(format, [&]<class Format>() { unpack_matrix<Format>(packed, rows, cols, out); });
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
