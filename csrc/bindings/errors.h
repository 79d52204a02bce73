#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "base/error.h"

namespace pygpt {

/// Makes the core's exceptions arrive as the classes of pygpt.errors.
void register_errors();

/// Raises pygpt.errors.ModelFileError for a fault in the file at `path`.
[[noreturn]] void raise_model_file_error(const std::string& path, const ModelFileError& error);

}  // namespace pygpt
