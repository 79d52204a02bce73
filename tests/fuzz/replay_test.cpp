// What the fuzzer does, shortly and always the same, for any compiler; and every file that it ever found.

#include <filesystem>
#include <fstream>
#include <map>

#include "check.h"
#include "mutations.h"
#include "reading.h"

namespace pygpt::fuzz {
namespace {

using test::expect;
using test::expect_equal;

std::string read(const std::string& file) { return read_model(std::as_bytes(std::span(file))); }

void seeds_are_models() {
  for (const std::string& file : seeds()) expect_equal(read(file), "");
}
const test::Test seeds_are_models_test{"A33: each seed is a model", seeds_are_models};

void mutated_files_are_read_or_refused() {
  constexpr uint32_t kSteps = 400;  // of each seed; a file that is read takes the place of the one before it
  std::map<std::string, int> outcomes;
  uint32_t number = 0;
  for (const std::string& seed : seeds()) {
    std::string file = seed;
    for (uint32_t step = 0; step < kSteps; ++step) {
      const std::string changed = mutated(file, ++number);
      const std::string code = read(changed);
      ++outcomes[code];
      if (code.empty()) file = changed;
    }
  }
  for (const char* code :
       {"", "invalid_header", "invalid_config", "invalid_shape", "invalid_dtype", "tensor_set", "size_mismatch",
        "size_overflow", "misaligned", "truncated", "length_mismatch", "checksum", "hole", "unsupported_version"}) {
    expect(outcomes[code] > 0, join("no file with the outcome \"", code, "\""));
  }
}
const test::Test mutated_test{"A33: thousands of files that are nearly right are read or refused",
                              mutated_files_are_read_or_refused};

void what_was_found_stays_refused() {
  for (const auto& entry : std::filesystem::directory_iterator(PYGPT_FUZZ_FOUND)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    read(bytes);  // or refused: no crash, no other exception
  }
}
const test::Test found_test{"A33: what once was found is read or refused", what_was_found_stays_refused};

}  // namespace
}  // namespace pygpt::fuzz
