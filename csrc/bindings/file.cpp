#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <system_error>

#include "base/crc32c.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "formats/formats.h"
#include "formats/kv_types.h"
#include "model/file.h"

namespace pygpt {
namespace py = pybind11;
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

py::object to_python(const ConfigValue& value) {
  return std::visit(
      [](const auto& v) -> py::object {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::vector<int64_t>>) {
          return v.empty() ? py::object(py::list()) : py::cast(v);
        } else {
          return py::cast(v);
        }
      },
      value);
}

py::dict to_python(const std::vector<std::pair<std::string, ConfigValue>>& values) {
  py::dict dict;
  for (const auto& [key, value] : values) dict[py::str(key)] = to_python(value);
  return dict;
}

/// A path as the system wants it, from str, bytes or os.PathLike.
std::string system_path(const py::object& path) {
  const auto bytes = py::module_::import("os").attr("fsencode")(path).cast<std::string>();
  if (bytes.find('\0') != std::string::npos) throw py::value_error("the path holds a NUL character");
  return bytes;
}

std::string shown_path(const std::string& path) {
  return py::module_::import("os")
      .attr("fsdecode")(py::bytes(path))
      .attr("encode")("utf-8", "replace")
      .attr("decode")("utf-8")
      .cast<std::string>();
}

Verify verify_of(const std::string& name) {
  if (name == "off") return Verify::off;
  if (name == "header") return Verify::header;
  if (name == "full") return Verify::full;
  throw py::value_error("verify must be \"off\", \"header\" or \"full\"");
}

[[noreturn]] void raise_os_error(const std::system_error& error, const std::string& path) {
  const py::object args = py::make_tuple(error.code().value(), error.code().message(), shown_path(path));
  PyErr_SetObject(PyExc_OSError, args.ptr());
  throw py::error_already_set();
}

std::shared_ptr<ModelFile> open_file(const py::object& path, bool map, const std::string& verify) {
  const std::string name = system_path(path);
  const Verify level = verify_of(verify);
  try {
    const py::gil_scoped_release release;
    return std::make_shared<ModelFile>(name, map, level);
  } catch (const ModelFileError& error) {
    raise_model_file_error(shown_path(name), error);
  } catch (const std::system_error& error) {
    raise_os_error(error, name);
  }
}

TensorKind kind_of(const std::string& name) {
  for (const TensorKind kind : {TensorKind::matrix, TensorKind::table, TensorKind::vector}) {
    if (name == kind_name(kind)) return kind;
  }
  throw py::value_error("kind must be \"matrix\", \"table\" or \"vector\"");
}

int format_of(const std::string& name) {
  const auto format = WeightFormats::find(name);
  if (!format)
    throw py::value_error("the weight format \"" + name + "\" is unknown; this version knows " +
                          WeightFormats::listed());
  return *format;
}

Floats unpack_tensor(TensorKind kind, int format, std::span<const std::byte> packed, int64_t rows, int64_t cols) {
  Floats out({rows, cols});
  float* to = out.mutable_data();
  const py::gil_scoped_release release;
  unpack(kind, format, packed.data(), rows, cols, to);
  return out;
}

py::bytes pack_array(const Floats& weights, const std::string& kind_text, const std::string& format_text) {
  const TensorKind kind = kind_of(kind_text);
  const int format = format_of(format_text);
  if (weights.ndim() != 2) throw py::value_error("weights must be two-dimensional");
  if (!can_store(kind, format)) throw py::value_error("a " + kind_text + " cannot be " + format_text);
  const auto bytes = packed_bytes(kind, format, weights.shape(0), weights.shape(1));
  if (!bytes) throw py::value_error("the tensor is too large");
  auto out = py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(*bytes)));
  if (!out) throw py::error_already_set();
  auto* to = reinterpret_cast<std::byte*>(PyBytes_AS_STRING(out.ptr()));  // nobody else sees it yet
  try {
    const py::gil_scoped_release release;
    pack(kind, format, weights.data(), weights.shape(0), weights.shape(1), to);
  } catch (const Error& error) {
    throw py::value_error(error.what());
  }
  return out;
}

std::span<const std::byte> span_of(const py::buffer_info& info) {
  return {static_cast<const std::byte*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)};
}

Floats unpack_array(const py::buffer& data, const std::string& kind_text, const std::string& format_text, int64_t rows,
                    int64_t cols) {
  const py::buffer_info info = data.request();
  const TensorKind kind = kind_of(kind_text);
  const int format = format_of(format_text);
  const auto bytes = rows > 0 && cols > 0 ? packed_bytes(kind, format, rows, cols) : std::nullopt;
  if (!bytes || *bytes != static_cast<int64_t>(span_of(info).size()))
    throw py::value_error("the data's size does not match rows, cols and format");
  return unpack_tensor(kind, format, span_of(info), rows, cols);
}

