#include "model/header.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/checked.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "formats/formats.h"
#include "model/number.h"
#include "model/sniff.h"

namespace pygpt {
namespace {

constexpr std::string_view kFirstLine = "pygpt 1";
constexpr std::array<std::string_view, 5> kGroups = {"config", "default", "blob", "tensor", "end"};
constexpr std::array<std::string_view, 5> kBlobNames = {"tokenizer.json", "chat_template.jinja", "chat.json",
                                                        "provenance.json", "known_answers.json"};
constexpr std::array<std::string_view, 6> kDefaultNames = {"temperature", "top_k", "top_k_ties",
                                                           "top_p",       "min_p", "repetition_penalty"};

using Words = std::vector<std::string_view>;

/// The header's lines, one after the other, and where the reader stands: what an error needs to say.
class Lines {
 public:
  Lines(std::string_view text, int64_t file_bytes) : text_(text), file_bytes_(file_bytes) {}

  [[noreturn]] void refuse(const std::string& code, const std::string& message) const {
    throw ModelFileError(code, join("header line ", number_), line_start_, message);
  }

  /// The next line without its LF. The caps hold before anything is kept of it.
  std::string_view next() {
    line_start_ = position_;
    ++number_;
    const std::string_view window = text_.substr(static_cast<size_t>(position_), static_cast<size_t>(kLineCap));
    const size_t length = window.find('\n');
    if (length == std::string_view::npos) refuse_unfinished(window);
    const std::string_view line = window.substr(0, length);
    check_characters(line);
    position_ += static_cast<int64_t>(length) + 1;
    return line;
  }

  int64_t line_start() const { return line_start_; }
  int64_t position() const { return position_; }

 private:
  [[noreturn]] void refuse_unfinished(std::string_view window) const {
    if (std::ssize(window) == kLineCap) refuse("invalid_header", join("the line is longer than ", kLineCap, " bytes"));
    if (position_ + std::ssize(window) >= file_bytes_)
      refuse("truncated", "the file ends within its header: the copy is incomplete");
    refuse("invalid_header", join("no \"end\" line within the first ", kHeaderCap, " bytes"));
  }

  void check_characters(std::string_view line) const {
    for (size_t column = 0; column < line.size(); ++column) {
      const char c = line[column];
      const bool space = c == ' ' && column > 0 && column + 1 < line.size() && line[column - 1] != ' ';
      if (space || (c > ' ' && c <= '~')) continue;
      if (c == '\r')
        refuse("invalid_header", "damaged by text-mode transfer: LF became CR LF; copy the file in binary mode");
      refuse("invalid_header",
             join("column ", column + 1, " holds byte ", static_cast<int>(static_cast<unsigned char>(c)),
                  "; lines are printable ASCII words with single spaces between"));
    }
    if (line.empty()) refuse("invalid_header", "the line is empty");
  }

  std::string_view text_;
  int64_t file_bytes_;
  int64_t position_ = 0;
  int64_t line_start_ = 0;
  int64_t number_ = 0;
};

void split(std::string_view line, Words& words) {
  words.clear();
  while (true) {
    const size_t space = line.find(' ');
    words.push_back(line.substr(0, space));
    if (space == std::string_view::npos) return;
    line.remove_prefix(space + 1);
  }
}

int64_t integer_of(const Lines& lines, std::string_view text, const char* what, const char* code = "invalid_header") {
  const auto value = parse_integer(text);
  if (!value) {
    lines.refuse(code, join(what, " is \"", text.substr(0, 40),
                            "\": it must be a whole number without sign or leading zeros, below 2^63"));
  }
  return *value;
}

Extent extent_of(const Lines& lines, std::span<const std::string_view> words) {
  const int64_t offset = integer_of(lines, words[0], "the offset");
  const int64_t bytes = integer_of(lines, words[1], "the size");
  const auto crc = parse_checksum(words[2]);
  if (!crc) lines.refuse("invalid_header", "the checksum must be eight lower-case hexadecimal digits");
  return {offset, bytes, *crc};
}

/// Reads the groups of a header in their order.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, int64_t file_bytes) : text_(text), lines_(text, file_bytes) {}

