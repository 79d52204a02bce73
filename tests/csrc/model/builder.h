#pragma once
// Small model files made by hand from docs/format.md, every part of which a test may bend.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace pygpt::test {

struct Shape {
  int64_t n_layer = 1;
  int64_t n_head = 2;
  int64_t head_dim = 5;
  int64_t d_model = 7;
  int64_t d_ff = 9;
  int64_t context_length = 8;
  int64_t vocab_size = 11;
  int64_t padded_vocab_size = 13;
  std::string activation = "gelu";
  bool tied_head = false;
  bool biases = true;
  std::string format = "f16";
  std::string stop_tokens = "none";
  float weight = 1;  // how large weights are; NaN for a broken model
};

/// The lines of a header, without "end", and what follows it.
struct Parts {
  std::vector<std::string> lines;
  std::string data;

  /// The line that begins with these words. Throws if there is none.
  std::string& line(std::string_view beginning);

  /// The file: its header with a checksum that is right, zeros up to a multiple of 64, the data.
  std::string bytes() const;
};

Parts small_model(const Shape& shape = {});

/// What a file's header is: `text`, then the "end" line with the checksum of `text`.
std::string with_end(const std::string& text);

/// Word `index` of a line, replaced.
std::string with_word(const std::string& line, size_t index, const std::string& word);

/// A folder of its own under the system's temporary one, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  /// The path of a file in it, written with these bytes.
  std::string write(const std::string& name, std::string_view bytes) const;
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace pygpt::test
