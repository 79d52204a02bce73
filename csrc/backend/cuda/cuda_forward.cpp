#include "backend/cuda/cuda_forward.h"

namespace pygpt {
namespace {

bool is_looked_into(Want want) { return want == Want::states || want == Want::embedding || want == Want::attention; }

}  // namespace

CudaForward::CudaForward(CudaBackend& backend, const Batch& batch)
    : backend_(backend),
      config_(backend.config_),
      weights_(*backend.weights_),
      device_(*backend.device_),
      kernels_(device_.kernels()),
      batch_(batch),
      rows_(static_cast<int>(batch.rows.size())) {
  for (int i = 0; i < rows_; ++i) {
    const Row& row = batch.rows[static_cast<size_t>(i)];
    if (!is_looked_into(row.want)) continue;
    const bool follows = !shown_.empty() && shown_.back().first + shown_.back().count == i &&
                         batch.rows[static_cast<size_t>(i) - 1].sequence == row.sequence;
    if (follows) {
      ++shown_.back().count;
    } else {
      shown_.push_back({i, 1});
    }
  }
}

void CudaForward::operator()() const {
  embed();
  show_states(0);
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    attend(layer);
    project(layer);
    expand(layer);
    contract(layer);
    leave(layer);
    show_states(layer + 1);
  }
  show_embeddings();
  if (backend_.step_.answers() == 0) return;
  head();
  choose_tokens();
}

/// The rows of x
void CudaForward::embed() const {
  const cuda::EmbedArgs args{
      .rows = backend_.step_.row_infos(),
      .count = rows_,
      .wte = cuda::DeviceWeights::lookup(weights_.wte),
      .wpe = config_.position == Position::learned ? cuda::DeviceWeights::lookup(weights_.wpe) : cuda::Lookup{},
      .norm = config_.embedding_norm ? norm_of(weights_.ln_e) : cuda::NormOf{},
      .x = backend_.x_.view(),
      .smear_gate = weights_.smear_gate,
      .smear_width = config_.smear_width,
      .smear_lambda = weights_.smear_lambda,
      .before = backend_.before_.view(),
      .lambdas = config_.layer_lambdas && config_.n_layer > 0 ? weights_.layers[0].lambdas : nullptr,
      .x0 = backend_.x0_.view(),
  };
  device_.check(kernels_.embed(args, device_.stream()));
}

/// heads = softmax(scale q k^T) v with q, k, v = norm(x) Wqkv^T, and k, v appended to the cache
void CudaForward::attend(int64_t layer) const {
  const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  cuda::MatmulArgs qkv = product(weights.qkv, backend_.x_.view(), backend_.qkv_.view(), cuda::After::store);
  qkv.norm = norm_of(weights.ln_1);
  multiply(weights.qkv, qkv);
  append(layer);
  const cuda::AttendArgs args{
      .rows = backend_.step_.row_infos(),
      .count = rows_,
      .qkv = backend_.qkv_.view(),
      .n_head = static_cast<int>(config_.n_head),
      .heads_per_group = static_cast<int>(config_.heads_per_group()),
      .cache = cache_of(layer),
      .window = config_.window_of(layer),
      .scale = static_cast<float>(config_.attention_scale),
      .out = backend_.heads_.view(),
      .weights = nullptr,
      .length = 0,
  };
  device_.check(kernels_.attend[backend_.layout_.type](args, device_.stream()));
  show_attention(layer, args);
}

