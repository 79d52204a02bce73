#pragma once

#include <pybind11/pybind11.h>

namespace pygpt {

void bind_file(pybind11::module_& module);
void bind_engine(pybind11::module_& module);
void bind_testing(pybind11::module_& module);
void bind_bench(pybind11::module_& module);

}  // namespace pygpt
