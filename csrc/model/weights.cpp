#include "model/weights.h"

#include <cstring>

namespace pygpt {

Weights::Weights(const ModelFile& file) {
  wte = matrix(file, "wte");
  if (file.config().position == Position::learned) wpe = matrix(file, "wpe");
  for (int64_t layer = 0; layer < file.config().n_layer; ++layer) {
    const std::string h = join("h.", layer);
    layers.push_back({
        .ln_1 = layer_norm(file, h + ".ln_1"),
        .qkv = matrix(file, h + ".attn.qkv"),
        .q_gain = vector(file, h + ".attn.q_norm.gain"),
        .k_gain = vector(file, h + ".attn.k_norm.gain"),
        .proj = matrix(file, h + ".attn.proj"),
        .ln_2 = layer_norm(file, h + ".ln_2"),
        .up = matrix(file, h + ".mlp.up"),
        .down = matrix(file, h + ".mlp.down"),
    });
  }
  ln_f = layer_norm(file, "ln_f");
  head = file.config().tied_head ? wte : matrix(file, "head");
  head.bias = vector(file, "head.bias");
}

Matrix Weights::matrix(const ModelFile& file, const std::string& name) {
  const TensorEntry& tensor = file.tensor(name);
  if (tensor.spec.kind == TensorKind::matrix) multiplied_bytes_ += tensor.extent.bytes;
  return {
      .data = file.data(tensor.extent).data(),
      .kind = tensor.spec.kind,
      .format = tensor.format,
      .n = tensor.spec.rows,
      .k = tensor.spec.cols,
      .bias = vector(file, name + ".bias"),
  };
}

LayerNorm Weights::layer_norm(const ModelFile& file, const std::string& name) {
  return {.gain = vector(file, name + ".gain"), .bias = vector(file, name + ".bias")};
}

/// Null where the config implies none.
const float* Weights::vector(const ModelFile& file, const std::string& name) {
  const TensorEntry* tensor = file.find_tensor(name);
  if (tensor == nullptr) return nullptr;
  AlignedArray<float> copy(round_up(tensor->spec.cols, kPanel));
  std::memcpy(copy.data(), file.data(tensor->extent).data(), static_cast<size_t>(tensor->extent.bytes));
  vectors_.push_back(std::move(copy));
  return vectors_.back().data();
}

}  // namespace pygpt
