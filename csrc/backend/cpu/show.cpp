// What a forward pass shows of its inside to those that ask (batch.h: Look). Ordinary rows do not come here.

#include <cstring>

#include "backend/cpu/forward.h"

namespace pygpt {

/// The residual stream after the first `state` layers. Nobody writes x before all workers have passed the next barrier.
void Forward::show_states(int64_t state, int worker) const noexcept {
  const auto width = static_cast<size_t>(config_.d_model);
  for (int64_t i = worker; i < std::ssize(shown_); i += workers_) {
    const Row& row = batch_.rows[static_cast<size_t>(shown_[static_cast<size_t>(i)])];
    if (row.want != Want::states) continue;
    const Look& look = batch_.sequences[static_cast<size_t>(row.sequence)].look;
    std::memcpy(look.to + (state * look.length + row.position) * config_.d_model,
                backend_.x_.row(shown_[static_cast<size_t>(i)]), width * sizeof(float));
  }
}

void Forward::show_embeddings(int worker) const noexcept {
  const auto width = static_cast<size_t>(config_.d_model);
  float* normed = backend_.scratch_[static_cast<size_t>(worker)].position.row(0);
  for (int64_t i = worker; i < std::ssize(shown_); i += workers_) {
    const Row& row = batch_.rows[static_cast<size_t>(shown_[static_cast<size_t>(i)])];
    if (row.want != Want::embedding) continue;
    norm_row(backend_.weights_.ln_f, backend_.x_.row(shown_[static_cast<size_t>(i)]), normed);
    const Look& look = batch_.sequences[static_cast<size_t>(row.sequence)].look;
    std::memcpy(look.to + row.position * config_.d_model, normed, width * sizeof(float));
  }
}

/// The weights of the pairs of row and head of a call that was made of the kernel, from `first_pair` of the run on. The
/// call is done: its args may change.
void Forward::show_attention(int64_t layer, const Range& run, int64_t first_pair, int64_t group,
                             AttendArgs& args) const noexcept {
  const Row& row = batch_.rows[static_cast<size_t>(run.first)];
  const Look& look = batch_.sequences[static_cast<size_t>(row.sequence)].look;
  if (row.want != Want::attention || look.layer != layer) return;
  const int64_t heads = config_.heads_per_group();
  for (int64_t i = 0; i < args.rows; ++i) {
    const int64_t head = group * heads + (first_pair + i) % heads;
    args.out[i] = look.to + (head * look.length + args.counts[i] - 1) * look.length;
  }
  backend_.kernels_.attention_weights[backend_.layout_.type](args);
}

}  // namespace pygpt