  Header read() {
    check_first_line();
    advance();
    read_config();
    while (words_[0] == "default") read_default();
    while (words_[0] == "blob") read_blob();
    read_tensors();
    read_end();
    return std::move(header_);
  }

 private:
  void check_first_line() {
    const std::string_view line = lines_.next();
    if (line == kFirstLine) return;
    split(line, words_);
    const auto version = words_.size() == 2 ? parse_integer(words_[1]) : std::nullopt;
    if (words_[0] != "pygpt" || !version) lines_.refuse("invalid_header", "the first line must be \"pygpt 1\"");
    lines_.refuse("unsupported_version",
                  join("the file has version ", *version, ", this library reads version 1: re-export the model"));
  }

  void advance() {
    split(lines_.next(), words_);
    if (std::ranges::find(kGroups, words_[0]) == kGroups.end()) refuse_line("unknown to version 1");
  }

  [[noreturn]] void refuse_line(const char* why) const {
    lines_.refuse("invalid_header", join("the line \"", words_[0].substr(0, 40), "\" is ", why));
  }

  void want_words(size_t count, const char* shape) const {
    if (words_.size() != count) lines_.refuse("invalid_header", join("the line must read \"", shape, "\""));
  }

  void read_config() {
    ConfigLines config;
    while (words_[0] == "config") {
      want_words(3, "config KEY VALUE");
      config.emplace_back(words_[1], words_[2]);
      if (config.size() > 64) lines_.refuse("invalid_config", "too many config lines");
      advance();
    }
    header_.config = parse_config(config);
  }

  void read_default() {
    want_words(3, "default KEY VALUE");
    const auto place = std::ranges::find(kDefaultNames, words_[1]) - kDefaultNames.begin();
    if (place == std::ssize(kDefaultNames))
      lines_.refuse("invalid_header", join("default ", words_[1], " is unknown to version 1"));
    if (place < next_default_)
      lines_.refuse("invalid_header", join("default ", words_[1], " is repeated or out of order"));
    next_default_ = place + 1;
    header_.defaults.emplace_back(words_[1], default_value());
    advance();
  }

  ConfigValue default_value() const {
    const std::string_view key = words_[1];
    const std::string_view text = words_[2];
    if (key == "top_k") return integer_of(lines_, text, "top_k");
    if (key == "top_k_ties") {
      const auto value = parse_boolean(text);
      if (!value) lines_.refuse("invalid_header", "top_k_ties must be true or false");
      return *value;
    }
    const auto value = parse_real(text);
    const bool share = key == "top_p" || key == "min_p";
    const bool above_zero = key == "top_p" || key == "repetition_penalty";
    if (!value || *value < 0 || (above_zero && *value == 0) || *value > (share ? 1 : 100)) {
      lines_.refuse("invalid_header", join(key, " is \"", text, "\", which no request may ask for"));
    }
    return *value;
  }

  void read_blob() {
    want_words(5, "blob NAME OFFSET BYTES CRC32C");
    const auto place = std::ranges::find(kBlobNames, words_[1]) - kBlobNames.begin();
    if (place == std::ssize(kBlobNames))
      lines_.refuse("invalid_header", join("blob ", words_[1], " is unknown to version 1"));
    if (place < next_blob_) lines_.refuse("invalid_header", join("blob ", words_[1], " is repeated or out of order"));
    next_blob_ = place + 1;
    header_.blobs.push_back({std::string(words_[1]), extent_of(lines_, std::span(words_).subspan(2))});
    advance();
  }

