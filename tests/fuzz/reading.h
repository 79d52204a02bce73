#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace pygpt::fuzz {

/// Reads a model file as an engine does: its header from memory, then, if that is whole, the file, each checksum and
/// every weight. "" for a model, else the code of the refusal. Whatever else is thrown is a finding.
std::string read_model(std::span<const std::byte> bytes);

}  // namespace pygpt::fuzz
