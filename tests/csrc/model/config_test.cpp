#include "model/config.h"

#include <algorithm>
#include <string>

#include "check.h"
#include "model/builder.h"

namespace pygpt::test {
namespace {

ConfigLines small_config() {
  ConfigLines lines;
  for (const std::string& line : small_model().lines) {
    if (!line.starts_with("config ")) continue;
    const size_t space = line.find(' ', 7);
    lines.emplace_back(line.substr(7, space - 7), line.substr(space + 1));
  }
  return lines;
}

void expect_refused(const std::string& key, const std::string& value) {
  ConfigLines lines = small_config();
  for (auto& [name, text] : lines) {
    if (name == key) text = value;
  }
  const auto error = expect_throws<ModelFileError>([&] { parse_config(lines); }, key + " " + value);
  expect_equal(error.code, "invalid_config", key + " " + value);
  expect(std::string(error.what()).find(key) != std::string::npos, error.what());
}

void values() {
  for (const char* key :
       {"n_layer", "n_head", "head_dim", "d_model", "d_ff", "context_length", "vocab_size", "padded_vocab_size"}) {
    if (std::string(key) != "n_layer") expect_refused(key, "0");  // a bigram has no layers
    for (const char* value :
         {"-1", "1.5", "01", "+1", "1e3", "nan", "none", "9223372036854775807", "9223372036854775808", "1000000000"}) {
      expect_refused(key, value);
    }
  }
  for (const char* value : {"-0.1", "1.5", "1e-5", "nan", "inf", "none"}) expect_refused("norm_epsilon", value);
  for (const char* value : {"0", "0.0", "-1", "1001", "inf", "none"}) expect_refused("attention_scale", value);
  for (const char* key : {"tied_head", "qkv_bias", "proj_bias", "mlp_bias", "norm_bias", "head_bias"}) {
    for (const char* value : {"1", "True", "none"}) expect_refused(key, value);
  }
  for (const char* value : {"swish", "Relu", "none"}) expect_refused("activation", value);
  for (const char* value : {"batch_norm", "RMS_norm", "none"}) expect_refused("norm", value);
  expect_refused("position", "absolute");
  expect_refused("position", "rotary");  // rope_theta is missing
}
const Test values_test{"a value out of its range is refused, and the error names the key", values};

void together() {
  expect_refused("padded_vocab_size", "10");
  for (const char* value : {"11", "-1", "1.5", "x"}) expect_refused("start_token", value);
  for (const char* value : {"11", "1,11", "1,,2", "1,2,3,4,5,6,7,8,9,10,1,2,3,4,5,6,7"})
    expect_refused("stop_tokens", value);
}
const Test together_test{"values that contradict each other are refused", together};

void keys() {
  const ConfigLines good = small_config();
  for (size_t i = 0; i < good.size(); ++i) {
    ConfigLines missing = good;
    missing.erase(missing.begin() + static_cast<ptrdiff_t>(i));
    expect_code("invalid_config", [&] { parse_config(missing); }, good[i].first + " missing");
    ConfigLines repeated = good;
    repeated.insert(repeated.begin() + static_cast<ptrdiff_t>(i), good[i]);
    expect_code("invalid_config", [&] { parse_config(repeated); }, good[i].first + " repeated");
    ConfigLines unknown = good;
    unknown[i].first += "x";
    expect_code("invalid_config", [&] { parse_config(unknown); }, good[i].first + " unknown");
    if (i == 0) continue;
    ConfigLines swapped = good;
    std::swap(swapped[i], swapped[i - 1]);
    expect_code("invalid_config", [&] { parse_config(swapped); }, good[i].first + " out of order");
  }
  expect_code("invalid_config", [] { parse_config({}); }, "nothing");
}
const Test keys_test{"a key that is missing, repeated, unknown or out of order is refused", keys};

/// The config with a line before the one of `next`.
ConfigLines with_line(ConfigLines lines, const std::string& next, const std::string& key, const std::string& value) {
  const auto place = std::ranges::find_if(lines, [&](const auto& line) { return line.first == next; });
  lines.insert(place, {key, value});
  return lines;
}

/// small_config() as a Llama: 2 heads of q share one of k and v.
ConfigLines llama_config() {
  ConfigLines lines = small_config();
  for (auto& [key, value] : lines) {
    if (key == "norm") value = "rms_norm";
    if (key == "position") value = "rotary";
    if (key == "activation") value = "silu";
    if (key == "head_dim") value = "6";
    if (key.ends_with("_bias")) value = "false";
  }
  lines = with_line(lines, "head_dim", "n_kv_head", "1");
  lines = with_line(lines, "activation", "rope_theta", "10000");
  return with_line(lines, "attention_scale", "gate", "true");
}

/// Lines that may be left out stand only where they say something.
void optional_keys() {
  const ModelConfig plain = parse_config(small_config());
  expect_equal(plain.n_kv_head, plain.n_head);
  expect_equal(plain.rope_theta, 0.0);
  expect(!plain.gate, "no gate");
  const auto refused = [](const ConfigLines& lines, const std::string& key) {
    const auto error = expect_throws<ModelFileError>([&] { parse_config(lines); }, key);
    expect_equal(error.code, "invalid_config", key);
    expect(std::string(error.what()).find(key) != std::string::npos, error.what());
  };
  for (const char* value : {"2", "0", "3", "4", "-1", "none", "1025"})
    refused(with_line(small_config(), "head_dim", "n_kv_head", value), "n_kv_head");
  for (const char* value : {"10000", "0", "-1", "nan", "none", "1e4"})
    refused(with_line(small_config(), "activation", "rope_theta", value), "rope_theta");
  for (const char* value : {"false", "1", "none"})
    refused(with_line(small_config(), "attention_scale", "gate", value), "gate");
  refused(with_line(small_config(), "d_model", "n_kv_head", "1"), "n_kv_head");  // out of order
  refused(with_line(with_line(small_config(), "head_dim", "n_kv_head", "1"), "head_dim", "n_kv_head", "1"),
          "n_kv_head");
}
const Test optional_keys_test{"a key that says what its absence means, or contradicts another, is refused",
                              optional_keys};

void llama() {
  const ConfigLines good = llama_config();
  const ModelConfig config = parse_config(good);
  expect_equal(config.n_kv_head, 1);
  expect_equal(config.rope_theta, 10000.0);
  expect_equal(config.heads_per_group(), 2);
  expect_equal(config.group_rows(), 4 * 16);  // q, q, k, v
  expect_equal(config.qkv_rows(), 4 * 16);
  expect_equal(config.up_rows() % 32, 0);
  for (const TensorSpec& spec : tensor_specs(config)) {
    expect(spec.name != "wpe", "no table of positions");
    if (spec.name == "h.0.attn.qkv") expect_equal(spec.rows, 64);
    if (spec.name == "h.0.mlp.up") expect_equal(spec.rows, config.up_rows());
    if (spec.name == "h.0.mlp.down") expect_equal(spec.cols, config.d_ff);
  }
  const auto code = [&](const std::string& key, const std::string& value) {
    ConfigLines lines = good;
    for (auto& [name, text] : lines) {
      if (name == key) text = value;
    }
    expect_code("invalid_config", [&] { parse_config(lines); }, key + " " + value);
  };
  code("position", "learned");  // rope_theta says otherwise
  code("head_dim", "5");        // pairs
}
const Test llama_test{"groups, gates and rotary positions change the tensors as docs/format.md says", llama};

/// llama_config() of 5 layers with every line of attention that may be left out.
ConfigLines windowed_config() {
  ConfigLines lines = llama_config();
  for (auto& [key, value] : lines) {
    if (key == "n_layer") value = "5";
  }
  lines = with_line(lines, "activation", "rope_layers", "1110");
  for (const auto& [key, value] : ConfigLines{{"qk_norm", "after_rotary"}, {"window", "3"}, {"window_layers", "01"}})
    lines = with_line(lines, "tied_head", key, value);
  return lines;
}

void windowed() {
  const ModelConfig config = parse_config(windowed_config());
  std::string turns;
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    turns += config.turns(layer) ? '1' : '0';
    expect_equal(config.window_of(layer), layer % 2 == 1 ? 3 : config.context_length, join("layer ", layer));
  }
  expect_equal(turns, std::string("11101"));
  int gains = 0;
  for (const TensorSpec& spec : tensor_specs(config)) {
    if (spec.name.ends_with("_norm.gain")) {
      ++gains;
      expect_equal(spec.cols, config.head_dim, spec.name);
    }
  }
  expect_equal(gains, 2 * 5);
  const ModelConfig plain = parse_config(llama_config());
  expect(plain.turns(0) && !parse_config(small_config()).turns(0), "rotary layers turn");
  expect_equal(plain.window_of(0), plain.context_length);
}
const Test windowed_test{"patterns are cycled over the layers, and norms of q and k have gains", windowed};

/// llama_config() with frequencies of its own.
void frequencies() {
  ConfigLines lines = llama_config();
  const auto theta = std::ranges::find_if(lines, [](const auto& line) { return line.first == "rope_theta"; });
  expect_code(
      "invalid_config", [&] { parse_config(with_line(lines, "activation", "rope_frequencies", "true")); }, "both");
  *theta = {"rope_frequencies", "true"};
  const auto specs = tensor_specs(parse_config(lines));
  expect_equal(specs[1].name, std::string("rope_frequencies"));
  expect_equal(specs[1].cols, 3);
  *theta = {"rope_frequencies", "false"};
  expect_code("invalid_config", [&] { parse_config(lines); }, "false");
  lines.erase(theta);
  expect_code("invalid_config", [&] { parse_config(lines); }, "neither");
}
const Test frequencies_test{"rotary positions have a base or frequencies of their own", frequencies};

void windows_refused() {
  const auto refused = [](const std::string& key, const std::string& value) {
    ConfigLines lines = windowed_config();
    for (auto& [name, text] : lines) {
      if (name == key) text = value;
    }
    const auto error = expect_throws<ModelFileError>([&] { parse_config(lines); }, key + " " + value);
    expect_equal(error.code, "invalid_config", key + " " + value);
    expect(std::string(error.what()).find(key) != std::string::npos, error.what());
  };
  for (const char* key : {"rope_layers", "window_layers"}) {
    // Not digits; all layers alike; longer than the layers or than it need be.
    for (const char* value : {"12", "none", "1,0", "-1", "1", "0", "111", "00000", "111110", "1010", "10101", "11111"})
      refused(key, value);
    refused(key, std::string(257, '1'));
  }
  for (const char* value : {"none", "rotary", "before"}) refused("qk_norm", value);
  for (const char* value : {"8", "9", "0", "-1", "none", "16777217"}) refused("window", value);  // of a context of 8
  const auto alone = [](const std::string& key, const std::string& value, const std::string& next) {
    expect_code("invalid_config", [&] { parse_config(with_line(small_config(), next, key, value)); }, key);
  };
  alone("rope_layers", "10", "activation");  // positions are learned
  alone("qk_norm", "after_rotary", "tied_head");
  alone("window_layers", "10", "tied_head");  // there is no window
  alone("window", "3", "activation");         // out of order
  parse_config(with_line(small_config(), "tied_head", "qk_norm", "before_rotary"));
}
const Test windows_refused_test{"a pattern has one spelling, and lines that contradict each other are refused",
                                windows_refused};
/// What is done to the residual stream beside the layers.
void stream() {
  ConfigLines lines = small_config();
  for (auto& [key, value] : lines) {
    if (key == "n_layer") value = "2";
  }
  const std::pair<const char*, const char*> added[] = {
      {"embedding_norm", "true"},  {"smear_width", "3"},   {"layer_lambdas", "true"}, {"value_gate_width", "4"},
      {"value_gate_scale", "2.5"}, {"value_layers", "10"}, {"backout_layer", "0"},    {"logit_cap", "15"}};
  for (const auto& [key, value] : added) lines = with_line(lines, "start_token", key, value);
  const ModelConfig config = parse_config(lines);
  expect_equal(config.smear_width, 3);
  expect_equal(config.value_gate_scale, 2.5);
  expect_equal(config.backout_layer.value(), 0);
  expect_equal(config.logit_cap, 15.0);
  expect(config.has_values(0) && !config.has_values(1), "layers take turns");
  std::string found;
  for (const TensorSpec& spec : tensor_specs(config)) {
    const bool is_new = spec.name.starts_with("ln_e") || spec.name.find("smear") != std::string::npos ||
                        spec.name.find("lambda") != std::string::npos || spec.name.find("value") != std::string::npos;
    if (is_new) found += join(spec.name, " ", spec.rows, " ", spec.cols, ", ");
  }
  expect_equal(
      found, std::string("ln_e.gain 1 7, ln_e.bias 1 7, smear.gate 1 3, smear.lambda 1 1, h.0.lambdas 1 2, "
                         "h.0.attn.value_gate 1 8, h.0.attn.value_embed 13 10, h.1.lambdas 1 2, backout.lambda 1 1, "));
  const auto refused = [&](const std::string& key, const std::string& value, const std::string& named) {
    ConfigLines bent = lines;
    std::erase_if(bent, [&](const auto& line) { return value.empty() && line.first == key; });
    for (auto& [name, text] : bent) {
      if (name == key) text = value;
    }
    const auto error = expect_throws<ModelFileError>([&] { parse_config(bent); }, key + " " + value);
    expect_equal(error.code, "invalid_config", key + " " + value);
    expect(std::string(error.what()).find(named) != std::string::npos, error.what());
  };
  for (const char* key : {"embedding_norm", "layer_lambdas"}) {
    for (const char* value : {"false", "1", "none"}) refused(key, value, key);
  }
  for (const char* key : {"smear_width", "value_gate_width"}) {
    for (const char* value : {"0", "-1", "8", "131073", "none"}) refused(key, value, key);  // d_model is 7
  }
  for (const char* value : {"none", "1", "0", "2", "1,0", "1010", "101"})
    refused("value_layers", value, "value_layers");
  for (const char* value : {"0", "-1", "1001", "1e3", "none"}) refused("value_gate_scale", value, "value_gate_scale");
  for (const char* value : {"2", "-1", "none", "0.0"}) refused("backout_layer", value, "backout_layer");  // of 2 layers
  for (const char* value : {"0", "-15", "1000001", "inf", "none"}) refused("logit_cap", value, "logit_cap");
  refused("value_gate_width", "", "value_gate_width");
  refused("value_gate_scale", "", "value_gate_scale");
}
const Test stream_test{"what is mixed into the stream implies its tensors, and is held to its ranges", stream};

/// The builder lists the tensors by docs/format.md in its own way.
void specs() {
  for (const bool tied : {false, true}) {
    for (const bool biases : {false, true}) {
      const Parts parts = small_model({.n_layer = 2, .tied_head = tied, .biases = biases});
      ConfigLines config;
      std::string wanted;
      for (const std::string& line : parts.lines) {
        std::istringstream words(line);
        std::string kind, first, second, rows, cols;
        words >> kind >> first >> second >> rows >> cols;
        if (kind == "config") config.emplace_back(first, second);
        if (kind == "tensor") wanted += first + " " + rows + " " + cols + "\n";
      }
      std::string found;
      for (const TensorSpec& spec : tensor_specs(parse_config(config)))
        found += join(spec.name, " ", spec.rows, " ", spec.cols, "\n");
      expect_equal(found, wanted);
    }
  }
}
const Test specs_test{"a config implies the tensors of docs/format.md, with their shapes, in order", specs};

}  // namespace
}  // namespace pygpt::test
