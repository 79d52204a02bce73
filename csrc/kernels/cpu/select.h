#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/table.h"

namespace pygpt {

/// The kernels that this machine can run, best first.
const std::vector<const KernelTable*>& available_kernels();

/// Those of a named ISA; the best for an empty name. Throws DeviceError that lists what there is.
const KernelTable& select_kernels(const std::string& isa);

}  // namespace pygpt
