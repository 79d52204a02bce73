#pragma once

#include "backend/cuda/cuda_backend.h"

namespace pygpt {

/// One step through the model, put on the device's stream: the phases of docs/architecture.md, each one or two kernels.
class CudaForward {
 public:
  /// The batch has been sent to the device as `backend`'s step.
  CudaForward(CudaBackend& backend, const Batch& batch);

  void operator()() const;

 private:
  /// A run of rows of one sequence.
  struct Run {
    int first;
    int count;
  };

  void embed() const;
  void attend(int64_t layer) const;
  void append(int64_t layer) const;
  void project(int64_t layer) const;
  void expand(int64_t layer) const;
  void contract(int64_t layer) const;
  void leave(int64_t layer) const;
  void head() const;
  void choose_tokens() const;

  // For rows that are looked into; nothing to do for the others.
  void show_states(int64_t state) const;
  void show_embeddings() const;
  void show_attention(int64_t layer, cuda::AttendArgs args) const;
  const Look& look_of(const Run& run) const;
  Want want_of(const Run& run) const;

  cuda::MatmulArgs product(const Matrix& w, const cuda::FloatRows& x, const cuda::FloatRows& y,
                           cuda::After after) const;
  cuda::NormOf norm_of(const LayerNorm& norm) const;
  cuda::CacheOf cache_of(int64_t layer) const;
  void multiply(const Matrix& w, const cuda::MatmulArgs& args) const;

  CudaBackend& backend_;
  const ModelConfig& config_;
  const Weights& weights_;
  cuda::Device& device_;
  const cuda::KernelTable& kernels_;
  const Batch& batch_;
  int rows_;
  std::vector<Run> shown_;
};

}  // namespace pygpt
