#pragma once
// The one list of weight formats. Every table, name, test and choice folds over it.

#include <array>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "formats/bf16.h"
#include "formats/f16.h"
#include "formats/f32.h"

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

using WeightFormats = FormatList<F32, F16, BF16>;

}  // namespace pygpt
