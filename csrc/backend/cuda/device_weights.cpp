#include "backend/cuda/device_weights.h"

#include "backend/cuda/device_layout.h"
#include "base/error.h"
#include "formats/pack.h"

namespace pygpt::cuda {

DeviceWeights::DeviceWeights(Device& device, const ModelFile& file) : device_(device), weights_(file) {
  check_memory(file.size());
  upload(file.config());
  device_.synchronise();
}

void DeviceWeights::check_memory(int64_t bytes) const {
  const int64_t available = device_.available_memory();
  if (bytes <= available) return;
  throw OutOfMemory(join("the model needs ", bytes >> 20, " MiB of the GPU's memory, ", available >> 20, " of ",
                         device_.about().memory_bytes >> 20,
                         " MiB are free: close what else uses it, export with a smaller dtype, or use device=\"cpu\""));
}

void DeviceWeights::upload(const ModelConfig& config) {
  move(weights_.wte);
  move(weights_.wpe);
  move(weights_.ln_e, config.d_model);
  move(weights_.smear_gate, config.smear_width);
  for (LayerWeights& layer : weights_.layers) {
    move(layer.lambdas, 2);
    move(layer.ln_1, config.d_model);
    move(layer.qkv);
    move(layer.q_gain, config.head_dim);
    move(layer.k_gain, config.head_dim);
    move(layer.value_gate, config.n_kv_head * config.value_gate_width);
    move(layer.value_embed);
    move(layer.proj);
    move(layer.ln_2, config.d_model);
    move(layer.up);
    move(layer.down);
  }
  move(weights_.ln_f, config.d_model);
  move(weights_.head);
}

void DeviceWeights::move(LayerNorm& norm, int64_t width) {
  move(norm.gain, width);
  move(norm.bias, width);
}

void DeviceWeights::move(Matrix& matrix) {
  if (matrix.data == nullptr) return;
  if (is_packed_anew(matrix)) {
    pack_anew(matrix);
  } else {
    matrix.data = moved(matrix.data, packed_bytes(matrix.kind, matrix.format, matrix.n, matrix.k).value());
  }
  move(matrix.bias, matrix.n);
}

void DeviceWeights::pack_anew(Matrix& matrix) {
  const std::byte* key = matrix.data;
  if (!places_.contains(key)) {
    const auto packed = device_layout(matrix);
    const std::byte* place = moved(packed.data(), packed.size());
    device_.synchronise();  // before the memory goes
    places_.erase(packed.data());
    places_.emplace(key, place);
  }
  matrix.data = places_.at(key);
}

void DeviceWeights::move(const float*& vector, int64_t count) {
  if (vector == nullptr) return;
  const auto* bytes = reinterpret_cast<const std::byte*>(vector);
  vector = reinterpret_cast<const float*>(moved(bytes, count * static_cast<int64_t>(sizeof(float))));
}

const std::byte* DeviceWeights::moved(const std::byte* data, int64_t bytes) {
  const auto known = places_.find(data);
  if (known != places_.end()) return known->second;
  const std::byte* place = memory_.emplace_back(device_, bytes).data();
  device_.copy(memory_.back().data(), data, bytes);
  places_.emplace(data, place);
  return place;
}

Lookup DeviceWeights::lookup(const Matrix& tensor) {
  return {tensor.data, tensor.format, tensor.kind == TensorKind::table, tensor.k};
}

}  // namespace pygpt::cuda
