#include "model/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <system_error>

#include "base/aligned.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/machine.h"

namespace pygpt {
namespace {

static_assert(std::endian::native == std::endian::little && sizeof(size_t) == 8,
              "A31: weights are read where they lie");

[[noreturn]] void refuse_system(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

/// Closes its descriptor.
struct Descriptor {
  int number;
  ~Descriptor() { close(number); }
};

/// Files up to this size are read into huge pages instead of mapped: 64 MiB take 15 ms, and a model that fits into the
/// last cache runs 10 to 20 % faster without misses of the page table (docs/kernels.md).
constexpr int64_t kSmallFile = 64 << 20;

/// Memory for `size` bytes, in huge pages where the system gives them; null: there is none.
std::byte* allocate_huge(int64_t size) {
  constexpr int64_t kHugePage = 2 << 20;
  const int64_t alignment = size >= kHugePage ? kHugePage : kAlignment;
  const auto bytes = static_cast<size_t>(round_up(size, alignment));
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(static_cast<size_t>(alignment), bytes));
#ifdef MADV_HUGEPAGE
  if (memory != nullptr && alignment == kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);  // a wish
#endif
  return memory;
}

int open_regular(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) refuse_system(path);
  return descriptor;
}

}  // namespace

FileBytes::FileBytes(const std::string& path, bool map) {
  const Descriptor file{open_regular(path)};
  struct stat status{};
  if (fstat(file.number, &status) != 0) refuse_system(path);
  if (!S_ISREG(status.st_mode)) {
    const char* what = S_ISDIR(status.st_mode)    ? "a directory"
                       : S_ISFIFO(status.st_mode) ? "a pipe"
                       : S_ISSOCK(status.st_mode) ? "a socket"
                                                  : "a device";
    throw ModelFileError("not_a_file", "path", -1, join("this is ", what, ", not a model file"));
  }
  size_ = status.st_size;
  if (size_ == 0) return;
  if (map && (size_ > kSmallFile || size_ > available_memory())) {
    map_file(file.number);
  } else {
    read_file(file.number);
  }
}

void FileBytes::map_file(int descriptor) {
  void* memory = mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (memory == MAP_FAILED)
    throw OutOfMemory(join("cannot map ", size_, " bytes: ", std::generic_category().message(errno)));
#ifdef MADV_HUGEPAGE
  // A wish: what is not in the page cache yet is then read in huge pages, where the file system has them.
  madvise(memory, static_cast<size_t>(size_), MADV_HUGEPAGE);
#endif
  data_ = static_cast<const std::byte*>(memory);
  mapped_ = true;
}

void FileBytes::read_file(int descriptor) {
  const int64_t available = available_memory();
  if (size_ > available)
    throw OutOfMemory(join("the file needs ", size_, " bytes, ", available, " are available: open it with mmap=True"));
  auto* memory = allocate_huge(size_);
  if (memory == nullptr) throw OutOfMemory(join("cannot allocate ", size_, " bytes: open the file with mmap=True"));
  std::unique_ptr<std::byte, FreeDeleter> owner(memory);
  for (int64_t done = 0; done < size_;) {
    const ssize_t count = pread(descriptor, memory + done, static_cast<size_t>(size_ - done), done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw ModelFileError("unreadable", "file", done, std::generic_category().message(errno));
    if (count == 0) throw ModelFileError("truncated", "file", done, "the file became shorter while it was read");
    done += count;
  }
  data_ = owner.release();
}

FileBytes::~FileBytes() {
  if (data_ == nullptr) return;
  auto* memory = const_cast<std::byte*>(data_);
  if (mapped_) {
    munmap(memory, static_cast<size_t>(size_));
  } else {
    std::free(memory);
  }
}

ModelFile::ModelFile(std::string path, bool map, Verify verify)
    : path_(std::move(path)), file_(path_, map), header_(parse_header(file_.bytes(), size())) {
  if (verify != Verify::off) check_padding();
  if (verify == Verify::full) verify_checksums();
}

std::span<const std::byte> ModelFile::data(const Extent& extent) const noexcept {
  return file_.bytes().subspan(static_cast<size_t>(header_.data_start + extent.offset),
                               static_cast<size_t>(extent.bytes));
}

bool ModelFile::quantised() const noexcept {
  return std::ranges::any_of(header_.tensors, [](const TensorEntry& tensor) { return !is_plain(tensor.format); });
}

const TensorEntry* ModelFile::find_tensor(const std::string& name) const noexcept {
  const auto found = std::ranges::find(
      header_.tensors, name, [](const TensorEntry& tensor) -> const std::string& { return tensor.spec.name; });
  return found == header_.tensors.end() ? nullptr : &*found;
}

const TensorEntry& ModelFile::tensor(const std::string& name) const {
  const TensorEntry* found = find_tensor(name);
  check(found != nullptr, "the model has no tensor ", name);
  return *found;
}

void ModelFile::verify_checksums() const {
  const auto verify = [&](const std::string& section, const Extent& extent) {
    if (crc32c(data(extent)) == extent.crc) return;
    throw ModelFileError("checksum", section, header_.data_start + extent.offset,
                         "its bytes do not match their checksum: the file is damaged, export or copy it again");
  };
  for (const auto& blob : header_.blobs) verify("blob " + blob.name, blob.extent);
  for (const auto& tensor : header_.tensors) verify("tensor " + tensor.spec.name, tensor.extent);
}

void ModelFile::check_padding() const {
  const auto bytes = file_.bytes();
  const auto want_zero = [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      if (bytes[static_cast<size_t>(at)] != std::byte{0})
        throw ModelFileError("hole", "padding", at, "a byte between two sections is not zero");
    }
  };
  want_zero(header_.end, header_.data_start);
  int64_t end = header_.data_start;
  const auto follow = [&](const Extent& extent) {
    want_zero(end, header_.data_start + extent.offset);
    end = header_.data_start + extent.offset + extent.bytes;
  };
  for (const auto& blob : header_.blobs) follow(blob.extent);
  for (const auto& tensor : header_.tensors) follow(tensor.extent);
}

}  // namespace pygpt