/// Norms and turns q and k as the config says, adds to v what the token says, and appends k and v to the cache.
void CudaForward::append(int64_t layer) const {
  const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  if (weights.value_gate != nullptr) {
    device_.check(kernels_.norm(
        {backend_.x_.view(), nullptr, rows_, config_.d_model, norm_of(weights.ln_1), backend_.normed_.view()},
        device_.stream()));
  }
  const cuda::AppendArgs args{
      .rows = backend_.step_.row_infos(),
      .count = rows_,
      .qkv = backend_.qkv_.view(),
      .n_kv_head = static_cast<int>(config_.n_kv_head),
      .heads_per_group = static_cast<int>(config_.heads_per_group()),
      .cache = cache_of(layer),
      .angles = config_.turns(layer) ? backend_.angles_.data() : nullptr,
      .order = config_.qk_norm == QkNorm::after_rotary ? cuda::TurnAndNorm::turn_norm : cuda::TurnAndNorm::norm_turn,
      .q_gain = weights.q_gain,
      .k_gain = weights.k_gain,
      .epsilon = static_cast<float>(config_.norm_epsilon),
      .normed = backend_.normed_.view(),
      .value_gate = weights.value_gate,
      .value_gate_width = config_.value_gate_width,
      .value_gate_scale = static_cast<float>(config_.value_gate_scale),
      .value_embed = {weights.value_embed.data, weights.value_embed.format, true, config_.head_dim},
  };
  device_.check(kernels_.append[backend_.layout_.type](args, device_.stream()));
}

/// x += heads Wproj^T
void CudaForward::project(int64_t layer) const {
  const Matrix& w = weights_.layers[static_cast<size_t>(layer)].proj;
  multiply(w, product(w, backend_.heads_.view(), backend_.x_.view(), cuda::After::add));
}

/// hidden = activation(norm(x) Wup^T), or activation(gate) * up where there is a gate
void CudaForward::expand(int64_t layer) const {
  const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  cuda::MatmulArgs up = product(weights.up, backend_.x_.view(), backend_.hidden_.view(),
                                config_.gate ? cuda::After::gate : cuda::After::activate);
  up.n = config_.d_ff;
  up.norm = norm_of(weights.ln_2);
  up.activation = config_.activation;
  multiply(weights.up, up);
}

/// x += hidden Wdown^T
void CudaForward::contract(int64_t layer) const {
  const Matrix& w = weights_.layers[static_cast<size_t>(layer)].down;
  multiply(w, product(w, backend_.hidden_.view(), backend_.x_.view(), cuda::After::add));
}

/// What is mixed into x between this layer and what follows.
void CudaForward::leave(int64_t layer) const {
  const bool kept = config_.backout_layer == layer;
  const bool last = layer + 1 == config_.n_layer;
  const bool mixed = !last && config_.layer_lambdas;
  const bool taken_back = last && config_.backout_layer.has_value();
  if (!kept && !mixed && !taken_back) return;
  const cuda::MixArgs args{
      .count = rows_,
      .width = config_.d_model,
      .x = backend_.x_.view(),
      .keep = kept ? backend_.backout_.view() : cuda::FloatRows{},
      .lambdas = mixed ? weights_.layers[static_cast<size_t>(layer) + 1].lambdas : nullptr,
      .x0 = backend_.x0_.view(),
      .backout = taken_back ? backend_.backout_.view() : cuda::FloatRows{},
      .backout_lambda = weights_.backout_lambda,
  };
  device_.check(kernels_.mix(args, device_.stream()));
}

/// logits = norm(x) Whead^T, softly capped if the model does, for the rows that want a token or logits
void CudaForward::head() const {
  cuda::MatmulArgs args = product(weights_.head, backend_.x_.view(), backend_.logits_.view(), cuda::After::store);
  args.places = backend_.step_.places();
  args.rows = backend_.step_.answers();
  args.norm = norm_of(weights_.ln_f);
  args.cap = static_cast<float>(config_.logit_cap);
  multiply(weights_.head, args);
}

void CudaForward::choose_tokens() const {
  const bool goes_on = backend_.step_.answers() == rows_;  // every row is a sequence's last: its next one is known
  const cuda::ChooseArgs args{
      .logits = backend_.logits_.view(),
      .count = backend_.step_.answers(),
      .vocab_size = static_cast<int32_t>(config_.vocab_size),
      .rules = backend_.step_.rules(),
      .scratch = backend_.candidates_.view(),
      .out = backend_.tokens_.data(),
      .rows = goes_on ? backend_.step_.row_infos() : nullptr,
  };
  device_.check(kernels_.choose(args, device_.stream()));
}

