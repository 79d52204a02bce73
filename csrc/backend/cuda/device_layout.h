#pragma once
// From the file's layout of a matrix to the device's: kernels/cuda/fragments.h.

#include <cstddef>

#include "base/aligned.h"
#include "model/weights.h"

namespace pygpt::cuda {

/// Whether it is another one.
bool is_packed_anew(const Matrix& matrix);

/// The bytes of a matrix that is packed anew, as the device wants them.
AlignedArray<std::byte> device_layout(const Matrix& matrix);

}  // namespace pygpt::cuda
