#pragma once
// An opened, validated .pygpt file. No pointer into it is formed before the header has been checked.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "model/header.h"

namespace pygpt {

enum class Verify { off, header, full };

/// Memory that holds a whole file: mapped, or read.
class FileBytes {
 public:
  /// Throws ModelFileError ("not_a_file", "unreadable", "truncated"), std::system_error (missing, no permission),
  /// OutOfMemory.
  FileBytes(const std::string& path, bool map);
  ~FileBytes();
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  std::span<const std::byte> bytes() const noexcept { return {data_, static_cast<size_t>(size_)}; }

 private:
  void map_file(int descriptor);
  void read_file(int descriptor);

  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
  bool mapped_ = false;
};

class ModelFile {
 public:
  /// Throws ModelFileError, std::system_error, OutOfMemory.
  ModelFile(std::string path, bool map, Verify verify);

  const std::string& path() const noexcept { return path_; }
  const Header& header() const noexcept { return header_; }
  const ModelConfig& config() const noexcept { return header_.config; }
  int64_t size() const noexcept { return static_cast<int64_t>(file_.bytes().size()); }

  /// Whether a matrix is multiplied as bytes.
  bool quantised() const noexcept;

  std::span<const std::byte> data(const Extent& extent) const noexcept;

  /// The tensor with this name. Throws Error if the config implies none such.
  const TensorEntry& tensor(const std::string& name) const;
  const TensorEntry* find_tensor(const std::string& name) const noexcept;

  /// Checks every checksum. Throws ModelFileError("checksum") with the section.
  void verify_checksums() const;

 private:
  void check_padding() const;

  std::string path_;
  FileBytes file_;
  Header header_;
};

}  // namespace pygpt
