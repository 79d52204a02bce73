#include "mutations.h"

#include <algorithm>
#include <array>
#include <random>
#include <span>

#include "base/crc32c.h"
#include "base/error.h"
#include "formats/formats.h"
#include "model/builder.h"
#include "model/config.h"

namespace pygpt::fuzz {
namespace {

using test::Parts;

constexpr int64_t kLargest = 1 << 14;  // bytes of a file that is made here: many small ones say more than a few large

/// Numbers at the borders of what a field, an int64_t or a size may hold, and every word and key of the format.
constexpr std::array kWords = {"0",
                               "1",
                               "2",
                               "3",
                               "16",
                               "63",
                               "64",
                               "65",
                               "128",
                               "4096",
                               "4097",
                               "65536",
                               "1048576",
                               "16777216",
                               "2147483647",
                               "2147483648",
                               "4294967296",
                               "4611686018427387904",
                               "9223372036854775744",
                               "9223372036854775807",
                               "9223372036854775808",
                               "18446744073709551616",
                               "-1",
                               "01",
                               "0.5",
                               "1000000",
                               "0.00001",
                               "1e9",
                               "nan",
                               "inf",
                               "true",
                               "false",
                               "none",
                               "10",
                               "1,2,3",
                               "1,1",
                               "layer_norm",
                               "rms_norm",
                               "learned",
                               "rotary",
                               "relu",
                               "gelu",
                               "gelu_tanh",
                               "silu",
                               "relu2",
                               "before_rotary",
                               "after_rotary",
                               "f32",
                               "f16",
                               "bf16",
                               "q8",
                               "q4",
                               "00000000",
                               "ffffffff",
                               "top_k",
                               "top_p",
                               "chat.json",
                               "end"};

/// Lines that a config may have, before the key that follows them.
constexpr std::array<std::array<const char*, 2>, 14> kOptional = {{
    {"n_kv_head 1", "head_dim"},
    {"rope_theta 10000", "activation"},
    {"rope_frequencies true", "activation"},
    {"rope_layers 10", "activation"},
    {"gate true", "attention_scale"},
    {"qk_norm before_rotary", "tied_head"},
    {"window 3", "tied_head"},
    {"window_layers 10", "tied_head"},
    {"embedding_norm true", "start_token"},
    {"smear_width 3", "start_token"},
    {"layer_lambdas true", "start_token"},
    {"value_gate_width 2", "start_token"},
    {"backout_layer 0", "start_token"},
    {"logit_cap 15", "start_token"},
}};

/// At least one part. Not by a stream: the fuzzer spent a tenth of its time in those.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  parts.reserve(64);  // an allocation costs much under a sanitizer
  while (true) {
    const size_t length = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, length));
    if (length == text.size()) return parts;
    text.remove_prefix(length + 1);
  }
}

class Mutator {
 public:
  Mutator(const std::string& file, uint32_t seed) : chance_(seed + 1u) { take_apart(file); }

  std::string run() {
    for (size_t count = 1 + below(4); count > 0; --count) change();
    if (new_config_) follow_config();
    if (below(16) == 0) return bytes_changed(parts_.bytes());
    return parts_.bytes();
  }

 private:
  size_t below(size_t count) { return count == 0 ? 0 : static_cast<size_t>(chance_() >> 3) % count; }
  std::string& any_line() { return parts_.lines[below(parts_.lines.size())]; }
  std::string word() { return kWords[below(kWords.size())]; }

  /// What has no "end" line is all header.
  void take_apart(const std::string& file) {
    const size_t end = std::min(file.find("\nend "), file.size());
    const auto lines = split(std::string_view(file).substr(0, end), '\n');
    parts_.lines.assign(lines.begin(), lines.end());
    if (end == file.size()) return;
    const size_t data = (file.find('\n', end + 1) / 64 + 1) * 64;
    if (data < file.size()) parts_.data = file.substr(data);
  }

  void change() {
    switch (below(9)) {
      case 0: return change_word(any_line());
      case 1: return change_word(any_line_of("config "));
      case 2: any_line() = any_line(); return;
      case 3: std::swap(any_line(), any_line()); return;
      case 4: return remove_line();
      case 5: return add_line();
      case 6: parts_.data = bytes_changed(std::move(parts_.data)); return;
      case 7: any_line_of("config ") = any_line_of("config "); return;
      default: new_config_ = true;
    }
  }

  std::string& any_line_of(std::string_view beginning) {
    for (size_t tries = 0; tries < 8; ++tries) {
      std::string& line = any_line();
      if (line.starts_with(beginning)) return line;
    }
    return any_line();
  }

