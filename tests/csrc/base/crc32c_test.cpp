#include "base/crc32c.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "check.h"

namespace pygpt::test {
namespace {

uint32_t crc_of(const std::vector<unsigned char>& bytes, uint32_t crc = 0) {
  return crc32c(std::as_bytes(std::span(bytes)), crc);
}

/// Bit by bit, as the polynomial is written down: division in GF(2), least significant bit first.
uint32_t naive_crc(const std::vector<unsigned char>& bytes) {
  uint32_t remainder = 0xffffffff;
  for (const unsigned char byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      const bool out = ((remainder ^ static_cast<uint32_t>(byte >> bit)) & 1) != 0;
      remainder = remainder >> 1 ^ (out ? 0x82f63b78u : 0u);
    }
  }
  return ~remainder;
}

std::vector<unsigned char> some_bytes(size_t count) {
  std::vector<unsigned char> bytes;
  uint32_t state = 1;
  for (size_t i = 0; i < count; ++i)
    bytes.push_back(static_cast<unsigned char>((state = state * 1664525u + 1013904223u) >> 24));
  return bytes;
}

void known() {
  std::vector<unsigned char> ascending;
  for (unsigned char byte = 0; byte < 32; ++byte) ascending.push_back(byte);
  const std::vector<unsigned char> descending(ascending.rbegin(), ascending.rend());
  expect_equal(crc_of(std::vector<unsigned char>(32, 0x00)), 0x8a9136aau);
  expect_equal(crc_of(std::vector<unsigned char>(32, 0xff)), 0x62a8ab43u);
  expect_equal(crc_of(ascending), 0x46dd794eu);
  expect_equal(crc_of(descending), 0x113fdb5cu);
  expect_equal(crc_of({}), 0u);
}
const Test known_test{"known answers of RFC 3720, appendix B.4", known};

void every_length() {
  const auto bytes = some_bytes(80);
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t end = begin; end <= bytes.size(); ++end) {
      const auto part = std::as_bytes(std::span(bytes).subspan(begin, end - begin));
      const std::vector<unsigned char> copy(bytes.begin() + static_cast<ptrdiff_t>(begin),
                                            bytes.begin() + static_cast<ptrdiff_t>(end));
      expect_equal(crc32c(part), naive_crc(copy), join("bytes ", begin, " to ", end));
      expect_equal(crc32c_by_tables(part), naive_crc(copy), join("by tables, bytes ", begin, " to ", end));
    }
  }
}
const Test every_length_test{"every length and alignment gives what the bit by bit division gives", every_length};

void continued() {
  const auto bytes = some_bytes(61);
  const uint32_t whole = crc_of(bytes);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    const auto all = std::as_bytes(std::span(bytes));
    expect_equal(crc32c(all.subspan(cut), crc32c(all.first(cut))), whole, join("cut at ", cut));
    expect_equal(crc32c_by_tables(all.subspan(cut), crc32c(all.first(cut))), whole, join("tables from ", cut));
  }
}
const Test continued_test{"a checksum can be continued at any byte", continued};

}  // namespace
}  // namespace pygpt::test