  /// All tensor lines are read before they are compared with what the config implies, so that the error can list both.
  void read_tensors() {
    const int64_t first_line = lines_.line_start();
    while (words_[0] == "tensor") {
      if (words_.size() > 8) lines_.refuse("invalid_shape", "a tensor has two dimensions, ROWS and COLS");
      want_words(8, "tensor NAME FORMAT ROWS COLS OFFSET BYTES CRC32C");
      header_.tensors.push_back(tensor_of_line());
      advance();
    }
    if (words_[0] != "end") refuse_line("misplaced");
    // A layer has several tensors. So what a file makes us do is bounded by its size, not by what it claims.
    if (header_.config.n_layer > std::ssize(header_.tensors)) {
      refuse_tensors(first_line, join("n_layer is ", header_.config.n_layer, ", and there are ", header_.tensors.size(),
                                      " tensors in all"));
    }
    const auto specs = tensor_specs(header_.config);
    check_names(specs, first_line);
    for (size_t i = 0; i < specs.size(); ++i) check_tensor(specs[i], header_.tensors[i]);
  }

  TensorEntry tensor_of_line() const {
    const auto format = WeightFormats::find(words_[2]);
    if (!format)
      lines_.refuse("invalid_dtype", join("tensor ", words_[1], " has the format \"", words_[2],
                                          "\"; this version knows ", WeightFormats::listed()));
    const int64_t rows = integer_of(lines_, words_[3], "ROWS", "invalid_shape");
    const int64_t cols = integer_of(lines_, words_[4], "COLS", "invalid_shape");
    if (rows == 0 || cols == 0) lines_.refuse("invalid_shape", join("tensor ", words_[1], " has no elements"));
    if (!checked_multiply(rows, cols))
      lines_.refuse("size_overflow", join("tensor ", words_[1], ": ROWS times COLS overflows"));
    // Apart, because it may throw: GCC 12 would then destroy the inner list of the line below twice.
    const Extent extent = extent_of(lines_, std::span(words_).subspan(5));
    return {{std::string(words_[1]), TensorKind::vector, rows, cols}, *format, extent};
  }

  void check_names(const std::vector<TensorSpec>& specs, int64_t offset) const {
    const auto& tensors = header_.tensors;
    const bool same = std::ranges::equal(
        specs, tensors, [](const auto& spec, const auto& tensor) { return spec.name == tensor.spec.name; });
    if (same) return;
    std::vector<std::string_view> wanted;
    std::vector<std::string_view> found;
    for (const auto& spec : specs) wanted.emplace_back(spec.name);
    for (const auto& tensor : tensors) found.emplace_back(tensor.spec.name);
    std::ranges::sort(wanted);
    std::ranges::sort(found);
    const std::string missing = names_not_in(wanted, found);
    const std::string unexpected = names_not_in(found, wanted);
    const std::string message =
        missing.empty() && unexpected.empty()
            ? "the tensors are repeated or out of order"
            : join("the config implies other tensors; missing: ", missing.empty() ? "none" : missing,
                   "; unexpected: ", unexpected.empty() ? "none" : unexpected);
    refuse_tensors(offset, message);
  }

  [[noreturn]] static void refuse_tensors(int64_t offset, const std::string& message) {
    throw ModelFileError("tensor_set", "tensors", offset, message);
  }

  /// The first five names of `a` that `b` lacks, and how many there are. Both are sorted.
  static std::string names_not_in(const std::vector<std::string_view>& a, const std::vector<std::string_view>& b) {
    std::vector<std::string_view> rest;
    std::ranges::set_difference(a, b, std::back_inserter(rest));
    std::string text;
    for (size_t i = 0; i < std::min<size_t>(rest.size(), 5); ++i) text += join(i ? ", " : "", rest[i]);
    if (rest.size() > 5) text += join(", ... (", rest.size(), " in all)");
    return text;
  }

