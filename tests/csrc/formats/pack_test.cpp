// docs/format.md, section Formats, derived once more and naively: panels of 16 rows, [k][16], or [k/2][16][2] for bf16;
// for q8 and q4 pairs of groups of 64 k: scales [2][16], then each group's [k/4][16][4] or [k/8][16][4] bytes.

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

constexpr int kLevels[] = {0, 15, 26, 34, 41, 48, 54, 60, 65, 70, 76, 82, 88, 95, 104, 116};

bool is_q4(int format) { return format == id("q4"); }

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

/// Bytes of the weights of a group.
int64_t naive_group_bytes(int format) { return 64 * 16 / (is_q4(format) ? 2 : 1); }

int64_t naive_panel_bytes(int format, int64_t cols) {
  const int64_t groups = (cols + 63) / 64;
  return groups * naive_group_bytes(format) + (groups + 1) / 2 * 64;
}

/// Where the pair of groups of weight k begins in a panel.
int64_t naive_pair(int format, int64_t k) { return k / 128 * (64 + 2 * naive_group_bytes(format)); }

/// The level at (row, k) of what was packed, less the zero point; row and k may lie in the padding.
int naive_level(int format, const std::vector<std::byte>& packed, int64_t cols, int64_t row, int64_t k) {
  const std::byte* panel = packed.data() + row / 16 * naive_panel_bytes(format, cols) + naive_pair(format, k) + 64 +
                           k / 64 % 2 * naive_group_bytes(format);
  k %= 64;
  if (!is_q4(format)) return static_cast<int>(panel[k / 4 * 64 + row % 16 * 4 + k % 4]) - 64;
  const int both = static_cast<int>(panel[k / 8 * 64 + row % 16 * 4 + k % 4]);
  return kLevels[k % 8 < 4 ? both % 16 : both / 16] - 64;
}

float naive_scale(int format, const std::vector<std::byte>& packed, int64_t cols, int64_t row, int64_t k) {
  const std::byte* scales = packed.data() + row / 16 * naive_panel_bytes(format, cols) + naive_pair(format, k);
  uint16_t bits = 0;
  std::memcpy(&bits, scales + (k / 64 % 2 * 16 + row % 16) * 2, 2);
  return to_float(Half{bits});
}

/// A level of the format, another one for each place, and first in each group the end of its range: then the scale is 1
/// or -1, and every weight is exact.
float level_at(int format, int64_t row, int64_t col) {
  if (col % 64 == 0) return -64;
  const int64_t place = row * 37 + col * 5;
  return static_cast<float>(is_q4(format) ? kLevels[place % 16] - 64 : place % 129 - 64);
}

void check_quantised_shape(int format, int64_t rows, int64_t cols) {
  const std::string what = join(WeightFormats::kNames[static_cast<size_t>(format)], " ", rows, " x ", cols);
  std::vector<float> weights;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) weights.push_back(level_at(format, row, col));
  }
  const auto size = packed_bytes(TensorKind::matrix, format, rows, cols);
  expect_equal(size.value(), (rows + 15) / 16 * naive_panel_bytes(format, cols), what);
  std::vector<std::byte> packed(static_cast<size_t>(*size), std::byte{0xaa});
  pack(TensorKind::matrix, format, weights.data(), rows, cols, packed.data());
  std::vector<float> row_back(static_cast<size_t>(cols));
  for (int64_t row = 0; row < (rows + 15) / 16 * 16; ++row) {
    if (row < rows) unpack_row(TensorKind::matrix, format, packed.data(), cols, row, row_back.data());
    for (int64_t col = 0; col < (cols + 63) / 64 * 64; ++col) {
      const int level = naive_level(format, packed, cols, row, col);
      const float scale = naive_scale(format, packed, cols, row, col);
      if (row < rows && col < cols) {
        expect_equal(scale * static_cast<float>(level), level_at(format, row, col), what);
        expect_equal(row_back[static_cast<size_t>(col)], level_at(format, row, col), what + ", unpacked");
      } else {
        expect_equal(level, is_q4(format) ? 1 : 0, what + ", padding is the level nearest to 0");
      }
      if (row >= rows) expect_equal(scale, 0.0f, what + ", scale of a padding row");
    }
  }
  // A last group without a partner leaves the other's scales zero.
  if ((cols + 63) / 64 % 2 == 0) return;
  for (int64_t panel = 0; panel < *size; panel += naive_panel_bytes(format, cols)) {
    for (int64_t i = 32; i < 64; ++i)
      expect_equal(static_cast<int>(packed[static_cast<size_t>(panel + naive_pair(format, cols - 1) + i)]), 0, what);
  }
}

void quantised_layouts() {
  for (const char* format : {"q8", "q4"}) {
    for (const int64_t rows : kSizes) {
      for (const int64_t cols : {1, 3, 4, 5, 8, 63, 64, 65, 127, 128, 200})
        check_quantised_shape(id(format), rows, cols);
    }
  }
}
const Test quantised_layouts_test{"every level and scale lies where docs/format.md says, and a row comes back",
                                  quantised_layouts};

void kinds() {
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    const bool plain = format == id("f32") || format == id("f16") || format == id("bf16");
    expect_equal(is_plain(format), plain, WeightFormats::kNames[static_cast<size_t>(format)]);
    expect(can_store(TensorKind::matrix, format), "a matrix may have every format");
    for (const TensorKind kind : {TensorKind::table, TensorKind::vector}) {
      expect_equal(can_store(kind, format), plain, kind_name(kind));
      expect_equal(packed_bytes(kind, format, 3, 5).has_value(), plain, kind_name(kind));
      const float weight[] = {1};
      std::byte out[64];
      if (!plain) expect_throws<Error>([&] { pack(kind, format, weight, 1, 1, out); }, kind_name(kind));
    }
  }
}
const Test kinds_test{"only matrices are quantised", kinds};

void unquantisable() {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const char* format : {"q8", "q4"}) {
    for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN(), 3.1e6f, -3.1e6f, 3.4e38f}) {
      std::vector<float> weights(3 * 70, 1.0f);
      std::vector<std::byte> out(static_cast<size_t>(packed_bytes(TensorKind::matrix, id(format), 3, 70).value()));
      weights[2 * 70 + 66] = bad;
      const auto error = expect_throws<Error>(
          [&] { pack(TensorKind::matrix, id(format), weights.data(), 3, 70, out.data()); }, join(bad));
      expect(std::string(error.what()).find("at row 2, column 66 is too large") != std::string::npos, error.what());
      weights[2 * 70 + 66] = 3e6f;  // the largest that has a finite scale
      pack(TensorKind::matrix, id(format), weights.data(), 3, 70, out.data());
      std::vector<float> row(70);
      unpack_row(TensorKind::matrix, id(format), out.data(), 70, 2, row.data());
      expect(std::abs(row[66] - 3e6f) < 0.1f * 3e6f, join(format, ": ", row[66]));
    }
  }
}
const Test unquantisable_test{"a weight that has no finite scale is refused with its place", unquantisable};

void layouts() {
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    if (!is_plain(format)) continue;
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
                                       {int64_t{1} << 28, int64_t{1} << 37}}) {
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
