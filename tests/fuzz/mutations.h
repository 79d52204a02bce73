#pragma once
// Model files that are nearly right. Bytes changed at random end at the header's checksum; these know the format, and
// write the checksum anew.

#include <cstdint>
#include <string>
#include <vector>

namespace pygpt::fuzz {

/// Small, valid files: of each weight format, tied and untied, with biases and without.
std::vector<std::string> seeds();

/// `file`, changed in one to four ways that follow from `seed` alone.
std::string mutated(const std::string& file, uint32_t seed);

}  // namespace pygpt::fuzz
