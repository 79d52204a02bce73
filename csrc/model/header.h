#pragma once
// The readable part of a .pygpt file: text to values, every rule of docs/format.md that the text alone can break.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"

namespace pygpt {

inline constexpr int64_t kHeaderCap = 1 << 20;  // bytes
inline constexpr int64_t kLineCap = 512;        // bytes, the LF included
inline constexpr int64_t kDataAlignment = 64;

/// A run of bytes in the data.
struct Extent {
  int64_t offset;  // from the start of the data
  int64_t bytes;
  uint32_t crc;
};

struct BlobEntry {
  std::string name;
  Extent extent;
};

struct TensorEntry {
  TensorSpec spec;
  int format;  // an id of WeightFormats
  Extent extent;
};

struct Header {
  ModelConfig config;
  std::vector<std::pair<std::string, ConfigValue>> defaults;
  std::vector<BlobEntry> blobs;
  std::vector<TensorEntry> tensors;
  int64_t end;         // bytes of the header, the LF of its last line included
  int64_t data_start;  // byte of the file at which offsets count from

  /// The bytes of the whole file.
  int64_t file_bytes() const;
};

/// `start`: the file's first bytes, at least min(file_bytes, kHeaderCap) of them. Throws ModelFileError.
Header parse_header(std::span<const std::byte> start, int64_t file_bytes);

}  // namespace pygpt