  void change_word(std::string& line) {
    const auto words = 1 + static_cast<size_t>(std::ranges::count(line, ' '));
    const size_t index = below(8) == 0 ? below(words) : words - 1 - below(std::min<size_t>(words, 5));
    line = test::with_word(line, index, word());
    if (below(8) == 0 && line.size() < 600) line += " " + word();
  }

  void remove_line() {
    if (parts_.lines.size() > 1)
      parts_.lines.erase(parts_.lines.begin() + static_cast<std::ptrdiff_t>(below(parts_.lines.size())));
  }

  void add_line() {
    const auto& [line, before] = kOptional[below(kOptional.size())];
    const auto place = std::ranges::find_if(
        parts_.lines, [&](const std::string& each) { return each.starts_with(join("config ", before, " ")); });
    parts_.lines.insert(place, join("config ", line));
    if (std::string_view(line).starts_with("value_gate_width"))
      parts_.lines.insert(std::ranges::find(parts_.lines, join("config ", line)) + 1, "config value_gate_scale 2");
    if (std::string_view(line).starts_with("rope_")) {
      for (std::string& each : parts_.lines) {
        if (each == "config position learned") each = "config position rotary";
        if (each == "config head_dim 5") each = "config head_dim 6";
      }
    }
    new_config_ = true;
  }

  std::string bytes_changed(std::string bytes) {
    const auto place = static_cast<std::ptrdiff_t>(below(bytes.size()));
    switch (below(4)) {
      case 0: return bytes.substr(0, static_cast<size_t>(place));
      case 1: return bytes + std::string(1 + below(70), '\0');
      case 2: bytes.insert(static_cast<size_t>(place), word()); return bytes;
      default: break;
    }
    if (!bytes.empty()) bytes[static_cast<size_t>(place)] = static_cast<char>(chance_());
    return bytes;
  }

  /// Blobs and tensors anew, as the config wants them, if it is one and they are small: a valid file again.
  void follow_config() {
    ConfigLines lines;
    std::vector<std::string> rest;
    rest.reserve(parts_.lines.size());
    for (const std::string& line : parts_.lines) {
      if (line.starts_with("config ")) {
        const auto words = split(line, ' ');
        if (words.size() > 2) lines.emplace_back(words[1], words[2]);
      }
      if (!line.starts_with("blob ") && !line.starts_with("tensor ")) rest.push_back(line);
    }
    try {
      const ModelConfig config = parse_config(lines);
      if (config.n_layer > 4) return;
      lay_out(std::move(rest), tensor_specs(config));
    } catch (const ModelFileError&) {
      return;  // a config that is none keeps its tensors
    }
  }

  void lay_out(std::vector<std::string> lines, const std::vector<TensorSpec>& specs) {
    const int matrices = static_cast<int>(below(WeightFormats::kCount));
    std::string data;
    const auto section = [&](const char* beginning, size_t size) {
      const size_t offset = (data.size() + 63) / 64 * 64;
      data.resize(offset + size, '\0');
      const uint32_t crc = crc32c(std::as_bytes(std::span(data).subspan(offset)));
      char line[160];  // no stream: most of the fuzzer's time went there
      std::snprintf(line, sizeof line, "%s %zu %zu %08x", beginning, offset, size, crc);
      lines.emplace_back(line);
    };
    if (below(2) == 0) section("blob tokenizer.json", below(100));
    for (const TensorSpec& spec : specs) {
      const int format = spec.kind == TensorKind::vector  ? WeightFormats::find("f32").value()
                         : can_store(spec.kind, matrices) ? matrices
                                                          : WeightFormats::find("bf16").value();
      const auto bytes = packed_bytes(spec.kind, format, spec.rows, spec.cols);
      if (!bytes || *bytes + std::ssize(data) > kLargest) return;
      char beginning[100];
      std::snprintf(beginning, sizeof beginning, "tensor %s %s %lld %lld", spec.name.c_str(),
                    WeightFormats::kNames[static_cast<size_t>(format)], static_cast<long long>(spec.rows),
                    static_cast<long long>(spec.cols));
      section(beginning, static_cast<size_t>(*bytes));
    }
    parts_ = {std::move(lines), std::move(data)};
  }

  std::minstd_rand chance_;
  Parts parts_;
  bool new_config_ = false;  // the tensors are to be those that it wants
};

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> files;
  for (const char* format : {"f32", "f16", "bf16", "q8", "q4"}) {
    for (const bool tied : {false, true}) {
      files.push_back(test::small_model({.tied_head = tied, .biases = !tied, .format = format}).bytes());
    }
  }
  files.push_back(test::small_model({.n_layer = 0}).bytes());
  files.push_back(test::small_model({.n_layer = 3, .stop_tokens = "1,2"}).bytes());
  return files;
}

std::string mutated(const std::string& file, uint32_t seed) { return Mutator(file, seed).run(); }

}  // namespace pygpt::fuzz
