#pragma once
// What a C++ test needs: claims with their proofs, and checks that say what they saw.

#include <cmath>
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"

namespace pygpt::test {

using Where = std::source_location;

/// A claim and its proof; main() runs all of a program's. A proof fails by throwing.
class Test {
 public:
  Test(const char* claim, void (*proof)()) : claim(claim), proof(proof) { all().push_back(this); }

  static std::vector<const Test*>& all() {
    static std::vector<const Test*> tests;
    return tests;
  }

  const char* claim;
  void (*proof)();
};

[[noreturn]] inline void fail(const std::string& what, Where where = Where::current()) {
  throw std::runtime_error(join(where.file_name(), ":", where.line(), ": ", what));
}

inline void expect(bool ok, const std::string& what, Where where = Where::current()) {
  if (!ok) fail(what, where);
}

template <class T>
std::string shown(const T& value) {
  std::ostringstream text;
  if constexpr (requires { text << value; }) {
    text << value;
  } else if constexpr (requires { value.begin(); }) {
    for (const auto& each : value) text << each << ' ';
  } else {
    text << "(a value that cannot be shown)";
  }
  return text.str();
}

template <class Got, class Wanted>
void expect_equal(const Got& got, const Wanted& wanted, const std::string& what = "", Where where = Where::current()) {
  if (!(got == wanted))
    fail(join(what, what.empty() ? "" : ": ", "got ", shown(got), ", wanted ", shown(wanted)), where);
}

/// The error of class E that `action` throws.
template <class E, class Action>
E expect_throws(Action&& action, const std::string& what = "", Where where = Where::current()) {
  try {
    action();
  } catch (const E& error) {
    return error;
  } catch (const std::exception& error) {
    fail(join(what, ": threw another class: ", error.what()), where);
  }
  fail(join(what, ": threw nothing"), where);
}

/// That `action` refuses a file for the reason `code`.
template <class Action>
void expect_code(const std::string& code, Action&& action, const std::string& what = "",
                 Where where = Where::current()) {
  const auto error = expect_throws<ModelFileError>(action, join(what, " (", code, ")"), where);
  expect_equal(error.code, code, join(what, ": ", error.what()), where);
}

}  // namespace pygpt::test
