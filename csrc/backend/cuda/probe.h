#pragma once

#include <cstdint>

#include "backend/cuda/device.h"

namespace pygpt::cuda {

/// Bytes that a device reads and writes a second when it copies `bytes` of its memory `times` times: the roof of
/// whatever reads its weights from there. Throws Error for fewer than one byte or copy, OutOfMemory, DeviceError.
double copy_bandwidth(Device& device, int64_t bytes, int times);

}  // namespace pygpt::cuda
