#include "bindings/module.h"

#include <pybind11/stl.h>

#include "backend/cuda/device.h"
#include "base/machine.h"
#include "bindings/errors.h"
#include "kernels/cpu/select.h"

namespace {

pybind11::dict describe_gpu() {
  const auto about = pygpt::cuda::open_device()->about();
  pybind11::dict gpu;
  gpu["name"] = about.name;
  gpu["target"] = about.target;
  gpu["multiprocessors"] = about.multiprocessors;
  gpu["memory_bytes"] = about.memory_bytes;
  return gpu;
}

}  // namespace

PYBIND11_MODULE(_core_of_main, module) {
  using namespace pygpt;
  module.doc() = "The C++ core of pygpt.";
  module.attr("__version__") = PYGPT_VERSION;
  register_errors();
  module.def("isas", [] {
    std::vector<std::string> names;
    for (const KernelTable* table : available_kernels()) names.emplace_back(table->isa);
    return names;
  });
  module.def("available_cpus", &available_cpus);
  module.def("gpu", &describe_gpu);
  bind_file(module);
  bind_engine(module);
  auto testing = module.def_submodule("testing", "Every kernel, offered to numpy with a named ISA.");
  bind_testing(testing);
  auto bench = module.def_submodule("bench", "Probes of what this machine can do at most.");
  bind_bench(bench);
}

/// Before anything of pybind11 runs: in a sub-interpreter of Python 3.11 that would wait for ever, in
/// PyGILState_Ensure, for a lock that its own thread holds.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return PyInit__core_of_main();
  PyErr_SetString(
      PyExc_ImportError,
      "pygpt works in the main interpreter alone, and this is a sub-interpreter: use a thread or a process");
  return nullptr;
}
