// Where pygpt is built without CUDA.

#include "backend/cuda/device.h"
#include "base/error.h"

namespace pygpt::cuda {

std::unique_ptr<Device> open_device() {
  throw DeviceError(
      "this build of pygpt has no CUDA: use device=\"cpu\" (or \"auto\"), or build it where nvcc is, with "
      "CMAKE_ARGS=-DPYGPT_CUDA=ON");
}

}  // namespace pygpt::cuda
