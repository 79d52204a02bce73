// docs/format.md, section Formats, derived once more and naively: panels of 16 rows, [k][16], or [k/2][16][2] for bf16.

#include "formats/pack.h"

#include <cstring>
#include <limits>
#include <vector>

#include "base/half.h"
#include "check.h"
#include "formats/formats.h"

namespace pygpt::test {
namespace {

constexpr int64_t kSizes[] = {1, 2, 15, 16, 17, 33};

int id(const char* name) { return WeightFormats::find(name).value(); }

int64_t element_bytes(int format) { return format == id("f32") ? 4 : 2; }

/// Where weight (row, k) lies, in elements, by docs/format.md.
int64_t naive_index(TensorKind kind, int format, int64_t cols, int64_t row, int64_t k) {
  if (kind != TensorKind::matrix) return row * cols + k;
  const int64_t pair = format == id("bf16") ? 2 : 1;
  const int64_t padded = (cols + pair - 1) / pair * pair;
  return row / 16 * 16 * padded + k / pair * 16 * pair + row % 16 * pair + k % pair;
}

int64_t naive_bytes(TensorKind kind, int format, int64_t rows, int64_t cols) {
  if (kind != TensorKind::matrix) return rows * cols * element_bytes(format);
  const int64_t padded = format == id("bf16") ? (cols + 1) / 2 * 2 : cols;
  return (rows + 15) / 16 * 16 * padded * element_bytes(format);
}

float element(int format, const std::vector<std::byte>& bytes, int64_t index) {
  if (format == id("f32")) {
    float value = 0;
    std::memcpy(&value, bytes.data() + index * 4, 4);
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, bytes.data() + index * 2, 2);
  return format == id("f16") ? to_float(Half{bits}) : to_float(BFloat16{bits});
}

/// A small whole number, exact in every format, another one for each place.
float weight_at(int64_t row, int64_t col) { return static_cast<float>((row * 37 + col * 5) % 251 - 125); }

void check_shape(TensorKind kind, int format, int64_t rows, int64_t cols) {
  const std::string what =
      join(kind_name(kind), " ", WeightFormats::kNames[static_cast<size_t>(format)], " ", rows, " x ", cols);
  std::vector<float> weights;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) weights.push_back(weight_at(row, col));
  }
  const auto size = packed_bytes(kind, format, rows, cols);
  expect_equal(size.value(), naive_bytes(kind, format, rows, cols), what);
  std::vector<std::byte> packed(static_cast<size_t>(*size), std::byte{0xaa});
  pack(kind, format, weights.data(), rows, cols, packed.data());
  std::vector<bool> is_padding(packed.size() / static_cast<size_t>(element_bytes(format)), true);
  std::vector<float> row_back(static_cast<size_t>(cols));
  for (int64_t row = 0; row < rows; ++row) {
    unpack_row(kind, format, packed.data(), cols, row, row_back.data());
    for (int64_t col = 0; col < cols; ++col) {
      const int64_t index = naive_index(kind, format, cols, row, col);
      is_padding[static_cast<size_t>(index)] = false;
      expect_equal(element(format, packed, index), weight_at(row, col), what);
      expect_equal(row_back[static_cast<size_t>(col)], weight_at(row, col), what + ", unpacked");
    }
  }
  for (size_t i = 0; i < is_padding.size(); ++i) {
    if (is_padding[i]) expect_equal(element(format, packed, static_cast<int64_t>(i)), 0.0f, what + ", padding");
  }
}

void layouts() {
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    for (const TensorKind kind : {TensorKind::matrix, TensorKind::table, TensorKind::vector}) {
      for (const int64_t rows : kSizes) {
        for (const int64_t cols : kSizes) check_shape(kind, format, rows, cols);
      }
    }
  }
}
const Test layouts_test{"every weight lies where docs/format.md says, its padding is zero, and a row comes back",
                        layouts};

void overflow() {
  const float weights[] = {1, 65520};
  std::byte out[64];
  expect_throws<Error>([&] { pack(TensorKind::table, id("f16"), weights, 1, 2, out); });
  pack(TensorKind::table, id("bf16"), weights, 1, 2, out);
  const float infinity[] = {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
  pack(TensorKind::table, id("f16"), infinity, 1, 2, out);  // they fit: what is not finite stays so
}
const Test overflow_test{"a finite weight that would become infinite is refused", overflow};

void wrapping() {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    for (const TensorKind kind : {TensorKind::matrix, TensorKind::table}) {
      for (const auto& [rows, cols] : {std::pair{kMost, int64_t{1}},
                                       {int64_t{1}, kMost},
                                       {kMost, kMost},
                                       {int64_t{1} << 32, int64_t{1} << 32},
                                       {int64_t{1} << 31, int64_t{1} << 31}}) {
        expect(!packed_bytes(kind, format, rows, cols), join(kind_name(kind), " ", rows, " x ", cols));
      }
    }
  }
}
const Test wrapping_test{"a size that does not fit into 63 bits is no size", wrapping};

void names() {
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    expect_equal(WeightFormats::visit(format, []<class Format>() { return std::string(Format::kName); }),
                 std::string(WeightFormats::kNames[static_cast<size_t>(format)]));
  }
  expect(!WeightFormats::find("f64") && !WeightFormats::find(""), "unknown names");
  expect_throws<Error>([] { WeightFormats::visit(WeightFormats::kCount, []<class Format>() {}); });
}
const Test names_test{"a format is found by its name and by its place in the list, or not at all", names};

}  // namespace
}  // namespace pygpt::test