  void check_tensor(const TensorSpec& spec, TensorEntry& tensor) const {
    const auto refuse = [&](const char* code, const std::string& message) {
      throw ModelFileError(code, "tensor " + spec.name, header_.data_start, message);
    };
    tensor.spec.kind = spec.kind;
    if (tensor.spec.rows != spec.rows || tensor.spec.cols != spec.cols) {
      refuse("invalid_shape", join("its shape is ", tensor.spec.rows, " x ", tensor.spec.cols, ", the config implies ",
                                   spec.rows, " x ", spec.cols));
    }
    if (spec.kind == TensorKind::vector && tensor.format != *WeightFormats::find("f32"))
      refuse("invalid_dtype", "a vector must be f32");
    if (!can_store(spec.kind, tensor.format)) refuse("invalid_dtype", "a table must be f32, f16 or bf16");
    const auto bytes = packed_bytes(spec.kind, tensor.format, spec.rows, spec.cols);
    if (!bytes) refuse("size_overflow", "its size in bytes overflows");
    if (*bytes != tensor.extent.bytes)
      refuse("size_mismatch", join("it has ", tensor.extent.bytes, " bytes, its shape and format imply ", *bytes));
  }

  void read_end() {
    want_words(2, "end CRC32C");
    const auto crc = parse_checksum(words_[1]);
    const auto above = std::as_bytes(std::span(text_.substr(0, static_cast<size_t>(lines_.line_start()))));
    if (!crc || *crc != crc32c(above))
      lines_.refuse("checksum", "the header's checksum does not match: the file is damaged");
    header_.end = lines_.position();
    header_.data_start = round_up(header_.end, kDataAlignment);
  }

  std::string_view text_;
  Lines lines_;
  Words words_;
  Header header_{};
  int64_t next_default_ = 0;
  int64_t next_blob_ = 0;
};

/// Each extent begins at the first multiple of 64 after the one before it; the last one ends the file.
void check_extents(const Header& header, int64_t file_bytes) {
  int64_t end = 0;
  const auto follow = [&](const std::string& section, const Extent& extent) {
    const auto refuse = [&](const char* code, const std::string& message) {
      throw ModelFileError(code, section, -1, message);
    };
    const auto aligned = checked_add(end, kDataAlignment - 1);
    const auto next = checked_add(extent.offset, extent.bytes);
    const auto in_file = next ? checked_add(*next, header.data_start) : std::nullopt;
    if (!aligned || !in_file || *in_file > INT64_MAX - kDataAlignment)
      refuse("size_overflow", "offset plus size overflows");
    const int64_t expected = *aligned / kDataAlignment * kDataAlignment;
    if (extent.offset % kDataAlignment != 0)
      refuse("misaligned", join("its offset ", extent.offset, " is not a multiple of 64"));
    if (extent.offset < expected)
      refuse("overlap", join("it starts at ", extent.offset, ", before its predecessor's end at ", end));
    if (extent.offset > expected) refuse("hole", join("it starts at ", extent.offset, ", expected ", expected));
    if (*in_file > file_bytes) {
      refuse("truncated",
             join("it ends at byte ", *in_file, ", the file has ", file_bytes, ": the copy is incomplete"));
    }
    end = *next;
  };
  for (const auto& blob : header.blobs) follow("blob " + blob.name, blob.extent);
  for (const auto& tensor : header.tensors) follow("tensor " + tensor.spec.name, tensor.extent);
  if (header.file_bytes() != file_bytes) {
    throw ModelFileError("length_mismatch", "end of file", header.file_bytes(),
                         join("the file has ", file_bytes - header.file_bytes(), " bytes after its last tensor"));
  }
}

}  // namespace

int64_t Header::file_bytes() const { return data_start + tensors.back().extent.offset + tensors.back().extent.bytes; }

Header parse_header(std::span<const std::byte> start, int64_t file_bytes) {
  start = start.first(std::min(start.size(), static_cast<size_t>(kHeaderCap)));
  const std::string_view text(reinterpret_cast<const char*>(start.data()), start.size());
  refuse_other_formats(text);
  Header header = HeaderReader(text, file_bytes).read();
  check_extents(header, file_bytes);
  return header;
}

}  // namespace pygpt
