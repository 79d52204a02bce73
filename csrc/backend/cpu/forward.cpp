#include "backend/cpu/forward.h"

#include <algorithm>

#include "formats/pack.h"

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
  for (int64_t row = 0; row < rows_; ++row) {
    const bool follows =
        !runs_.empty() && runs_.back().last - runs_.back().first < kAttendRows &&
        batch.rows[static_cast<size_t>(row)].sequence == batch.rows[static_cast<size_t>(runs_.back().first)].sequence;
    if (follows) {
      ++runs_.back().last;
    } else {
      runs_.push_back({row, row + 1});
    }
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

/// x = wte[token] + wpe[position], or the angles of the position where it turns q and k
void Forward::embed(int worker) const noexcept {
  const Weights& weights = backend_.weights_;
  float* position = backend_.scratch_[static_cast<size_t>(worker)].position.row(0);
  for (int64_t r = worker; r < rows_; r += workers_) {
    const Row& row = batch_.rows[static_cast<size_t>(r)];
    float* x = backend_.x_.row(r);
    unpack_row(weights.wte.kind, weights.wte.format, weights.wte.data, config_.d_model, row.token, x);
    if (config_.position == Position::rotary) {
      backend_.rotary_.angles(row.position, backend_.angles_.row(r));
      continue;
    }
    unpack_row(weights.wpe.kind, weights.wpe.format, weights.wpe.data, config_.d_model, row.position, position);
    for (int64_t i = 0; i < config_.d_model; ++i) x[i] += position[i];
  }
}

/// heads = softmax(scale q k^T) v with q, k, v = norm(x) Wqkv^T, and k, v appended to the cache
void Forward::attend(int64_t layer, int worker) const noexcept {
  const LayerWeights& weights = backend_.weights_.layers[static_cast<size_t>(layer)];
  const Input normed = norm_rows(weights.ln_1, weights.qkv, worker);
  if (config_.n_kv_head % workers_ == 0) {
    attend_own_heads(layer, worker, normed);
  } else {
    attend_shared_heads(layer, worker, normed);
  }
}

/// Groups of heads divide among the workers: each makes q, k, v of its own and needs nobody else's.
void Forward::attend_own_heads(int64_t layer, int worker, const Input& normed) const noexcept {
  const LayerWeights& weights = backend_.weights_.layers[static_cast<size_t>(layer)];
  const auto [first, last] = share(config_.n_kv_head, worker);
  const int64_t panels = config_.group_rows() / kPanel;
  multiply(normed, rows_, weights.qkv, {first * panels, last * panels}, backend_.qkv_, false);
  for (int64_t group = first; group < last; ++group) {
    for (int64_t row = 0; row < rows_; ++row) append_row(layer, row, group);
    for (const Range& run : runs_) {
      for (int64_t call = 0; call < attend_calls(run); ++call) attend_part(layer, run, group, call);
    }
  }
  if (!is_plain(weights.proj.format) && heads_are_whole_groups()) {
    const int64_t head_groups = config_.heads_per_group() * (last - first) * config_.head_dim / kGroup;
    quantise(backend_.heads_.floats, backend_.heads_.bytes, config_.attention_width(), {0, rows_},
             {worker * head_groups, (worker + 1) * head_groups});
  }
}

/// They do not: columns are shared, then rows and calls of the kernel in turn, with a barrier before each.
void Forward::attend_shared_heads(int64_t layer, int worker, const Input& normed) const noexcept {
  const Matrix& qkv = backend_.weights_.layers[static_cast<size_t>(layer)].qkv;
  multiply(normed, rows_, qkv, share(qkv.panels(), worker), backend_.qkv_, false);
  backend_.team_.barrier();
  for (int64_t pair = worker; pair < rows_ * config_.n_kv_head; pair += workers_)
    append_row(layer, pair / config_.n_kv_head, pair % config_.n_kv_head);
  backend_.team_.barrier();
  int64_t turn = 0;
  for (const Range& run : runs_) {
    for (int64_t group = 0; group < config_.n_kv_head; ++group) {
      for (int64_t call = 0; call < attend_calls(run); ++call) {
        if (turn++ % workers_ == worker) attend_part(layer, run, group, call);
      }
    }
  }
}

/// Turns q and k of a row in one group where positions are rotary, and appends k and v to the cache.
void Forward::append_row(int64_t layer, int64_t row, int64_t group) const noexcept {
  if (config_.position == Position::rotary) turn_row(row, group);
  const Row& place = batch_.rows[static_cast<size_t>(row)];
  const PageLayout& layout = backend_.layout_;
  const int64_t padded = config_.padded_head_dim();
  const float* k = backend_.qkv_.row(row) + group * config_.group_rows() + config_.heads_per_group() * padded;
  const int32_t page =
      batch_.sequences[static_cast<size_t>(place.sequence)].pages[static_cast<size_t>(place.position / kPageRows)];
  std::byte* memory = backend_.pages_[static_cast<size_t>(page)].data();
  backend_.kernels_.append[layout.type]({
      .k = k,
      .v = k + padded,
      .head_dim = static_cast<int>(config_.head_dim),
      .column = place.position % kPageRows,
      .k_page = memory + layout.k_offset(layer, group),
      .v_page = memory + layout.v_offset(layer, group),
  });
}

/// The heads of q of a group, and its k behind them.
void Forward::turn_row(int64_t row, int64_t group) const noexcept {
  const int64_t pairs = backend_.rotary_.pairs();
  const float* angles = backend_.angles_.row(row);
  float* x = backend_.qkv_.row(row) + group * config_.group_rows();
  for (int64_t i = 0; i <= config_.heads_per_group(); ++i)
    backend_.kernels_.rotate({x + i * config_.padded_head_dim(), angles, angles + pairs, pairs});
}

/// How many calls of the kernel a run of rows takes in a group.
int64_t Forward::attend_calls(const Range& run) const noexcept {
  return ceil_div((run.last - run.first) * config_.heads_per_group(), kAttendRows);
}

/// The pairs of row and head of one call, row by row: all of them read the same k and v.
void Forward::attend_part(int64_t layer, const Range& run, int64_t group, int64_t call) const noexcept {
  const PageLayout& layout = backend_.layout_;
  const int64_t heads = config_.heads_per_group();
  const int64_t pairs = (run.last - run.first) * heads;
  const int64_t first = pairs * call / attend_calls(run);
  const int64_t count = pairs * (call + 1) / attend_calls(run) - first;
  AttendArgs args{
      .rows = static_cast<int>(count),
      .q = {},
      .out = {},
      .counts = {},
      .pages = pages_[static_cast<size_t>(batch_.rows[static_cast<size_t>(run.first)].sequence)].data(),
      .k_offset = layout.k_offset(layer, group),
      .v_offset = layout.v_offset(layer, group),
      .head_dim = static_cast<int>(config_.head_dim),
      .scale = static_cast<float>(config_.attention_scale),
  };
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = run.first + (first + i) / heads;
    const int64_t head = (first + i) % heads;  // of the group
    args.q[i] = backend_.qkv_.row(row) + group * config_.group_rows() + head * config_.padded_head_dim();
    args.out[i] = backend_.heads_.floats.row(row) + (group * heads + head) * config_.head_dim;
    args.counts[i] = batch_.rows[static_cast<size_t>(row)].position + 1;
  }
  backend_.kernels_.attend[layout.type](args);
}

