#pragma once
// Memory for what requests want to see of the model's inside.

#include <span>

#include "engine/request.h"
#include "model/config.h"

namespace pygpt {

/// Throws Error for a look that cannot be had, OutOfMemory if all of them together would not fit.
void check_looks(std::span<const Request> requests, const ModelConfig& config);

/// Zeroed memory for what a request that was checked will see; none for one that does not look.
Shown room_for_look(const Request& request, const ModelConfig& config);

}  // namespace pygpt
