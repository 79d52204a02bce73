#pragma once

#include <vector>

#include "backend/cpu/cpu_backend.h"

namespace pygpt {

/// One step through the model. Every worker walks all phases from top to bottom and does its share of each.
class Forward {
 public:
  /// `results.tokens` must hold an entry for each row that wants something. All memory is there before a worker starts.
  Forward(CpuBackend& backend, const Batch& batch, Results& results);

  void operator()(int worker) const noexcept;

 private:
  /// [first, last)
  struct Range {
    int64_t first;
    int64_t last;
  };

  // The phases of docs/architecture.md.
  void embed(int worker) const noexcept;
  void attend(int64_t layer, int worker) const noexcept;
  void project(int64_t layer, int worker) const noexcept;
  void expand(int64_t layer, int worker) const noexcept;
  void contract(int64_t layer, int worker) const noexcept;
  void head(int worker) const noexcept;
  void choose_tokens(int worker) const noexcept;

  // For rows that are looked into; nothing to do for the others.
  void show_states(int64_t state, int worker) const noexcept;
  void show_embeddings(int worker) const noexcept;
  void show_attention(int64_t layer, const Range& run, int64_t first_pair, int64_t group,
                      AttendArgs& args) const noexcept;

  void attend_own_heads(int64_t layer, int worker, const Input& normed) const noexcept;
  void attend_shared_heads(int64_t layer, int worker, const Input& normed) const noexcept;
  void append_row(int64_t layer, int64_t row, int64_t group, int worker) const noexcept;
  void turn_row(int64_t row, int64_t group) const noexcept;
  void norm_heads(int64_t layer, int64_t row, int64_t group) const noexcept;
  int64_t attend_calls(const Range& run) const noexcept;
  void attend_part(int64_t layer, const Range& run, int64_t group, int64_t call) const noexcept;

  // stream.cpp
  void embed_token(int32_t token, int32_t position, float* x, int worker) const noexcept;
  void smear(const Row& row, float* x, int worker) const noexcept;
  void mix(int64_t layer, float* x, const float* x0, int64_t width) const noexcept;
  void leave(int64_t layer, Range panels) const noexcept;
  void add_value(const LayerWeights& weights, int64_t row, int64_t group, const float* h, float* v) const noexcept;

  Activations& normed(int worker) const noexcept;
  Input norm_rows(const LayerNorm& norm, const Matrix& w, int worker) const noexcept;
  void norm_row(const LayerNorm& norm, const float* from, float* to) const noexcept;
  Input heads_input(const Matrix& w, int worker) const noexcept;
  void quantise(FloatRows& from, Rows& to, int64_t k, Range rows, Range groups) const noexcept;
  void multiply(const Input& x, int64_t rows, const Matrix& w, Range panels, FloatRows& y, bool add) const noexcept;
  Range share(int64_t count, int worker) const noexcept;
  void activate(Range panels) const noexcept;
  Range hidden_share(const LayerWeights& weights, int worker) const noexcept;
  bool heads_are_whole_groups() const noexcept;

  CpuBackend& backend_;
  const ModelConfig& config_;
  const Batch& batch_;
  Results& results_;
  int64_t rows_;
  int workers_;
  std::vector<Range> runs_;       // rows of one sequence that follow each other, few enough to attend
  std::vector<int64_t> outputs_;  // rows that want a token or logits
  std::vector<int64_t> shown_;    // rows that want states or an embedding
  std::vector<std::vector<const std::byte*>> pages_;  // by sequence: where its pages lie
};

}  // namespace pygpt
