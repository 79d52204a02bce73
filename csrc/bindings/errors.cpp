#include "bindings/errors.h"

#include <cerrno>
#include <system_error>

namespace pygpt {
namespace py = pybind11;
namespace {

py::object error_class(const char* name) { return py::module_::import("pygpt.errors").attr(name); }

void set_error(const char* name, const char* message) {
  const py::object type = error_class(name);
  PyErr_SetString(type.ptr(), message);
}

void set_model_file_error(const std::string& path, const ModelFileError& error) {
  const py::object offset = error.offset < 0 ? py::object(py::none()) : py::object(py::int_(error.offset));
  const py::object type = error_class("ModelFileError");
  PyErr_SetObject(type.ptr(), type(path, error.code, error.what(), error.section, offset).ptr());
}

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const ModelFileError& error) {
    set_model_file_error("config", error);
  } catch (const OutOfMemory& error) {
    set_error("OutOfMemory", error.what());
  } catch (const DeviceError& error) {
    set_error("DeviceError", error.what());
  } catch (const Overloaded& error) {
    set_error("OverloadedError", error.what());
  } catch (const EngineClosed& error) {
    set_error("EngineClosedError", error.what());
  } catch (const Error& error) {
    set_error("Error", error.what());
  } catch (const std::system_error& error) {
    // Python chooses FileNotFoundError, PermissionError, ... by the number.
    const py::object args = py::make_tuple(error.code().value(), error.code().message());
    PyErr_SetObject(PyExc_OSError, args.ptr());
  }
}

}  // namespace

void register_errors() { py::register_exception_translator(translate); }

void raise_model_file_error(const std::string& path, const ModelFileError& error) {
  set_model_file_error(path, error);
  throw py::error_already_set();
}

}  // namespace pygpt
