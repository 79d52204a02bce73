#pragma once
// A list of types that is also a table of names: ids are places in it.

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace pygpt {

template <class... Formats>
struct FormatList {
  static constexpr int kCount = sizeof...(Formats);
  static constexpr std::array<const char*, kCount> kNames = {Formats::kName...};

  /// The id of a format: its place in the list.
  static std::optional<int> find(std::string_view name) {
    for (int id = 0; id < kCount; ++id) {
      if (name == kNames[static_cast<size_t>(id)]) return id;
    }
    return std::nullopt;
  }

  /// The names, for a message: "f32, f16, ...".
  static std::string listed() {
    std::string text;
    for (const char* name : kNames) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
  }

  /// function.operator()<Format>() for the format with this id.
  template <class Function>
  static auto visit(int id, Function&& function) {
    return visit_from<0, Function, Formats...>(id, function);
  }

 private:
  template <int kId, class Function, class First, class... Rest>
  static auto visit_from(int id, Function& function) {
    if constexpr (sizeof...(Rest) > 0) {
      if (id != kId) return visit_from<kId + 1, Function, Rest...>(id, function);
    }
    check(id == kId, "no weight format has the id ", id);
    return function.template operator()<First>();
  }
};

}  // namespace pygpt
