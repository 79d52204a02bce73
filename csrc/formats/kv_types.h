#pragma once
// How keys and values are stored in the cache. One list, as of the weight formats.

#include <cstddef>
#include <cstdint>

#include "base/half.h"
#include "formats/format_list.h"

namespace pygpt {

/// Elements as they are.
template <class ElementType>
struct PlainKv {
  using Element = ElementType;
  static constexpr bool kHasScales = false;
};

struct KvF32 : PlainKv<float> {
  static constexpr const char* kName = "f32";
};
struct KvF16 : PlainKv<Half> {
  static constexpr const char* kName = "f16";
};
struct KvBF16 : PlainKv<BFloat16> {
  static constexpr const char* kName = "bf16";
};

/// Bytes, and one f32 scale for each position's k and one for its v: max |x| / 127.
struct KvInt8 {
  static constexpr const char* kName = "int8";
  using Element = int8_t;
  static constexpr bool kHasScales = true;
};

using KvTypes = FormatList<KvF32, KvF16, KvBF16, KvInt8>;

}  // namespace pygpt
