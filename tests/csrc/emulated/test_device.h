#pragma once
// The GPU that a test runs on: one that the processor plays, or the machine's.

#include <memory>
#include <vector>

#include "backend/cuda/device.h"

namespace pygpt::test {

/// Ends the program where there is none, as one that was skipped.
std::shared_ptr<cuda::Device> open_test_device();

/// Where the processor plays it: whether it has tensor cores.
void set_tensor_cores(bool there);

/// Rows of floats on the device.
class OnDevice {
 public:
  OnDevice(cuda::Device& device, int64_t rows, int64_t width) : OnDevice(device, rows, width, {}) {}
  OnDevice(cuda::Device& device, int64_t rows, int64_t width, const std::vector<float>& values)
      : device_(device), width_(width), memory_(device, rows * width) {
    if (!values.empty()) device_.copy(memory_.data(), values.data(), bytes());
    device_.synchronise();
  }

  cuda::FloatRows rows() const { return {memory_.data(), width_}; }
  float* data() const { return memory_.data(); }
  std::vector<float> values() const {
    std::vector<float> all(static_cast<size_t>(memory_.size()));
    device_.copy(all.data(), memory_.data(), bytes());
    device_.synchronise();
    return all;
  }

 private:
  int64_t bytes() const { return memory_.size() * static_cast<int64_t>(sizeof(float)); }
  cuda::Device& device_;
  int64_t width_;
  cuda::DeviceArray<float> memory_;
};

}  // namespace pygpt::test
