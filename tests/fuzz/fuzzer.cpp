// libFuzzer (clang) on the reader of model files. CONTRIBUTING.md has the commands.

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "mutations.h"
#include "reading.h"

#define PYGPT_VISIBLE extern "C" [[gnu::visibility("default")]]

PYGPT_VISIBLE size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
/// What follows the first makes it a third faster, and a report poorer: run what was found again without.
PYGPT_VISIBLE const char* __asan_default_options() {
  return "allocator_may_return_null=1:malloc_context_size=1:quarantine_size_mb=2:max_malloc_fill_size=64:"
         "detect_stack_use_after_return=0";
}

PYGPT_VISIBLE int LLVMFuzzerInitialize(int* /*count*/, char*** /*arguments*/) {
  const char* folder = std::getenv("PYGPT_FUZZ_SEEDS");  // where to write the first corpus
  if (folder == nullptr) return 0;
  std::filesystem::create_directories(folder);
  int number = 0;
  for (const std::string& file : pygpt::fuzz::seeds()) {
    std::ofstream(std::filesystem::path(folder) / ("seed" + std::to_string(++number)), std::ios::binary) << file;
  }
  return 0;
}

PYGPT_VISIBLE int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pygpt::fuzz::read_model({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}

PYGPT_VISIBLE size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const std::string changed = pygpt::fuzz::mutated({reinterpret_cast<const char*>(data), size}, seed);
  const size_t length = std::min(changed.size(), max_size);
  std::memcpy(data, changed.data(), length);
  return length;
}
