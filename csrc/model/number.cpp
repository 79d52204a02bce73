#include "model/number.h"

#include <charconv>

namespace pygpt {
namespace {

constexpr size_t kLongestReal = 64;
constexpr size_t kLongestList = 16;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Digits without a leading zero.
bool is_plain_integer(std::string_view text) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;
  for (const char c : text) {
    if (!is_digit(c)) return false;
  }
  return true;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  if (!is_plain_integer(text)) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  if (text.size() > kLongestReal) return std::nullopt;
  std::string_view rest = text.starts_with('-') ? text.substr(1) : text;
  const size_t point = rest.find('.');
  if (!is_plain_integer(rest.substr(0, point))) return std::nullopt;
  if (point != std::string_view::npos) {
    const std::string_view fraction = rest.substr(point + 1);
    if (fraction.empty()) return std::nullopt;
    for (const char c : fraction) {
      if (!is_digit(c)) return std::nullopt;
    }
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::optional<std::vector<int64_t>> parse_integers(std::string_view text) {
  std::vector<int64_t> values;
  if (text == "none") return values;
  while (true) {
    const size_t comma = text.find(',');
    const auto value = parse_integer(text.substr(0, comma));
    if (!value || values.size() == kLongestList) return std::nullopt;
    values.push_back(*value);
    if (comma == std::string_view::npos) return values;
    text.remove_prefix(comma + 1);
  }
}

std::optional<uint32_t> parse_checksum(std::string_view text) {
  if (text.size() != 8) return std::nullopt;
  uint32_t value = 0;
  for (const char c : text) {
    if (!is_digit(c) && !(c >= 'a' && c <= 'f')) return std::nullopt;
    value = value << 4 | static_cast<uint32_t>(is_digit(c) ? c - '0' : c - 'a' + 10);
  }
  return value;
}

}  // namespace pygpt
