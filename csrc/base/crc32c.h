#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pygpt {

/// CRC-32C (Castagnoli polynomial, RFC 3720 appendix B.4) of `data`, continued from `crc` (0 to start).
uint32_t crc32c(std::span<const std::byte> data, uint32_t crc = 0) noexcept;

/// The same on any machine; crc32c() takes the processor's instruction where there is one.
uint32_t crc32c_by_tables(std::span<const std::byte> data, uint32_t crc = 0) noexcept;

}  // namespace pygpt
