#pragma once
// A model's tensors in the memory of a GPU.

#include <unordered_map>
#include <vector>

#include "backend/cuda/device.h"
#include "model/weights.h"

namespace pygpt::cuda {

/// The same as Weights, with pointers that only the device may follow.
class DeviceWeights {
 public:
  /// Copies everything. Throws OutOfMemory with figures before anything is copied.
  DeviceWeights(Device& device, const ModelFile& file);

  /// rope_frequencies stay on the host, where angles are made of them.
  const Weights& operator*() const noexcept { return weights_; }
  const Weights* operator->() const noexcept { return &weights_; }

  static Lookup lookup(const Matrix& tensor);

 private:
  void check_memory(int64_t bytes) const;
  void upload(const ModelConfig& config);
  void move(LayerNorm& norm, int64_t width);
  void move(Matrix& matrix);
  void pack_anew(Matrix& matrix);
  void move(const float*& vector, int64_t count);
  const std::byte* moved(const std::byte* data, int64_t bytes);

  Device& device_;
  Weights weights_;
  std::vector<DeviceArray<std::byte>> memory_;
  std::unordered_map<const std::byte*, const std::byte*> places_;  // of what was copied: a tied head is the embedding
};

}  // namespace pygpt::cuda
