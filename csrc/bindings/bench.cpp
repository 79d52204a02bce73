// The probes of the machine, for pygpt.bench. Every measurement releases the GIL.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "backend/cpu/probe.h"
#include "backend/cuda/probe.h"
#include "base/error.h"
#include "base/machine.h"
#include "bindings/module.h"
#include "kernels/cpu/select.h"

namespace pygpt {
namespace py = pybind11;
namespace {

using Bytes = py::array_t<uint8_t, py::array::c_style>;

MemoryKind kind_of(const std::string& name) {
  if (name == "plain") return MemoryKind::plain;
  if (name == "huge") return MemoryKind::huge;
  if (name == "file") return MemoryKind::file;
  throw py::value_error("kind must be \"plain\", \"huge\" or \"file\"");
}

ProbeMemory allocate(Probe& probe, int64_t bytes, const std::string& kind, int file) {
  const MemoryKind chosen = kind_of(kind);
  const py::gil_scoped_release release;
  return probe.allocate(bytes, chosen, file);
}

double read(Probe& probe, const ProbeMemory& memory, int64_t bytes, int streams, bool prefetch, int64_t sweeps) {
  const py::gil_scoped_release release;
  return probe.read(memory, bytes, {streams, prefetch}, sweeps);
}

/// One worker's read of an array: for tests, which know the sum.
uint32_t checksum(const Bytes& bytes, int streams, bool prefetch, const std::string& isa) {
  if ((streams != 1 && streams != 4 && streams != 8) || bytes.size() % (64 * streams) != 0)
    throw py::value_error("streams must be 1, 4 or 8, the size a multiple of 64 * streams");
  const auto* from = reinterpret_cast<const std::byte*>(bytes.data());
  return select_kernels(isa).probe.read(from, bytes.size(), streams, prefetch);
}

}  // namespace

void bind_bench(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> unlocked;
  py::class_<ProbeMemory>(module, "Memory").def_property_readonly("bytes", &ProbeMemory::size);
  py::class_<Probe>(module, "Probe")
      .def(py::init<int, const std::string&>(), py::arg("threads"), py::kw_only(), py::arg("isa") = "")
      .def_property_readonly("threads", &Probe::workers)
      .def_property_readonly("isa", &Probe::isa)
      .def("allocate", &allocate, py::arg("bytes"), py::arg("kind"), py::arg("file") = -1)
      .def("read", &read, py::arg("memory"), py::arg("bytes"), py::kw_only(), py::arg("streams"), py::arg("prefetch"),
           py::arg("sweeps") = 1)
      .def("fma", &Probe::fma, py::arg("iterations"), unlocked)
      .def("dot8", &Probe::dot8, py::arg("iterations"), unlocked)
      .def("barrier", &Probe::barrier, py::arg("count"), unlocked)
      .def("wake", &Probe::wake, py::arg("idle_s"), unlocked);
  module.def("checksum", &checksum, py::arg("data"), py::kw_only(), py::arg("streams"), py::arg("prefetch"),
             py::arg("isa") = "");
  module.def("available_memory", &available_memory);
  module.def(
      "gpu_copy", [](int64_t bytes, int times) { return cuda::copy_bandwidth(*cuda::open_device(), bytes, times); },
      py::arg("bytes"), py::arg("times"), unlocked);
}

}  // namespace pygpt
