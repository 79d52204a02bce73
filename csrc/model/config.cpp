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
      word("activation", &ModelConfig::activation, kActivationNames),
      optional(boolean("gate", &ModelConfig::gate), [](ModelConfig& config) { config.gate = false; }),
      real("attention_scale", &ModelConfig::attention_scale, 1000, false),
      boolean("tied_head", &ModelConfig::tied_head),
      boolean("qkv_bias", &ModelConfig::qkv_bias),
      boolean("proj_bias", &ModelConfig::proj_bias),
      boolean("mlp_bias", &ModelConfig::mlp_bias),
      boolean("norm_bias", &ModelConfig::norm_bias),
      boolean("head_bias", &ModelConfig::head_bias),
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

void check_together(const ModelConfig& config) {
  if (config.n_head % config.n_kv_head != 0)
    refuse("n_kv_head", join(config.n_kv_head), join("it must divide n_head, ", config.n_head));
  if (config.position == Position::rotary) {
    if (config.rope_theta == 0) refuse("position", "rotary", "config rope_theta is missing");
    if (config.head_dim % 2 != 0) refuse("position", "rotary", join("head_dim is odd, ", config.head_dim));
  } else if (config.rope_theta != 0) {
    refuse("rope_theta", join(config.rope_theta), "config position is not rotary");
  }
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
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols, bool bias) {
    specs.push_back({name, TensorKind::matrix, rows, cols});
    if (bias) specs.push_back({name + ".bias", TensorKind::vector, 1, rows});
  };
  const auto norm = [&](const std::string& name) {
    specs.push_back({name + ".gain", TensorKind::vector, 1, config.d_model});
    if (config.norm_bias) specs.push_back({name + ".bias", TensorKind::vector, 1, config.d_model});
  };
  specs.push_back(
      {"wte", config.tied_head ? TensorKind::matrix : TensorKind::table, config.padded_vocab_size, config.d_model});
  if (config.position == Position::learned)
    specs.push_back({"wpe", TensorKind::table, config.context_length, config.d_model});
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const std::string h = join("h.", layer);
    norm(h + ".ln_1");
    matrix(h + ".attn.qkv", config.qkv_rows(), config.d_model, config.qkv_bias);
    matrix(h + ".attn.proj", config.d_model, config.attention_width(), config.proj_bias);
    norm(h + ".ln_2");
    matrix(h + ".mlp.up", config.up_rows(), config.d_model, config.mlp_bias);
    matrix(h + ".mlp.down", config.d_model, config.d_ff, config.mlp_bias);
  }
  norm("ln_f");
  if (!config.tied_head) specs.push_back({"head", TensorKind::matrix, config.padded_vocab_size, config.d_model});
  if (config.head_bias) specs.push_back({"head.bias", TensorKind::vector, 1, config.padded_vocab_size});
  return specs;
}

}  // namespace pygpt
