#include "model/file.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "check.h"
#include "model/builder.h"

namespace pygpt::test {
namespace {

constexpr Verify kAllLevels[] = {Verify::off, Verify::header, Verify::full};

std::string bytes_of(const ModelFile& file, const std::string& tensor) {
  const auto data = file.data(file.tensor(tensor).extent);
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

void opens() {
  const TemporaryFolder folder;
  const std::string path = folder.write("model.pygpt", small_model().bytes());
  for (const bool map : {true, false}) {
    for (const Verify verify : kAllLevels) {
      const ModelFile file(path, map, verify);
      file.verify_checksums();
      expect_equal(file.config().d_model, 7);
      expect_equal(bytes_of(file, "wte").size(), 13u * 7 * 2);
      expect_equal(reinterpret_cast<uintptr_t>(file.data(file.tensor("wpe").extent).data()) % 64, 0u,
                   "tensors are aligned");
      expect(file.find_tensor("nothing") == nullptr, "a tensor that is not there");
      expect_throws<Error>([&] { static_cast<void>(file.tensor("nothing")); });
    }
  }
}
const Test opens_test{"a good file opens, mapped or read, at every level of checks", opens};

/// Flips bits of a file in place and opens it.
class Flipper {
 public:
  Flipper()
      : bytes_(small_model({.n_layer = 3}).bytes()),
        path_(folder_.write("model.pygpt", bytes_)),
        file_(path_, std::ios::in | std::ios::out | std::ios::binary) {}

  int64_t size() const { return std::ssize(bytes_); }

  /// Whether opening fails with one bit of this byte flipped.
  bool detected(int64_t byte, int bit, bool map, Verify verify) {
    put(byte, static_cast<char>(bytes_[static_cast<size_t>(byte)] ^ (1 << bit)));
    bool refused = false;
    try {
      const ModelFile file(path_, map, verify);
    } catch (const ModelFileError&) {
      refused = true;
    }
    put(byte, bytes_[static_cast<size_t>(byte)]);
    return refused;
  }

  int64_t data_start() const { return ModelFile(path_, true, Verify::off).header().data_start; }

 private:
  void put(int64_t byte, char value) {
    file_.seekp(byte);
    file_.put(value);
    file_.flush();
  }

  TemporaryFolder folder_;
  std::string bytes_;
  std::string path_;
  std::fstream file_;
};

void a23_flips() {
  Flipper flipper;
  int flips = 0;
  for (int64_t byte = 0; byte < flipper.size(); ++byte, ++flips) {
    expect(flipper.detected(byte, static_cast<int>(byte * 5 % 8), byte % 2 == 0, Verify::full),
           join("byte ", byte, " of ", flipper.size()));
  }
  expect(flips >= 2000, join(flips, " flips"));
}
const Test a23_flips_test{"A23: a flipped bit anywhere in the file is detected with verify full", a23_flips};

void a23_header_flips() {
  Flipper flipper;
  for (int64_t byte = 0; byte < flipper.data_start(); ++byte) {
    for (const int bit : {0, 3, 5, 7})
      expect(flipper.detected(byte, bit, true, Verify::header), join("byte ", byte, " bit ", bit));
  }
}
const Test a23_header_flips_test{
    "A23: a flipped bit anywhere in the header, padding included, is detected with verify header", a23_header_flips};

void a16_padding() {
  const TemporaryFolder folder;
  Parts parts = small_model();
  const std::string good = parts.bytes();
  const std::string path = folder.write("good.pygpt", good);
  const ModelFile file(path, true, Verify::full);
  const Extent& wte = file.tensor("wte").extent;
  for (const int64_t place :
       {file.header().end, file.header().data_start - 1, file.header().data_start + wte.offset + wte.bytes}) {
    std::string bad = good;
    bad[static_cast<size_t>(place)] = 'P';
    const std::string bad_path = folder.write("bad.pygpt", bad);
    expect_code("hole", [&] { ModelFile(bad_path, true, Verify::header); }, join("byte ", place));
    expect_code("hole", [&] { ModelFile(bad_path, false, Verify::full); }, join("byte ", place));
  }
}
const Test a16_padding_test{"A16: padding that is not zero is refused", a16_padding};

void a27_paths() {
  const TemporaryFolder folder;
  const auto open_at = [](const std::string& path) {
    for (const bool map : {true, false}) ModelFile(path, map, Verify::header);
  };
  const std::string fifo = folder.path("fifo");
  expect_equal(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path :
       {fifo, folder.path(""), std::string("/dev/zero"), std::string("/dev/full"), std::string("/dev/null")}) {
    expect_code("not_a_file", [&] { open_at(path); }, path);
  }
  std::filesystem::create_symlink("loop", folder.path("loop"));
  std::filesystem::create_symlink("nowhere", folder.path("dangling"));
  const int socket_number = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", folder.path("socket").c_str());
  expect_equal(bind(socket_number, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  close(socket_number);
  for (const char* name : {"loop", "dangling", "missing", "socket", "missing/missing"})
    expect_throws<std::system_error>([&] { open_at(folder.path(name)); }, name);
  expect_throws<std::system_error>([&] { open_at(folder.path(std::string(5000, 'x'))); }, "a very long name");
  expect_throws<std::system_error>([&] { open_at(""); }, "no name");
  open_at(folder.write("new\nline \xff.pygpt", small_model().bytes()));
}
const Test a27_paths_test{"A27: paths that are no regular file are errors, and none of them blocks", a27_paths};

void a27_descriptors() {
  const TemporaryFolder folder;
  const std::string good = folder.write("good.pygpt", small_model().bytes());
  const std::string bad = folder.write("bad.pygpt", "GGUF");
  const auto count = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); };
  if (!std::filesystem::exists("/proc/self/fd")) return;
  const auto before = count();
  for (int i = 0; i < 20; ++i) {
    ModelFile(good, i % 2 == 0, Verify::full);
    expect_code("not_a_pygpt_file", [&] { ModelFile(bad, i % 2 == 0, Verify::full); });
    expect_code("not_a_file", [&] { ModelFile(folder.path(""), true, Verify::full); });
  }
  expect_equal(count(), before);
}
const Test a27_descriptors_test{"A27: no descriptor is left open, whether a file is good or bad", a27_descriptors};

void a29_replaced() {
  const TemporaryFolder folder;
  for (const bool map : {true, false}) {
    const std::string path = folder.write("model.pygpt", small_model().bytes());
    const ModelFile file(path, map, Verify::full);
    const std::string before = bytes_of(file, "wte");
    const std::string other = folder.write("other.pygpt", small_model({.weight = 2}).bytes());
    std::filesystem::rename(other, path);
    expect(bytes_of(file, "wte") == before, "unchanged");
    file.verify_checksums();
    expect(bytes_of(ModelFile(path, map, Verify::full), "wte") != before, "the new file is another");
  }
}
const Test a29_replaced_test{"A29: a file that is replaced by rename stays what it was for who has it open",
                             a29_replaced};

void a28_truncated() {
  const TemporaryFolder folder;
  const std::string path = folder.write("model.pygpt", small_model().bytes());
  const ModelFile file(path, false, Verify::header);
  std::filesystem::resize_file(path, 0);
  file.verify_checksums();
}
const Test a28_truncated_test{"A28: a file that was read, not mapped, may be truncated afterwards", a28_truncated};

void sparse() {
  const TemporaryFolder folder;
  const std::string path = folder.write("model.pygpt", small_model().bytes());
  std::error_code refused;
  std::filesystem::resize_file(path, uintmax_t{1} << 42, refused);
  if (refused) return;  // this file system holds no such file
  expect_throws<Error>([&] { ModelFile(path, true, Verify::full); }, "mapped");
  const auto error = expect_throws<Error>([&] { ModelFile(path, false, Verify::full); }, "read");
  expect(std::string(error.what()).find("4398046511104") != std::string::npos, error.what());
}
const Test sparse_test{"a file of 4 TiB with a small header is refused without being read", sparse};

}  // namespace
}  // namespace pygpt::test
