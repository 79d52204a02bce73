#pragma once

#include <string_view>

namespace pygpt {

/// Throws ModelFileError for a file that is empty or does not begin like a .pygpt file: it names what the file seems to
/// be and what to do.
void refuse_other_formats(std::string_view start);

}  // namespace pygpt
