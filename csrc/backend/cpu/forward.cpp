#include "backend/cpu/forward.h"

#include <algorithm>

namespace pygpt {

Forward::Forward(CpuBackend& backend, const Batch& batch, Results& results)
    : backend_(backend),
      config_(backend.config_),
      batch_(batch),
      results_(results),
      rows_(std::ssize(batch.rows)),
      workers_(backend.team_.size()) {
  for (int64_t row = 0; row < rows_; ++row) {
    if (batch.rows[static_cast<size_t>(row)].want != Want::nothing) outputs_.push_back(row);
  }
  for (const SequenceView& sequence : batch.sequences) {
    auto& pages = pages_.emplace_back();
    for (const int32_t page : sequence.pages) pages.push_back(backend.pages_[static_cast<size_t>(page)].data());
  }
}

void Forward::operator()(int worker) const noexcept {
  Team& team = backend_.team_;
  embed(worker);
  team.barrier();
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    attend(layer, worker);
    team.barrier();
    project(layer, worker);
    team.barrier();
    expand(layer, worker);
    team.barrier();
    contract(layer, worker);
    team.barrier();
  }
  if (outputs_.empty()) return;
  head(worker);
  team.barrier();
  choose_tokens(worker);
}

/// x = wte[token] + wpe[position]
void Forward::embed(int worker) const noexcept {
  const Weights& weights = backend_.weights_;
  float* position = backend_.scratch_[static_cast<size_t>(worker)].position.row(0);
  for (int64_t r = worker; r < rows_; r += workers_) {
    const Row& row = batch_.rows[static_cast<size_t>(r)];
    float* x = backend_.x_.row(r);
    unpack_row(weights.wte.kind, weights.wte.format, weights.wte.data, config_.d_model, row.token, x);
    unpack_row(weights.wpe.kind, weights.wpe.format, weights.wpe.data, config_.d_model, row.position, position);
    for (int64_t i = 0; i < config_.d_model; ++i) x[i] += position[i];
  }
}

/// heads = softmax(scale q k^T) v with q, k, v = norm(x) Wqkv^T, and k, v appended to the cache
void Forward::attend(int64_t layer, int worker) const noexcept {
  RowBuffer& normed = norm_rows(backend_.weights_.layers[static_cast<size_t>(layer)].ln_1, worker);
  if (config_.n_head % workers_ == 0) {
    attend_own_heads(layer, worker, normed);
  } else {
    attend_shared_heads(layer, worker, normed);
  }
}

/// Heads divide among the workers: each makes q, k, v of its own heads and needs nobody else's.
void Forward::attend_own_heads(int64_t layer, int worker, RowBuffer& normed) const noexcept {
  const auto [first, last] = share(config_.n_head, worker);
  const int64_t head_panels = 3 * config_.padded_head_dim() / kPanel;
  const Matrix& qkv = backend_.weights_.layers[static_cast<size_t>(layer)].qkv;
  multiply(normed, rows_, qkv, {first * head_panels, last * head_panels}, backend_.qkv_, false);
  for (int64_t head = first; head < last; ++head) {
    for (int64_t row = 0; row < rows_; ++row) append_row(layer, row, head);
    for (int64_t row = 0; row < rows_; ++row) attend_row(layer, row, head);
  }
}

/// They do not: columns are shared, then pairs of row and head, with a barrier before each.
void Forward::attend_shared_heads(int64_t layer, int worker, RowBuffer& normed) const noexcept {
  const Matrix& qkv = backend_.weights_.layers[static_cast<size_t>(layer)].qkv;
  multiply(normed, rows_, qkv, share(qkv.panels(), worker), backend_.qkv_, false);
  backend_.team_.barrier();
  const int64_t pairs = rows_ * config_.n_head;
  for (int64_t pair = worker; pair < pairs; pair += workers_)
    append_row(layer, pair / config_.n_head, pair % config_.n_head);
  backend_.team_.barrier();
  for (int64_t pair = worker; pair < pairs; pair += workers_)
    attend_row(layer, pair / config_.n_head, pair % config_.n_head);
}

void Forward::append_row(int64_t layer, int64_t row, int64_t head) const noexcept {
  const Row& place = batch_.rows[static_cast<size_t>(row)];
  const PageLayout& layout = backend_.layout_;
  const int64_t padded = config_.padded_head_dim();
  const float* k = backend_.qkv_.row(row) + (head * 3 + 1) * padded;
  const int32_t page =
      batch_.sequences[static_cast<size_t>(place.sequence)].pages[static_cast<size_t>(place.position / kPageRows)];
  std::byte* memory = backend_.pages_[static_cast<size_t>(page)].data();
  backend_.kernels_.append[layout.type]({
      .k = k,
      .v = k + padded,
      .head_dim = static_cast<int>(config_.head_dim),
      .column = place.position % kPageRows,
      .k_page = memory + layout.k_offset(layer, head),
      .v_page = memory + layout.v_offset(layer, head),
  });
}