/// x += heads Wproj^T
void Forward::project(int64_t layer, int worker) const noexcept {
  const Matrix& w = backend_.weights_.layers[static_cast<size_t>(layer)].proj;
  multiply(heads_input(w, worker), rows_, w, share(w.panels(), worker), backend_.x_, true);
}

/// What attention gave, as `w` reads it. Where each worker's heads are whole groups, they were quantised by it.
Input Forward::heads_input(const Matrix& w, int worker) const noexcept {
  Activations& heads = backend_.heads_;
  if (is_plain(w.format) || heads_are_whole_groups()) return heads.input(!is_plain(w.format));
  const Range groups{0, group_count(w.k)};
  if (rows_ <= kFewRows) {
    Rows& own = backend_.scratch_[static_cast<size_t>(worker)].heads;
    quantise(heads.floats, own, w.k, {0, rows_}, groups);
    return {own.row(0), own.stride()};
  }
  quantise(heads.floats, heads.bytes, w.k, share(rows_, worker), groups);
  backend_.team_.barrier();
  return heads.input(true);
}

bool Forward::heads_are_whole_groups() const noexcept {
  return config_.n_kv_head % workers_ == 0 && config_.n_head / workers_ * config_.head_dim % kGroup == 0;
}

/// hidden = activation(norm(x) Wup^T), or activation(gate) * up where there is a gate
void Forward::expand(int64_t layer, int worker) const noexcept {
  const LayerWeights& weights = backend_.weights_.layers[static_cast<size_t>(layer)];
  Activations& hidden = backend_.hidden_;
  const Input normed = norm_rows(weights.ln_2, weights.up, worker);
  const Range panels = hidden_share(weights, worker);
  if (config_.gate) {
    multiply(normed, rows_, weights.up, {2 * panels.first, 2 * panels.last}, backend_.up_, false);
  } else {
    multiply(normed, rows_, weights.up, panels, hidden.floats, false);
  }
  activate(panels);
  if (!is_plain(weights.down.format)) {
    constexpr int64_t kGroupPanels = kGroup / kPanel;
    quantise(hidden.floats, hidden.bytes, config_.d_ff, {0, rows_},
             {panels.first / kGroupPanels, ceil_div(panels.last, kGroupPanels)});
  }
}

