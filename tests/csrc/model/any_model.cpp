#include "model/any_model.h"

#include <cmath>
#include <cstdio>
#include <set>
#include <span>

#include "base/crc32c.h"
#include "check.h"
#include "formats/formats.h"
#include "model/builder.h"

namespace pygpt::test {
namespace {

/// Keys whose line is left out where nothing is to be said.
const std::set<std::string> kOptional = {"rope_theta",       "rope_frequencies", "rope_layers",   "gate",
                                         "qk_norm",          "window",           "window_layers", "embedding_norm",
                                         "smear_width",      "layer_lambdas",    "value_layers",  "value_gate_width",
                                         "value_gate_scale", "backout_layer",    "logit_cap"};

std::string spelled(int64_t value) { return join(value); }
std::string spelled(double value) {  // without an exponent
  char text[64];
  std::snprintf(text, sizeof text, "%.9f", value);
  std::string digits = text;
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.back() == '.') digits.pop_back();
  return digits;
}
std::string spelled(bool value) { return value ? "true" : "false"; }
std::string spelled(const std::string& value) { return value; }
std::string spelled(const std::optional<int64_t>& value) { return value ? join(*value) : "none"; }
std::string spelled(const std::vector<int64_t>& value) { return value.empty() ? "none" : join(value[0]); }

std::vector<std::string> config_lines(const ModelConfig& config) {
  std::vector<std::string> lines = {"pygpt 1"};
  for (const auto& [key, value] : config_values(config)) {
    const std::string text = std::visit([](const auto& each) { return spelled(each); }, value);
    const bool nothing = text.empty() || text == "0" || text == "false" || text == "none";
    if (kOptional.contains(key) && nothing) continue;
    if (key == "n_kv_head" && config.n_kv_head == config.n_head) continue;
    lines.push_back("config " + key + " " + text);
  }
  return lines;
}

/// Weights of a size that keeps every sublayer as loud as the others.
class Weights {
 public:
  explicit Weights(const ModelConfig& config) : config_(config) {}

  std::vector<float> of(const TensorSpec& spec) {
    std::vector<float> values;
    for (int64_t row = 0; row < spec.rows; ++row) {
      for (int64_t col = 0; col < spec.cols; ++col) {
        const float value = scaled(spec, next());
        values.push_back(is_padding(spec, spec.kind == TensorKind::vector ? col : row) ? 0.0f : value);
      }
    }
    return values;
  }

 private:
  float next() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<float>(state_ >> 8) / 8388608.0f - 1.0f;
  }

  static float scaled(const TensorSpec& spec, float value) {
    if (spec.name == "rope_frequencies") return 0.5f + 0.4f * value;
    if (spec.name.ends_with("gain")) return 1 + 0.3f * value;
    if (spec.kind == TensorKind::vector) return 0.5f * value;
    if (spec.kind == TensorKind::table) return value;
    return value * std::sqrt(3.0f / static_cast<float>(spec.cols));
  }

  /// Rows that the format wants to be zero: of heads past head_dim, of gate and up past d_ff.
  bool is_padding(const TensorSpec& spec, int64_t row) const {
    if (spec.name.find("attn.qkv") != std::string::npos) return row % config_.padded_head_dim() >= config_.head_dim;
    if (spec.name.find("mlp.up") == std::string::npos || !config_.gate) return false;
    return row / (2 * kPanel) * kPanel + row % kPanel >= config_.d_ff;
  }

  const ModelConfig& config_;
  uint32_t state_ = 777;
};

}  // namespace

ModelConfig gpt2_shape() {
  ModelConfig config;
  config.n_layer = 2;
  config.n_head = config.n_kv_head = 3;
  config.head_dim = 5;
  config.d_model = 27;
  config.d_ff = 70;
  config.context_length = 48;
  config.vocab_size = 61;
  config.padded_vocab_size = 64;
  config.norm_epsilon = 0.00001;
  config.activation = Activation::gelu_tanh;
  config.attention_scale = 0.4472136;
  config.tied_head = true;
  config.qkv_bias = config.proj_bias = config.mlp_bias = config.norm_bias = true;
  return config;
}

ModelConfig llama_shape() {
  ModelConfig config = gpt2_shape();
  config.n_head = 4;
  config.n_kv_head = 2;
  config.head_dim = 6;
  config.norm = Norm::rms_norm;
  config.position = Position::rotary;
  config.rope_theta = 10000;
  config.activation = Activation::silu;
  config.gate = true;
  config.tied_head = false;
  config.qkv_bias = config.proj_bias = config.mlp_bias = config.norm_bias = false;
  return config;
}

ModelConfig nanochat_shape() {
  ModelConfig config = llama_shape();
  config.n_layer = 3;
  config.activation = Activation::relu_squared;
  config.gate = false;
  config.qk_norm = QkNorm::after_rotary;
  config.rope_theta = 0;
  config.rope_frequencies = true;
  config.rope_layers = "110";
  config.window = 9;
  config.window_layers = "011";
  config.embedding_norm = true;
  config.smear_width = 7;
  config.layer_lambdas = true;
  config.value_gate_width = 5;
  config.value_gate_scale = 2;
  config.value_layers = "01";
  config.backout_layer = 1;
  config.logit_cap = 3;
  config.head_bias = true;
  return config;
}

std::shared_ptr<const ModelFile> any_model(const ModelConfig& config, const std::string& format) {
  Parts parts{config_lines(config), ""};
  Weights weights(config);
  for (const TensorSpec& spec : tensor_specs(config)) {
    const bool storable = can_store(spec.kind, WeightFormats::find(format).value());
    const std::string name = spec.kind == TensorKind::vector ? "f32" : storable ? format : "f16";
    const int id = WeightFormats::find(name).value();
    const auto values = weights.of(spec);
    std::string bytes(static_cast<size_t>(packed_bytes(spec.kind, id, spec.rows, spec.cols).value()), '\0');
    pack(spec.kind, id, values.data(), spec.rows, spec.cols, reinterpret_cast<std::byte*>(bytes.data()));
    parts.data.resize((parts.data.size() + 63) / 64 * 64, '\0');
    char crc[9];
    std::snprintf(crc, sizeof crc, "%08x", crc32c(std::as_bytes(std::span(bytes))));
    parts.lines.push_back(join("tensor ", spec.name, " ", name, " ", spec.rows, " ", spec.cols, " ", parts.data.size(),
                               " ", bytes.size(), " ", crc));
    parts.data += bytes;
  }
  const TemporaryFolder folder;
  return std::make_shared<const ModelFile>(folder.write("model.pygpt", parts.bytes()), false, Verify::full);
}

}  // namespace pygpt::test
