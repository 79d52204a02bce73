#include "base/crc32c.h"

#include <array>
#include <cstring>

namespace pygpt {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // 0x1edc6f41 with its bits reversed

using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    for (size_t t = 1; t < 8; ++t) tables[t][byte] = tables[t - 1][byte] >> 8 ^ tables[0][tables[t - 1][byte] & 255];
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

// "Slicing by 8" (Kounavis and Berry, 2005): eight bytes a turn through eight tables, about 2 GB/s without any
// instruction that a baseline machine lacks.
uint32_t crc32c(std::span<const std::byte> data, uint32_t crc) noexcept {
  const auto* at = reinterpret_cast<const unsigned char*>(data.data());
  size_t left = data.size();
  crc = ~crc;
  for (; left >= 8; left -= 8, at += 8) {
    uint32_t low = 0;
    uint32_t high = 0;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + 4, 4);
    low ^= crc;
    crc = kTables[7][low & 255] ^ kTables[6][low >> 8 & 255] ^ kTables[5][low >> 16 & 255] ^ kTables[4][low >> 24] ^
          kTables[3][high & 255] ^ kTables[2][high >> 8 & 255] ^ kTables[1][high >> 16 & 255] ^ kTables[0][high >> 24];
  }
  for (; left > 0; --left, ++at) crc = crc >> 8 ^ kTables[0][(crc ^ *at) & 255];
  return ~crc;
}

}  // namespace pygpt