void Forward::attend_row(int64_t layer, int64_t row, int64_t head) const noexcept {
  const Row& place = batch_.rows[static_cast<size_t>(row)];
  const PageLayout& layout = backend_.layout_;
  backend_.kernels_.attend[layout.type]({
      .q = backend_.qkv_.row(row) + head * 3 * config_.padded_head_dim(),
      .pages = pages_[static_cast<size_t>(place.sequence)].data(),
      .k_offset = layout.k_offset(layer, head),
      .v_offset = layout.v_offset(layer, head),
      .head_dim = static_cast<int>(config_.head_dim),
      .count = place.position + 1,
      .scale = static_cast<float>(config_.attention_scale),
      .out = backend_.heads_.row(row) + head * config_.head_dim,
  });
}

/// x += heads Wproj^T
void Forward::project(int64_t layer, int worker) const noexcept {
  const Matrix& w = backend_.weights_.layers[static_cast<size_t>(layer)].proj;
  multiply(backend_.heads_, rows_, w, share(w.panels(), worker), backend_.x_, true);
}

/// hidden = activation(norm(x) Wup^T)
void Forward::expand(int64_t layer, int worker) const noexcept {
  const LayerWeights& weights = backend_.weights_.layers[static_cast<size_t>(layer)];
  RowBuffer& normed = norm_rows(weights.ln_2, worker);
  const auto panels = share(weights.up.panels(), worker);
  multiply(normed, rows_, weights.up, panels, backend_.hidden_, false);
  const auto activate = backend_.kernels_.activate[static_cast<int>(config_.activation)];
  for (int64_t row = 0; row < rows_; ++row)
    activate(backend_.hidden_.row(row) + panels.first * kPanel, (panels.second - panels.first) * kPanel);
}

/// x += hidden Wdown^T
void Forward::contract(int64_t layer, int worker) const noexcept {
  const Matrix& w = backend_.weights_.layers[static_cast<size_t>(layer)].down;
  multiply(backend_.hidden_, rows_, w, share(w.panels(), worker), backend_.x_, true);
}

/// logits = norm(x) Whead^T, for the rows that want something
void Forward::head(int worker) const noexcept {
  const Weights& weights = backend_.weights_;
  const int64_t count = std::ssize(outputs_);
  for (int64_t i = worker; i < count; i += workers_) {
    norm_row(weights.ln_f, backend_.x_.row(outputs_[static_cast<size_t>(i)]), backend_.last_.row(i));
  }
  backend_.team_.barrier();
  multiply(backend_.last_, count, weights.head, share(weights.head.panels(), worker), backend_.logits_, false);
}

void Forward::choose_tokens(int worker) const noexcept {
  SamplingScratch& scratch = backend_.scratch_[static_cast<size_t>(worker)].sampling;
  for (int64_t i = worker; i < std::ssize(outputs_); i += workers_) {
    const Row& row = batch_.rows[static_cast<size_t>(outputs_[static_cast<size_t>(i)])];
    if (row.want != Want::token) continue;
    const std::span<const float> logits(backend_.logits_.row(i), static_cast<size_t>(config_.vocab_size));
    results_.tokens[static_cast<size_t>(i)] =
        choose(logits, *batch_.sequences[static_cast<size_t>(row.sequence)].sampler, scratch);
  }
}

/// The normed rows of x: in the worker's own memory if they are few, else shared out and behind a barrier.
RowBuffer& Forward::norm_rows(const LayerNorm& norm, int worker) const noexcept {
  if (rows_ <= kFewRows) {
    RowBuffer& own = backend_.scratch_[static_cast<size_t>(worker)].normed;
    for (int64_t row = 0; row < rows_; ++row) norm_row(norm, backend_.x_.row(row), own.row(row));
    return own;
  }
  for (int64_t row = worker; row < rows_; row += workers_)
    norm_row(norm, backend_.x_.row(row), backend_.normed_.row(row));
  backend_.team_.barrier();
  return backend_.normed_;
}

void Forward::norm_row(const LayerNorm& norm, const float* from, float* to) const noexcept {
  backend_.kernels_.layer_norm({
      .x = from,
      .gain = norm.gain,
      .bias = norm.bias,
      .epsilon = static_cast<float>(config_.norm_epsilon),
      .width = config_.d_model,
      .out = to,
  });
}

void Forward::multiply(RowBuffer& x, int64_t rows, const Matrix& w, std::pair<int64_t, int64_t> panels, RowBuffer& y,
                       bool add) const noexcept {
  backend_.kernels_.matmul[w.format]({
      .x = x.row(0),
      .x_stride = x.stride(),
      .rows = static_cast<int>(rows),
      .w = w.data,
      .k = w.k,
      .first = panels.first,
      .last = panels.second,
      .bias = w.bias,
      .y = y.row(0),
      .y_stride = y.stride(),
      .add = add,
  });
}

/// The run of `count` things that is this worker's.
std::pair<int64_t, int64_t> Forward::share(int64_t count, int worker) const noexcept {
  return {count * worker / workers_, count * (worker + 1) / workers_};
}

}  // namespace pygpt
