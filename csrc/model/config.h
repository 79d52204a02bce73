#pragma once
// A model's architecture as values, and the tensors that it implies.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "formats/pack.h"
#include "kernels/cpu/table.h"

namespace pygpt {

/// One line of a header as a program sees it. An empty optional is "none".
using ConfigValue = std::variant<int64_t, double, bool, std::string, std::optional<int64_t>, std::vector<int64_t>>;

enum class Position : int { learned, rotary };
inline constexpr const char* kPositionNames[] = {"learned", "rotary"};

/// Where each head's q and k get an RMS norm (arXiv:2302.05442): a gain with it does not commute with turning.
enum class QkNorm : int { none, before_rotary, after_rotary };
inline constexpr const char* kQkNormNames[] = {"none", "before_rotary", "after_rotary"};

/// A digit for each layer, from layer 0 on and then over again: 1 where something is done. Empty: in every layer.
using LayerPattern = std::string;
inline constexpr size_t kMaxPattern = 256;

/// Every key of docs/format.md. Code reads these values, never a model's name.
struct ModelConfig {
  int64_t n_layer = 0;
  int64_t n_head = 0;
  int64_t n_kv_head = 0;  // heads of k and v; each serves n_head / n_kv_head heads of q (arXiv:2305.13245)
  int64_t head_dim = 0;
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t context_length = 0;
  int64_t vocab_size = 0;         // ids that may be sampled
  int64_t padded_vocab_size = 0;  // rows of wte and of the head
  Norm norm = Norm::layer_norm;
  double norm_epsilon = 0;
  Position position = Position::learned;
  double rope_theta = 0;  // 0: not rotary
  LayerPattern rope_layers;
  Activation activation = Activation::relu;
  bool gate = false;  // hidden = activation(gate) * up (arXiv:2002.05202)
  double attention_scale = 0;
  QkNorm qk_norm = QkNorm::none;
  int64_t window = 0;  // positions that a row sees, its own the last of them; 0: all
  LayerPattern window_layers;
  bool tied_head = false;
  bool qkv_bias = false;
  bool proj_bias = false;
  bool mlp_bias = false;
  bool norm_bias = false;
  bool head_bias = false;
  std::optional<int64_t> start_token;
  std::vector<int64_t> stop_tokens;

  /// Width of a head in the rows of attn.qkv, where each of q, k and v begins at a panel.
  int64_t padded_head_dim() const { return round_up(head_dim, kPanel); }
  /// Heads of q that share a head of k and v: a group.
  int64_t heads_per_group() const { return n_head / n_kv_head; }
  /// Rows of attn.qkv of one group: q of each of its heads, then k, then v.
  int64_t group_rows() const { return (heads_per_group() + 2) * padded_head_dim(); }
  int64_t qkv_rows() const { return n_kv_head * group_rows(); }
  int64_t attention_width() const { return n_head * head_dim; }
  /// Whether a layer turns q and k by their position.
  bool turns(int64_t layer) const { return position == Position::rotary && holds(rope_layers, layer); }
  /// How many positions a row of a layer sees at most, its own the last of them.
  int64_t window_of(int64_t layer) const { return window > 0 && holds(window_layers, layer) ? window : context_length; }
  /// Rows of mlp.up. With a gate, panels of gate and of up take turns.
  int64_t up_rows() const { return gate ? 2 * round_up(d_ff, kPanel) : d_ff; }

 private:
  static bool holds(const LayerPattern& pattern, int64_t layer) {
    return pattern.empty() || pattern[static_cast<size_t>(layer) % pattern.size()] == '1';
  }
};

/// What the config says a tensor must be.
struct TensorSpec {
  std::string name;
  TensorKind kind;
  int64_t rows;
  int64_t cols;
};

/// Key and value of each line, in the file's order.
using ConfigLines = std::vector<std::pair<std::string, std::string>>;

/// Throws ModelFileError("invalid_config" or "invalid_header") that names the key.
ModelConfig parse_config(const ConfigLines& lines);

/// The config's keys and values, in the file's order.
std::vector<std::pair<std::string, ConfigValue>> config_values(const ModelConfig& config);

/// Every tensor that the config implies, in the file's order.
std::vector<TensorSpec> tensor_specs(const ModelConfig& config);

}  // namespace pygpt
