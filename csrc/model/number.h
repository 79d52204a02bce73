#pragma once
// The numbers of a header. Strict: one way to write each, so that what two readers accept cannot differ.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace pygpt {

/// "0" or digits without a leading zero, below 2^63.
std::optional<int64_t> parse_integer(std::string_view text);

/// An integer, optionally with "-" before and "." and digits behind: no exponent, no "+", no "nan"; at most 64
/// characters.
std::optional<double> parse_real(std::string_view text);

std::optional<bool> parse_boolean(std::string_view text);

/// Integers joined by ","; "none" is the empty list.
std::optional<std::vector<int64_t>> parse_integers(std::string_view text);

/// Eight lower-case hexadecimal digits.
std::optional<uint32_t> parse_checksum(std::string_view text);

}  // namespace pygpt
