#include "model/config.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "model/number.h"

namespace pygpt {
namespace {

[[noreturn]] void refuse(const std::string& key, const std::string& value, const std::string& expected) {
  throw ModelFileError("invalid_config", "config", -1, join("config ", key, " is \"", value, "\": ", expected));
}

/// How one key is read into its field, and shown.
struct Field {
  const char* key;
  std::function<void(ModelConfig&, const std::string&)> read;
  std::function<ConfigValue(const ModelConfig&)> show;
  std::function<void(ModelConfig&)> imply = nullptr;  // what the absence of the line means; null: it must be there
};

/// A key whose line is left out where its value is the implied one, so that a config has one spelling.
Field optional(Field field, std::function<void(ModelConfig&)> imply) {
  const Field whole = field;
  field.read = [=](ModelConfig& config, const std::string& text) {
    whole.read(config, text);
    ModelConfig implied = config;
    imply(implied);
    if (whole.show(implied) == whole.show(config))
      refuse(whole.key, text, "that is what its absence means: leave the line out");
  };
  field.imply = std::move(imply);
  return field;
}

Field integer(const char* key, int64_t ModelConfig::* field, int64_t largest, int64_t least = 1) {
  return {key,
          [=](ModelConfig& config, const std::string& text) {
            const auto value = parse_integer(text);
            if (!value || *value < least || *value > largest)
              refuse(key, text, join("it must be a whole number from ", least, " to ", largest));
            config.*field = *value;
          },
          [=](const ModelConfig& config) { return ConfigValue(config.*field); }};
}

Field real(const char* key, double ModelConfig::* field, double largest, bool zero_too) {
  return {key,
          [=](ModelConfig& config, const std::string& text) {
            const auto value = parse_real(text);
            if (!value || *value < 0 || *value > largest || (*value == 0 && !zero_too)) {
              refuse(key, text,
                     join("it must be a decimal number ", zero_too ? "from 0" : "above 0", " to ", largest,
                          ", without an exponent"));
            }
            config.*field = *value;
          },
          [=](const ModelConfig& config) { return ConfigValue(config.*field); }};
}

Field boolean(const char* key, bool ModelConfig::* field) {
  return {key,
          [=](ModelConfig& config, const std::string& text) {
            const auto value = parse_boolean(text);
            if (!value) refuse(key, text, "it must be true or false");
            config.*field = *value;
          },
          [=](const ModelConfig& config) { return ConfigValue(config.*field); }};
}

/// One of the words `names`, each standing for the value of Enum at its place.
template <class Enum, size_t kCount>
Field word(const char* key, Enum ModelConfig::* field, const char* const (&names)[kCount]) {
  return {key,
          [=, &names](ModelConfig& config, const std::string& text) {
            const auto* known = std::ranges::find(names, text);
            if (known == std::end(names)) {
              std::string listed;
              for (const char* name : names) listed += join(listed.empty() ? "" : ", ", name);
              refuse(key, text, join("this version knows ", listed));
            }
            config.*field = static_cast<Enum>(known - std::begin(names));
          },
          [=, &names](const ModelConfig& config) {
            return ConfigValue(std::string(names[static_cast<size_t>(config.*field)]));
          }};
}

/// A layer, or "none".
Field layer(const char* key, std::optional<int64_t> ModelConfig::* field) {
  return {key,
          [=](ModelConfig& config, const std::string& text) {
            config.*field = parse_integer(text);
            if (!(config.*field)) refuse(key, text, "it must be a layer, from 0");
          },
          [=](const ModelConfig& config) { return ConfigValue(config.*field); }};
}

Field layer_pattern(const char* key, LayerPattern ModelConfig::* field) {
  return {key,
          [=](ModelConfig& config, const std::string& text) {
            const bool digits = text.find_first_not_of("01") == std::string::npos;
            if (!digits || text.empty() || text.size() > kMaxPattern)
              refuse(key, text, join("it must be 1 to ", kMaxPattern, " digits, 0 or 1, one for each layer"));
            config.*field = text;
          },
          [=](const ModelConfig& config) { return ConfigValue(config.*field); }};
}

Field start_token() {
  return {"start_token",
          [](ModelConfig& config, const std::string& text) {
            if (text == "none") return;
            config.start_token = parse_integer(text);
            if (!config.start_token) refuse("start_token", text, "it must be a token id or none");
          },
          [](const ModelConfig& config) { return ConfigValue(config.start_token); }};
}

Field stop_tokens() {
  return {"stop_tokens",
          [](ModelConfig& config, const std::string& text) {
            auto ids = parse_integers(text);
            if (!ids) refuse("stop_tokens", text, "it must be at most 16 token ids joined by commas, or none");
            config.stop_tokens = std::move(*ids);
          },
          [](const ModelConfig& config) { return ConfigValue(config.stop_tokens); }};
}

/// Every key, in the file's order.
const std::vector<Field>& fields() {
  static const std::vector<Field> all = {
      integer("n_layer", &ModelConfig::n_layer, 4096, 0),
      integer("n_head", &ModelConfig::n_head, 1024),
      optional(integer("n_kv_head", &ModelConfig::n_kv_head, 1024),
               [](ModelConfig& config) { config.n_kv_head = config.n_head; }),
      integer("head_dim", &ModelConfig::head_dim, kMaxHeadDim),
      integer("d_model", &ModelConfig::d_model, 1 << 17),
      integer("d_ff", &ModelConfig::d_ff, 1 << 20),
      integer("context_length", &ModelConfig::context_length, 1 << 24),
      integer("vocab_size", &ModelConfig::vocab_size, 1 << 24),
      integer("padded_vocab_size", &ModelConfig::padded_vocab_size, 1 << 24),
      word("norm", &ModelConfig::norm, kNormNames),
      real("norm_epsilon", &ModelConfig::norm_epsilon, 1, true),
      word("position", &ModelConfig::position, kPositionNames),
      optional(real("rope_theta", &ModelConfig::rope_theta, 1e12, false),
               [](ModelConfig& config) { config.rope_theta = 0; }),
      optional(boolean("rope_frequencies", &ModelConfig::rope_frequencies),
               [](ModelConfig& config) { config.rope_frequencies = false; }),
      optional(layer_pattern("rope_layers", &ModelConfig::rope_layers),
               [](ModelConfig& config) { config.rope_layers.clear(); }),
      word("activation", &ModelConfig::activation, kActivationNames),
      optional(boolean("gate", &ModelConfig::gate), [](ModelConfig& config) { config.gate = false; }),
      real("attention_scale", &ModelConfig::attention_scale, 1000, false),
      optional(word("qk_norm", &ModelConfig::qk_norm, kQkNormNames),
               [](ModelConfig& config) { config.qk_norm = QkNorm::none; }),
      optional(integer("window", &ModelConfig::window, 1 << 24), [](ModelConfig& config) { config.window = 0; }),
      optional(layer_pattern("window_layers", &ModelConfig::window_layers),
               [](ModelConfig& config) { config.window_layers.clear(); }),
      boolean("tied_head", &ModelConfig::tied_head),
      boolean("qkv_bias", &ModelConfig::qkv_bias),
      boolean("proj_bias", &ModelConfig::proj_bias),
      boolean("mlp_bias", &ModelConfig::mlp_bias),
      boolean("norm_bias", &ModelConfig::norm_bias),
      boolean("head_bias", &ModelConfig::head_bias),
      optional(boolean("embedding_norm", &ModelConfig::embedding_norm),
               [](ModelConfig& config) { config.embedding_norm = false; }),
      optional(integer("smear_width", &ModelConfig::smear_width, 1 << 17),
               [](ModelConfig& config) { config.smear_width = 0; }),
      optional(boolean("layer_lambdas", &ModelConfig::layer_lambdas),
               [](ModelConfig& config) { config.layer_lambdas = false; }),
      optional(integer("value_gate_width", &ModelConfig::value_gate_width, 1 << 17),
               [](ModelConfig& config) { config.value_gate_width = 0; }),
      optional(real("value_gate_scale", &ModelConfig::value_gate_scale, 1000, false),
               [](ModelConfig& config) { config.value_gate_scale = 0; }),
      optional(layer_pattern("value_layers", &ModelConfig::value_layers),
               [](ModelConfig& config) { config.value_layers.clear(); }),
      optional(layer("backout_layer", &ModelConfig::backout_layer),
               [](ModelConfig& config) { config.backout_layer.reset(); }),
      optional(real("logit_cap", &ModelConfig::logit_cap, 1e6, false),
               [](ModelConfig& config) { config.logit_cap = 0; }),
      start_token(),
      stop_tokens(),
  };
  return all;
}

/// Which key stands at `line` where another was expected, as one error.
[[noreturn]] void refuse_order(const ConfigLines& lines, size_t line, const std::string& expected) {
  if (line >= lines.size())
    throw ModelFileError("invalid_config", "config", -1, join("config ", expected, " is missing"));
  const std::string& key = lines[line].first;
  const auto same_key = [&](const auto& entry) { return entry.first == key; };
  const bool known = std::ranges::any_of(fields(), [&](const Field& field) { return field.key == key; });
  const bool repeated = std::any_of(lines.begin(), lines.begin() + static_cast<ptrdiff_t>(line), same_key);
  const char* fault = !known     ? "is unknown to version 1"
                      : repeated ? "is repeated"
                                 : "is out of order or the one before it is missing";
  throw ModelFileError("invalid_config", "config", -1, join("config ", key, " ", fault, "; expected ", expected));
}

/// A pattern has one spelling: the shortest, and none where all layers are alike.
void check_pattern(const char* key, const LayerPattern& pattern, int64_t n_layer) {
  if (pattern.empty()) return;
  if (std::ssize(pattern) > n_layer) refuse(key, pattern, join("there are ", n_layer, " layers"));
  std::string layers;
  for (size_t layer = 0; std::ssize(layers) < n_layer; ++layer) layers += pattern[layer % pattern.size()];
  if (layers.find('0') == std::string::npos || layers.find('1') == std::string::npos)
    refuse(key, pattern, "all layers are alike: leave the line out");
  for (size_t period = 1; period < pattern.size(); ++period) {
    if (std::equal(layers.begin() + static_cast<ptrdiff_t>(period), layers.end(), layers.begin()))
      refuse(key, pattern, join("it says the same as its first ", period, " digits"));
  }
}

void check_attention(const ModelConfig& config) {
  if (config.position != Position::rotary) {
    if (!config.rope_layers.empty()) refuse("rope_layers", config.rope_layers, "config position is not rotary");
    if (config.qk_norm == QkNorm::after_rotary)
      refuse("qk_norm", "after_rotary", "config position is not rotary; without it, say before_rotary");
  }
  if (config.window >= config.context_length) {
    refuse("window", join(config.window),
           join("it must be below context_length, ", config.context_length, ", or the line left out"));
  }
  if (config.window == 0 && !config.window_layers.empty())
    refuse("window_layers", config.window_layers, "config window is missing");
  check_pattern("rope_layers", config.rope_layers, config.n_layer);
  check_pattern("window_layers", config.window_layers, config.n_layer);
}

/// Values of tokens: which columns gate them, by how much, and in which layers.
void check_values(const ModelConfig& config) {
  const bool gated = config.value_gate_width != 0;
  if (!gated && !config.value_layers.empty())
    refuse("value_layers", config.value_layers, "config value_gate_width is missing");
  if (gated != (config.value_gate_scale != 0)) {
    refuse("value_gate_scale", join(config.value_gate_scale),
           gated ? "0 stands for a missing line; there is a value_gate_width" : "config value_gate_width is missing");
  }
  if (config.value_gate_width > config.d_model)
    refuse("value_gate_width", join(config.value_gate_width), join("it must be at most d_model, ", config.d_model));
  check_pattern("value_layers", config.value_layers, config.n_layer);
}

void check_together(const ModelConfig& config) {
  if (config.smear_width > config.d_model)
    refuse("smear_width", join(config.smear_width), join("it must be at most d_model, ", config.d_model));
  if (config.backout_layer && *config.backout_layer >= config.n_layer)
    refuse("backout_layer", join(*config.backout_layer), join("it must be below n_layer, ", config.n_layer));
  check_values(config);
  if (config.n_head % config.n_kv_head != 0)
    refuse("n_kv_head", join(config.n_kv_head), join("it must divide n_head, ", config.n_head));
  if (config.rope_theta != 0 && config.rope_frequencies)
    refuse("rope_frequencies", "true", "config rope_theta says them already");
  if (config.position == Position::rotary) {
    if (config.rope_theta == 0 && !config.rope_frequencies)
      refuse("position", "rotary", "config rope_theta is missing, and rope_frequencies too");
    if (config.head_dim % 2 != 0) refuse("position", "rotary", join("head_dim is odd, ", config.head_dim));
  } else if (config.rope_theta != 0) {
    refuse("rope_theta", join(config.rope_theta), "config position is not rotary");
  } else if (config.rope_frequencies) {
    refuse("rope_frequencies", "true", "config position is not rotary");
  }
  check_attention(config);
  if (config.padded_vocab_size < config.vocab_size) {
    refuse("padded_vocab_size", join(config.padded_vocab_size),
           join("it must be at least vocab_size, ", config.vocab_size));
  }
  if (config.start_token && *config.start_token >= config.vocab_size) {
    refuse("start_token", join(*config.start_token), join("it must be below vocab_size, ", config.vocab_size));
  }
  for (const int64_t id : config.stop_tokens) {
    if (id >= config.vocab_size)
      refuse("stop_tokens", join(id), join("each must be below vocab_size, ", config.vocab_size));
  }
}

}  // namespace

ModelConfig parse_config(const ConfigLines& lines) {
  ModelConfig config;
  size_t line = 0;
  for (const Field& field : fields()) {
    if (line < lines.size() && lines[line].first == field.key) {
      field.read(config, lines[line++].second);
    } else if (field.imply) {
      field.imply(config);
    } else {
      refuse_order(lines, line, field.key);
    }
  }
  if (line < lines.size()) refuse_order(lines, line, "no further key");
  check_together(config);
  return config;
}

std::vector<std::pair<std::string, ConfigValue>> config_values(const ModelConfig& config) {
  std::vector<std::pair<std::string, ConfigValue>> values;
  for (const Field& field : fields()) values.emplace_back(field.key, field.show(config));
  return values;
}

std::vector<TensorSpec> tensor_specs(const ModelConfig& config) {
  std::vector<TensorSpec> specs;
  const auto vector = [&](const std::string& name, int64_t cols) {
    specs.push_back({name, TensorKind::vector, 1, cols});
  };
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols, bool bias) {
    specs.push_back({name, TensorKind::matrix, rows, cols});
    if (bias) vector(name + ".bias", rows);
  };
  const auto norm = [&](const std::string& name) {
    vector(name + ".gain", config.d_model);
    if (config.norm_bias) vector(name + ".bias", config.d_model);
  };
  specs.push_back(
      {"wte", config.tied_head ? TensorKind::matrix : TensorKind::table, config.padded_vocab_size, config.d_model});
  if (config.position == Position::learned)
    specs.push_back({"wpe", TensorKind::table, config.context_length, config.d_model});
  if (config.rope_frequencies) specs.push_back({"rope_frequencies", TensorKind::vector, 1, config.head_dim / 2});
  if (config.embedding_norm) norm("ln_e");
  if (config.smear_width > 0) {
    vector("smear.gate", config.smear_width);
    vector("smear.lambda", 1);
  }
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const std::string h = join("h.", layer);
    if (config.layer_lambdas) vector(h + ".lambdas", 2);
    norm(h + ".ln_1");
    matrix(h + ".attn.qkv", config.qkv_rows(), config.d_model, config.qkv_bias);
    if (config.qk_norm != QkNorm::none) {
      for (const char* part : {".attn.q_norm.gain", ".attn.k_norm.gain"}) vector(h + part, config.head_dim);
    }
    if (config.has_values(layer)) {
      vector(h + ".attn.value_gate", config.n_kv_head * config.value_gate_width);
      specs.push_back(
          {h + ".attn.value_embed", TensorKind::table, config.padded_vocab_size, config.n_kv_head * config.head_dim});
    }
    matrix(h + ".attn.proj", config.d_model, config.attention_width(), config.proj_bias);
    norm(h + ".ln_2");
    matrix(h + ".mlp.up", config.up_rows(), config.d_model, config.mlp_bias);
    matrix(h + ".mlp.down", config.d_model, config.d_ff, config.mlp_bias);
  }
  if (config.backout_layer) vector("backout.lambda", 1);
  norm("ln_f");
  if (!config.tied_head) specs.push_back({"head", TensorKind::matrix, config.padded_vocab_size, config.d_model});
  if (config.head_bias) vector("head.bias", config.padded_vocab_size);
  return specs;
}

}  // namespace pygpt
