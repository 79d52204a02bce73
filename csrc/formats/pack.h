#pragma once
// Weights from row-major floats to the bytes of a file, and back.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace pygpt {

/// How a tensor is used, which decides how it is laid out (docs/format.md).
enum class TensorKind { matrix, table, vector };

const char* kind_name(TensorKind kind);

/// Whether a format multiplies floats; the others multiply bytes (formats/byte_row.h).
bool is_plain(int format);

/// Whether tensors of this kind may have this format: only matrices are quantised.
bool can_store(TensorKind kind, int format);

/// Bytes of a tensor [rows, cols]; nothing if that does not fit into 63 bits, or cannot be stored.
std::optional<int64_t> packed_bytes(TensorKind kind, int format, int64_t rows, int64_t cols);

/// weights [rows, cols] into `out` of packed_bytes(). Throws Error if a finite weight becomes infinite, or a
/// weight that is to be quantised is not finite.
void pack(TensorKind kind, int format, const float* weights, int64_t rows, int64_t cols, std::byte* out);

/// A tensor's bytes back into floats [rows, cols].
void unpack(TensorKind kind, int format, const std::byte* packed, int64_t rows, int64_t cols, float* out);

/// Row `row` of a tensor [rows, cols] into out[cols].
void unpack_row(TensorKind kind, int format, const std::byte* packed, int64_t cols, int64_t row, float* out);

}  // namespace pygpt