/// What the product with Wup gave becomes these panels of the hidden layer.
void Forward::activate(Range panels) const noexcept {
  const KernelTable& kernels = backend_.kernels_;
  const auto activation = static_cast<size_t>(config_.activation);
  const int64_t count = panels.last - panels.first;
  for (int64_t row = 0; row < rows_; ++row) {
    float* hidden = backend_.hidden_.floats.row(row) + panels.first * kPanel;
    if (config_.gate) {
      kernels.gate[activation]({backend_.up_.row(row) + 2 * panels.first * kPanel, hidden, count});
    } else {
      kernels.activate[activation](hidden, count * kPanel);
    }
  }
}

/// Panels of the hidden layer; whole groups of what is quantised next.
Forward::Range Forward::hidden_share(const LayerWeights& weights, int worker) const noexcept {
  const int64_t panels = panel_count(config_.d_ff);
  if (is_plain(weights.down.format)) return share(panels, worker);
  constexpr int64_t kGroupPanels = kGroup / kPanel;
  const Range groups = share(ceil_div(panels, kGroupPanels), worker);
  return {groups.first * kGroupPanels, std::min(groups.last * kGroupPanels, panels)};
}

/// x += hidden Wdown^T
void Forward::contract(int64_t layer, int worker) const noexcept {
  const Matrix& w = backend_.weights_.layers[static_cast<size_t>(layer)].down;
  multiply(backend_.hidden_.input(!is_plain(w.format)), rows_, w, share(w.panels(), worker), backend_.x_, true);
}

/// logits = norm(x) Whead^T, for the rows that want something
void Forward::head(int worker) const noexcept {
  const Weights& weights = backend_.weights_;
  Activations& last = backend_.last_;
  const int64_t count = std::ssize(outputs_);
  const bool quantised = !is_plain(weights.head.format);
  for (int64_t i = worker; i < count; i += workers_) {
    norm_row(weights.ln_f, backend_.x_.row(outputs_[static_cast<size_t>(i)]), last.floats.row(i));
    if (quantised) quantise(last.floats, last.bytes, config_.d_model, {i, i + 1}, {0, group_count(config_.d_model)});
  }
  backend_.team_.barrier();
  multiply(last.input(quantised), count, weights.head, share(weights.head.panels(), worker), backend_.logits_, false);
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

/// The normed rows of x as `w` reads them: in the worker's own memory if they are few, else shared out and behind a
/// barrier.
Input Forward::norm_rows(const LayerNorm& norm, const Matrix& w, int worker) const noexcept {
  const bool few = rows_ <= kFewRows;
  const bool quantised = !is_plain(w.format);
  Activations& to = few ? backend_.scratch_[static_cast<size_t>(worker)].normed : backend_.normed_;
  const Range rows = few ? Range{0, rows_} : share(rows_, worker);
  for (int64_t row = rows.first; row < rows.last; ++row) norm_row(norm, backend_.x_.row(row), to.floats.row(row));
  if (quantised) quantise(to.floats, to.bytes, w.k, rows, {0, group_count(w.k)});
  if (!few) backend_.team_.barrier();
  return to.input(quantised);
}

/// Groups of columns of k-wide rows as bytes.
void Forward::quantise(FloatRows& from, Rows& to, int64_t k, Range rows, Range groups) const noexcept {
  for (int64_t row = rows.first; row < rows.last; ++row)
    backend_.kernels_.quantise({from.row(row), k, groups.first, groups.last, to.row(row)});
}

void Forward::norm_row(const LayerNorm& norm, const float* from, float* to) const noexcept {
  backend_.kernels_.norm[static_cast<size_t>(config_.norm)]({
      .x = from,
      .gain = norm.gain,
      .bias = norm.bias,
      .epsilon = static_cast<float>(config_.norm_epsilon),
      .width = config_.d_model,
      .out = to,
  });
}

void Forward::multiply(const Input& x, int64_t rows, const Matrix& w, Range panels, FloatRows& y,
                       bool add) const noexcept {
  backend_.kernels_.matmul[w.format]({
      .x = x.rows,
      .x_stride = x.stride,
      .rows = rows,
      .w = w.data,
      .k = w.k,
      .first = panels.first,
      .last = panels.last,
      .bias = w.bias,
      .y = y.row(0),
      .y_stride = y.stride() / static_cast<int64_t>(sizeof(float)),
      .add = add,
      .far = backend_.far_,
  });
}

/// The run of `count` things that is this worker's.
Forward::Range Forward::share(int64_t count, int worker) const noexcept {
  return {count * worker / workers_, count * (worker + 1) / workers_};
}

}  // namespace pygpt
