#pragma once
// A model's tensors, ready for kernels. Matrices and tables stay where the file lies; vectors are copied and filled up.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "model/file.h"

namespace pygpt {

/// [n, k] in panels (matrix) or rows (table); borrowed from the file.
struct Matrix {
  const std::byte* data = nullptr;
  TensorKind kind = TensorKind::matrix;
  int format = 0;
  int64_t n = 0;
  int64_t k = 0;
  const float* bias = nullptr;  // [n], filled up to panels; null: none

  int64_t panels() const { return panel_count(n); }
};

/// Of either kind of norm.
struct LayerNorm {
  const float* gain = nullptr;  // [d_model]
  const float* bias = nullptr;  // null: none
};

struct LayerWeights {
  LayerNorm ln_1;
  Matrix qkv;                     // [n_kv_head * group_rows, d_model]
  const float* q_gain = nullptr;  // [head_dim], of the norm of q; null: none
  const float* k_gain = nullptr;
  Matrix proj;  // [d_model, n_head * head_dim]
  LayerNorm ln_2;
  Matrix up;    // [up_rows, d_model]
  Matrix down;  // [d_model, d_ff]
};

/// Borrows from `file`, which must outlive it.
class Weights {
 public:
  explicit Weights(const ModelFile& file);

  Matrix wte;  // [padded_vocab_size, d_model]
  Matrix wpe;  // [context_length, d_model]; empty where positions are rotary
  std::vector<LayerWeights> layers;
  LayerNorm ln_f;
  Matrix head;  // [padded_vocab_size, d_model]

  /// Bytes that one token reads: all matrices that are multiplied.
  int64_t multiplied_bytes() const noexcept { return multiplied_bytes_; }

 private:
  Matrix matrix(const ModelFile& file, const std::string& name);
  LayerNorm layer_norm(const ModelFile& file, const std::string& name);
  const float* vector(const ModelFile& file, const std::string& name);

  std::vector<AlignedArray<float>> vectors_;
  int64_t multiplied_bytes_ = 0;
};

}  // namespace pygpt
