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
