#pragma once
// The one list of weight formats. Every table, name, test and choice folds over it.

#include "formats/bf16.h"
#include "formats/f16.h"
#include "formats/f32.h"
#include "formats/format_list.h"
#include "formats/q4.h"
#include "formats/q8.h"

namespace pygpt {

using WeightFormats = FormatList<F32, F16, BF16, Q8, Q4>;

}  // namespace pygpt
