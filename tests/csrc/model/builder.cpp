#include "model/builder.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>

#include "base/crc32c.h"
#include "base/error.h"
#include "check.h"
#include "formats/formats.h"
#include "formats/pack.h"

namespace pygpt::test {
namespace {

std::string hex(uint32_t crc) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", crc);
  return text;
}

uint32_t crc_of(std::string_view bytes) { return crc32c(std::as_bytes(std::span(bytes))); }

std::string end_line(std::string_view above) { return "end " + hex(crc_of(above)) + "\n"; }

int64_t padded_head(const Shape& shape) { return (shape.head_dim + 15) / 16 * 16; }

/// Adds sections to a file, each at the next multiple of 64.
class Writer {
 public:
  explicit Writer(const Shape& shape) : shape_(shape) {}

  void config(const std::string& key, const std::string& value) {
    parts_.lines.push_back("config " + key + " " + value);
  }
  void plain(const std::string& line) { parts_.lines.push_back(line); }

  void blob(const std::string& name, const std::string& bytes) { section("blob " + name, bytes); }

  void tensor(const std::string& name, TensorKind kind, int64_t rows, int64_t cols) {
    const bool storable = can_store(kind, WeightFormats::find(shape_.format).value());
    const std::string format = kind == TensorKind::vector ? "f32" : storable ? shape_.format : "f16";
    const int id = WeightFormats::find(format).value();
    const auto weights = numbers(name, rows, cols);
    std::string bytes(static_cast<size_t>(packed_bytes(kind, id, rows, cols).value()), '\0');
    pack(kind, id, weights.data(), rows, cols, reinterpret_cast<std::byte*>(bytes.data()));
    section(join("tensor ", name, " ", format, " ", rows, " ", cols), bytes);
  }

  void matrix(const std::string& name, int64_t rows, int64_t cols) {
    tensor(name, TensorKind::matrix, rows, cols);
    if (shape_.biases) vector(name + ".bias", rows);
  }

  void norm(const std::string& name) {
    vector(name + ".gain", shape_.d_model);
    if (shape_.biases) vector(name + ".bias", shape_.d_model);
  }

  void vector(const std::string& name, int64_t cols) { tensor(name, TensorKind::vector, 1, cols); }

  Parts take() { return std::move(parts_); }

 private:
  void section(const std::string& beginning, const std::string& bytes) {
    parts_.data.resize((parts_.data.size() + 63) / 64 * 64, '\0');
    plain(join(beginning, " ", parts_.data.size(), " ", bytes.size(), " ", hex(crc_of(bytes))));
    parts_.data += bytes;
  }

  /// Reproducible weights in about [-weight, weight]; the padding of the heads is zero, as the format wants it.
  std::vector<float> numbers(const std::string& name, int64_t rows, int64_t cols) {
    const bool of_heads = name.find("attn.qkv") != std::string::npos;
    const bool is_vector = rows == 1 && of_heads;
    std::vector<float> values;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        state_ = state_ * 1664525u + 1013904223u;
        const float value = shape_.weight * (static_cast<float>(state_ >> 8) / 8388608.0f - 1.0f);
        const int64_t place = is_vector ? col : row;
        values.push_back(of_heads && place % padded_head(shape_) >= shape_.head_dim ? 0.0f : value);
      }
    }
    return values;
  }

  Shape shape_;
  Parts parts_;
  uint32_t state_ = 12345;
};

void write_config(Writer& writer, const Shape& shape) {
  const auto boolean = [](bool value) { return std::string(value ? "true" : "false"); };
  writer.plain("pygpt 1");
  writer.config("n_layer", join(shape.n_layer));
  writer.config("n_head", join(shape.n_head));
  writer.config("head_dim", join(shape.head_dim));
  writer.config("d_model", join(shape.d_model));
  writer.config("d_ff", join(shape.d_ff));
  writer.config("context_length", join(shape.context_length));
  writer.config("vocab_size", join(shape.vocab_size));
  writer.config("padded_vocab_size", join(shape.padded_vocab_size));
  writer.config("norm", "layer_norm");
  writer.config("norm_epsilon", "0.00001");
  writer.config("position", "learned");
  writer.config("activation", shape.activation);
  writer.config("attention_scale", "0.4472136");
  writer.config("tied_head", boolean(shape.tied_head));
  for (const char* key : {"qkv_bias", "proj_bias", "mlp_bias", "norm_bias", "head_bias"})
    writer.config(key, boolean(shape.biases));
  writer.config("start_token", "none");
  writer.config("stop_tokens", shape.stop_tokens);
}

}  // namespace

std::string& Parts::line(std::string_view beginning) {
  for (std::string& each : lines) {
    if (each.starts_with(beginning)) return each;
  }
  fail(join("the model has no line ", beginning));
}

std::string Parts::bytes() const {
  std::string text;
  size_t size = data.size() + 128;
  for (const std::string& each : lines) size += each.size() + 1;
  text.reserve(size);
  for (const std::string& each : lines) (text += each) += '\n';
  text += end_line(text);
  text.resize((text.size() + 63) / 64 * 64, '\0');
  return text += data;
}

Parts small_model(const Shape& shape) {
  Writer writer(shape);
  write_config(writer, shape);
  writer.plain("default temperature 0.8");
  writer.plain("default top_k 200");
  writer.blob("tokenizer.json", "{\"not\": \"read by the core\"}");
  writer.blob("provenance.json", "{}");
  writer.tensor("wte", shape.tied_head ? TensorKind::matrix : TensorKind::table, shape.padded_vocab_size,
                shape.d_model);
  writer.tensor("wpe", TensorKind::table, shape.context_length, shape.d_model);
  for (int64_t layer = 0; layer < shape.n_layer; ++layer) {
    const std::string h = join("h.", layer, ".");
    writer.norm(h + "ln_1");
    writer.matrix(h + "attn.qkv", shape.n_head * 3 * padded_head(shape), shape.d_model);
    writer.matrix(h + "attn.proj", shape.d_model, shape.n_head * shape.head_dim);
    writer.norm(h + "ln_2");
    writer.matrix(h + "mlp.up", shape.d_ff, shape.d_model);
    writer.matrix(h + "mlp.down", shape.d_model, shape.d_ff);
  }
  writer.norm("ln_f");
  if (!shape.tied_head) writer.tensor("head", TensorKind::matrix, shape.padded_vocab_size, shape.d_model);
  if (shape.biases) writer.vector("head.bias", shape.padded_vocab_size);
  return writer.take();
}

std::string with_end(const std::string& text) { return text + end_line(text); }

std::string with_word(const std::string& line, size_t index, const std::string& word) {
  size_t begin = 0;
  for (; index > 0 && begin < line.size(); --index) begin = std::min(line.find(' ', begin), line.size() - 1) + 1;
  const size_t end = std::min(line.find(' ', begin), line.size());
  return begin < line.size() ? line.substr(0, begin) + word + line.substr(end) : line;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "pygpt-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) fail("cannot make a temporary folder");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, std::string_view bytes) const {
  std::ofstream file(path_ / name, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path(name);
}

}  // namespace pygpt::test
