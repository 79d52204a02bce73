#include "reading.h"

#include <sys/mman.h>
#include <unistd.h>

#include <numeric>

#include "base/error.h"
#include "model/file.h"
#include "model/weights.h"

namespace pygpt::fuzz {
namespace {

/// One file without a folder, written anew for each input.
std::string in_memory(std::span<const std::byte> bytes) {
  static const int descriptor = memfd_create("model", MFD_CLOEXEC);
  const bool written = descriptor >= 0 && ftruncate(descriptor, 0) == 0 &&
                       pwrite(descriptor, bytes.data(), bytes.size(), 0) == std::ssize(bytes);
  check(written, "no file can be made in memory");
  return join("/proc/self/fd/", descriptor);
}

/// Touches each byte, so that a sanitizer sees a place that is none.
int64_t sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0},
                         [](int64_t total, std::byte each) { return total + static_cast<int64_t>(each); });
}

void read_whole(const ModelFile& file) {
  volatile int64_t total = 0;
  for (const auto& blob : file.header().blobs) total = total + sum(file.data(blob.extent));
  for (const auto& tensor : file.header().tensors) total = total + sum(file.data(tensor.extent));
  const Weights weights(file);
  check(std::ssize(weights.layers) == file.config().n_layer, "a layer is missing");
  check(weights.head.n == file.config().padded_vocab_size, "the head has another size");
}

}  // namespace

std::string read_model(std::span<const std::byte> bytes) {
  try {
    parse_header(bytes, std::ssize(bytes));
    const std::string path = in_memory(bytes);
    read_whole(ModelFile(path, true, Verify::off));
    const ModelFile checked(path, false, Verify::full);
  } catch (const ModelFileError& error) {
    return error.code;
  }
  return "";
}

}  // namespace pygpt::fuzz
