#pragma once

#include <utility>
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
  // The phases of docs/architecture.md.
  void embed(int worker) const noexcept;
  void attend(int64_t layer, int worker) const noexcept;
  void project(int64_t layer, int worker) const noexcept;
  void expand(int64_t layer, int worker) const noexcept;
  void contract(int64_t layer, int worker) const noexcept;
  void head(int worker) const noexcept;
  void choose_tokens(int worker) const noexcept;

  void attend_own_heads(int64_t layer, int worker, RowBuffer& normed) const noexcept;
  void attend_shared_heads(int64_t layer, int worker, RowBuffer& normed) const noexcept;
  void append_row(int64_t layer, int64_t row, int64_t head) const noexcept;
  void attend_row(int64_t layer, int64_t row, int64_t head) const noexcept;

  RowBuffer& norm_rows(const LayerNorm& norm, int worker) const noexcept;
  void norm_row(const LayerNorm& norm, const float* from, float* to) const noexcept;
  void multiply(RowBuffer& x, int64_t rows, const Matrix& w, std::pair<int64_t, int64_t> panels, RowBuffer& y,
                bool add) const noexcept;
  std::pair<int64_t, int64_t> share(int64_t count, int worker) const noexcept;

  CpuBackend& backend_;
  const ModelConfig& config_;
  const Batch& batch_;
  Results& results_;
  int64_t rows_;
  int workers_;
  std::vector<int64_t> outputs_;                      // rows that want something
  std::vector<std::vector<const std::byte*>> pages_;  // by sequence: where its pages lie
};

}  // namespace pygpt
