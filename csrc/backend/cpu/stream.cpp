// What happens to the residual stream beside the phases of a layer: how it begins, and what is mixed into it.

#include <algorithm>
#include <cmath>

#include "backend/cpu/forward.h"
#include "formats/pack.h"

namespace pygpt {
namespace {

/// sigmoid(gate . x) over `width` columns, which are few: in float64, in ascending order.
float gate_of(const float* gate, const float* x, int64_t width) noexcept {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(gate[i]) * static_cast<double>(x[i]);
  return static_cast<float>(1.0 / (1.0 + std::exp(-sum)));
}

/// x += scale * y
void add_scaled(float* x, float scale, const float* y, int64_t width) noexcept {
  for (int64_t i = 0; i < width; ++i) x[i] += scale * y[i];
}

}  // namespace

/// The rows of x, and the angles of their positions where these turn q and k
void Forward::embed(int worker) const noexcept {
  for (int64_t r = worker; r < rows_; r += workers_) {
    const Row& row = batch_.rows[static_cast<size_t>(r)];
    float* x = backend_.x_.row(r);
    embed_token(row.token, row.position, x, worker);
    if (config_.smear_width > 0 && row.position > 0) smear(row, x, worker);
    if (config_.position == Position::rotary) backend_.rotary_.angles(row.position, backend_.angles_.row(r));
    if (!config_.layer_lambdas) continue;
    float* x0 = backend_.x0_.row(r);
    std::copy_n(x, config_.d_model, x0);
    mix(0, x, x0, config_.d_model);
  }
}

/// x = wte[token] + wpe[position], normed if the embedding is
void Forward::embed_token(int32_t token, int32_t position, float* x, int worker) const noexcept {
  const Weights& weights = backend_.weights_;
  unpack_row(weights.wte.kind, weights.wte.format, weights.wte.data, config_.d_model, token, x);
  if (config_.position == Position::learned) {
    float* wpe = backend_.scratch_[static_cast<size_t>(worker)].position.row(0);
    unpack_row(weights.wpe.kind, weights.wpe.format, weights.wpe.data, config_.d_model, position, wpe);
    for (int64_t i = 0; i < config_.d_model; ++i) x[i] += wpe[i];
  }
  if (config_.embedding_norm) norm_row(weights.ln_e, x, x);
}

/// Adds what the position before began with, which is embedded anew: no state to keep, whatever chunk it was in.
void Forward::smear(const Row& row, float* x, int worker) const noexcept {
  const Weights& weights = backend_.weights_;
  float* before = backend_.scratch_[static_cast<size_t>(worker)].before.row(0);
  embed_token(row.previous, row.position - 1, before, worker);
  const float gate = gate_of(weights.smear_gate, x, config_.smear_width);
  add_scaled(x, weights.smear_lambda * gate, before, config_.d_model);
}

/// x = lambdas[0] * x + lambdas[1] * x0, as the layer begins
void Forward::mix(int64_t layer, float* x, const float* x0, int64_t width) const noexcept {
  const float* lambdas = backend_.weights_.layers[static_cast<size_t>(layer)].lambdas;
  for (int64_t i = 0; i < width; ++i) x[i] = lambdas[0] * x[i] + lambdas[1] * x0[i];
}

/// Between this layer and what follows, in the panels of x that this worker has just completed.
void Forward::leave(int64_t layer, Range panels) const noexcept {
  const bool kept = config_.backout_layer == layer;
  const bool last = layer + 1 == config_.n_layer;
  const int64_t first = panels.first * kPanel;
  const int64_t width = std::min(panels.last * kPanel, config_.d_model) - first;
  for (int64_t r = 0; r < rows_; ++r) {
    float* x = backend_.x_.row(r) + first;
    if (kept) std::copy_n(x, width, backend_.backout_.row(r) + first);
    if (!last && config_.layer_lambdas) mix(layer + 1, x, backend_.x0_.row(r) + first, width);
    if (last && config_.backout_layer)
      add_scaled(x, -backend_.weights_.backout_lambda, backend_.backout_.row(r) + first, width);
  }
}

/// v of a row in one group += scale * sigmoid(gate . h) * value_embed[token], h being the normed row
void Forward::add_value(const LayerWeights& weights, int64_t row, int64_t group, const float* h,
                        float* v) const noexcept {
  const int64_t width = config_.value_gate_width;
  const float gate =
      static_cast<float>(config_.value_gate_scale) * gate_of(weights.value_gate + group * width, h, width);
  const Matrix& table = weights.value_embed;
  float value[kMaxHeadDim];
  // A row of the table is one of head_dim for each group.
  unpack_row(table.kind, table.format, table.data, config_.head_dim,
             batch_.rows[static_cast<size_t>(row)].token * config_.n_kv_head + group, value);
  add_scaled(v, gate, value, config_.head_dim);
}

}  // namespace pygpt
