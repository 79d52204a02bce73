#include "backend/cuda/probe.h"

#include <chrono>

#include "base/error.h"

namespace pygpt::cuda {

double copy_bandwidth(Device& device, int64_t bytes, int times) {
  check(bytes >= 1 && times >= 1, "bytes and times must be at least 1");
  const DeviceArray<std::byte> from(device, bytes), to(device, bytes);
  device.clear(from.data(), bytes);
  device.copy(to.data(), from.data(), bytes);  // memory that was never touched may be slower
  device.synchronise();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) device.copy(to.data(), from.data(), bytes);
  device.synchronise();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return 2.0 * static_cast<double>(bytes) * times / std::max(taken.count(), 1e-9);
}

}  // namespace pygpt::cuda