py::list specs_of(const py::dict& config) {
  ConfigLines lines;
  for (const auto& [key, value] : config) lines.emplace_back(key.cast<std::string>(), value.cast<std::string>());
  py::list specs;
  for (const TensorSpec& spec : tensor_specs(parse_config(lines)))
    specs.append(py::make_tuple(spec.name, kind_name(spec.kind), spec.rows, spec.cols));
  return specs;
}

py::bytes blob_of(const ModelFile& file, const std::string& name) {
  for (const BlobEntry& blob : file.header().blobs) {
    const auto bytes = file.data(blob.extent);
    if (blob.name == name) return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  throw py::key_error(name);
}

py::dict blob_sizes(const ModelFile& file) {
  py::dict sizes;
  for (const BlobEntry& blob : file.header().blobs) sizes[py::str(blob.name)] = blob.extent.bytes;
  return sizes;
}

void verify_file(const ModelFile& file) {
  try {
    const py::gil_scoped_release release;
    file.verify_checksums();
  } catch (const ModelFileError& error) {
    raise_model_file_error(shown_path(file.path()), error);
  }
}

Floats tensor_of(const ModelFile& file, const std::string& name) {
  const TensorEntry& tensor = file.tensor(name);
  return unpack_tensor(tensor.spec.kind, tensor.format, file.data(tensor.extent), tensor.spec.rows, tensor.spec.cols);
}

/// A tensor's bytes as they lie in the file.
py::bytes packed_tensor(const ModelFile& file, const std::string& name) {
  const auto bytes = file.data(file.tensor(name).extent);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void bind_tensor_entry(py::module_& module) {
  py::class_<TensorEntry>(module, "TensorInfo")
      .def_property_readonly("name", [](const TensorEntry& t) { return t.spec.name; })
      .def_property_readonly("kind", [](const TensorEntry& t) { return kind_name(t.spec.kind); })
      .def_property_readonly("format",
                             [](const TensorEntry& t) { return WeightFormats::kNames[static_cast<size_t>(t.format)]; })
      .def_property_readonly("rows", [](const TensorEntry& t) { return t.spec.rows; })
      .def_property_readonly("cols", [](const TensorEntry& t) { return t.spec.cols; })
      .def_property_readonly("offset", [](const TensorEntry& t) { return t.extent.offset; })
      .def_property_readonly("bytes", [](const TensorEntry& t) { return t.extent.bytes; })
      .def_property_readonly("crc32c", [](const TensorEntry& t) { return t.extent.crc; });
}

}  // namespace

void bind_file(py::module_& module) {
  bind_tensor_entry(module);
  py::class_<ModelFile, std::shared_ptr<ModelFile>>(module, "ModelFile")
      .def(py::init(&open_file), py::arg("path"), py::kw_only(), py::arg("mmap") = true, py::arg("verify") = "header")
      .def_property_readonly("path", [](const ModelFile& file) { return shown_path(file.path()); })
      .def_property_readonly("bytes", &ModelFile::size)
      .def_property_readonly("config", [](const ModelFile& file) { return to_python(config_values(file.config())); })
      .def_property_readonly("defaults", [](const ModelFile& file) { return to_python(file.header().defaults); })
      .def_property_readonly("blobs", &blob_sizes)
      .def_property_readonly("tensors", [](const ModelFile& file) { return file.header().tensors; })
      .def("blob", &blob_of, py::arg("name"))
      .def("tensor", &tensor_of, py::arg("name"))
      .def("packed", &packed_tensor, py::arg("name"))
      .def("verify", &verify_file);
  module.def("pack", &pack_array, py::arg("weights"), py::arg("kind"), py::arg("format"));
  module.def("unpack", &unpack_array, py::arg("data"), py::arg("kind"), py::arg("format"), py::arg("rows"),
             py::arg("cols"));
  module.def("tensor_specs", &specs_of, py::arg("config"));
  module.def("formats",
             [] { return std::vector<std::string>(WeightFormats::kNames.begin(), WeightFormats::kNames.end()); });
  module.def("kv_dtypes", [] { return std::vector<std::string>(KvTypes::kNames.begin(), KvTypes::kNames.end()); });
  module.def(
      "crc32c",
      [](const py::buffer& data, uint32_t crc) {
        const py::buffer_info info = data.request();
        const py::gil_scoped_release release;
        return crc32c(span_of(info), crc);
      },
      py::arg("data"), py::arg("crc") = 0);
}

}  // namespace pygpt