cuda::MatmulArgs CudaForward::product(const Matrix& w, const cuda::FloatRows& x, const cuda::FloatRows& y,
                                      cuda::After after) const {
  return {
      .x = x,
      .places = nullptr,
      .rows = rows_,
      .norm = {},
      .w = w.data,
      .bias = w.bias,
      .n = w.n,
      .k = w.k,
      .y = y,
      .after = after,
      .activation = config_.activation,
      .cap = 0,
  };
}

void CudaForward::multiply(const Matrix& w, const cuda::MatmulArgs& args) const {
  device_.check(kernels_.matmul[w.format](args, device_.stream()));
}

cuda::NormOf CudaForward::norm_of(const LayerNorm& norm) const {
  return {norm.gain, norm.bias, static_cast<float>(config_.norm_epsilon), config_.norm};
}

cuda::CacheOf CudaForward::cache_of(int64_t layer) const {
  const PageLayout& layout = backend_.layout_;
  return {
      .pool = backend_.pool_.data(),
      .page_bytes = layout.page_bytes,
      .pages = backend_.step_.pages(),
      .layer_offset = layout.k_offset(layer, 0),
      .group_bytes = layout.k_bytes + layout.v_bytes,
      .v_offset = layout.k_bytes,
      .head_dim = static_cast<int>(config_.head_dim),
  };
}

const Look& CudaForward::look_of(const Run& run) const {
  return batch_.sequences[static_cast<size_t>(batch_.rows[static_cast<size_t>(run.first)].sequence)].look;
}

Want CudaForward::want_of(const Run& run) const { return batch_.rows[static_cast<size_t>(run.first)].want; }

/// The residual stream after the first `state` layers.
void CudaForward::show_states(int64_t state) const {
  for (const Run& run : shown_) {
    if (want_of(run) != Want::states) continue;
    const Look& look = look_of(run);
    for (int i = run.first; i < run.first + run.count; ++i) {
      const int64_t position = batch_.rows[static_cast<size_t>(i)].position;
      device_.copy(look.to + (state * look.length + position) * config_.d_model,
                   backend_.x_.view().data + i * backend_.x_.stride,
                   config_.d_model * static_cast<int64_t>(sizeof(float)));
    }
  }
}

void CudaForward::show_embeddings() const {
  for (const Run& run : shown_) {
    if (want_of(run) != Want::embedding) continue;
    const cuda::FloatRows x{backend_.x_.view().data + run.first * backend_.x_.stride, backend_.x_.stride};
    device_.check(kernels_.norm(
        {x, nullptr, run.count, config_.d_model, norm_of(weights_.ln_f), backend_.normed_.view()}, device_.stream()));
    for (int i = 0; i < run.count; ++i) {
      const int64_t position = batch_.rows[static_cast<size_t>(run.first + i)].position;
      device_.copy(look_of(run).to + position * config_.d_model,
                   backend_.normed_.view().data + i * backend_.normed_.stride,
                   config_.d_model * static_cast<int64_t>(sizeof(float)));
    }
  }
}

/// The weights of the rows of a layer whose attention is wanted.
void CudaForward::show_attention(int64_t layer, cuda::AttendArgs args) const {
  for (const Run& run : shown_) {
    const Look& look = look_of(run);
    if (want_of(run) != Want::attention || look.layer != layer) continue;
    cuda::DeviceArray<float> weights(device_, config_.n_head * look.length * look.length);
    device_.clear(weights.data(), weights.size() * static_cast<int64_t>(sizeof(float)));
    args.rows = backend_.step_.row_infos() + run.first;
    args.count = run.count;
    args.qkv = {backend_.qkv_.view().data + run.first * backend_.qkv_.stride, backend_.qkv_.stride};
    args.weights = weights.data();
    args.length = look.length;
    device_.check(kernels_.attend[backend_.layout_.type](args, device_.stream()));
    const int64_t position = batch_.rows[static_cast<size_t>(run.first)].position;
    for (int64_t head = 0; head < config_.n_head; ++head) {
      const int64_t at = (head * look.length + position) * look.length;
      device_.copy(look.to + at, weights.data() + at, run.count * look.length * static_cast<int64_t>(sizeof(float)));
    }
    device_.synchronise();  // before the memory goes
  }
}

}  // namespace pygpt
