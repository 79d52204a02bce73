#pragma once
// Errors as the core throws them. The bindings turn each into the class of pygpt.errors that bears its name.

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace pygpt {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file that cannot be used. `code` is stable, for programs; `offset` is a byte in the file, or -1.
class ModelFileError : public Error {
 public:
  ModelFileError(std::string code, std::string section, int64_t offset, const std::string& message)
      : Error(message), code(std::move(code)), section(std::move(section)), offset(offset) {}

  std::string code;
  std::string section;
  int64_t offset;
};

class OutOfMemory : public Error {
 public:
  using Error::Error;
};

class DeviceError : public Error {
 public:
  using Error::Error;
};

/// More requests than may wait.
class Overloaded : public Error {
 public:
  using Error::Error;
};

class EngineClosed : public Error {
 public:
  using Error::Error;
};

/// The parts, one after the other, as text.
template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

/// Throws Error with the parts as its message unless `ok`. For what a caller can get wrong; never for control flow.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) throw Error(join(parts...));
}

}  // namespace pygpt
