// Reads that are cut short, interrupted, or fail: this program's own pread stands before the system's.

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "check.h"
#include "model/builder.h"
#include "model/file.h"

namespace {

enum class Fault { none, short_read, interrupted, input_output, end_of_file };
Fault g_fault = Fault::none;
int g_calls = 0;

}  // namespace

extern "C" ssize_t pread(int descriptor, void* memory, size_t count, off_t offset) {
  ++g_calls;
  if (g_fault == Fault::short_read) count = std::min<size_t>(count, 7);
  if (g_fault == Fault::interrupted && g_calls % 2 == 1) {
    errno = EINTR;
    return -1;
  }
  if (offset >= 100 && g_fault == Fault::end_of_file) return 0;
  if (offset >= 100 && g_fault == Fault::input_output) {
    errno = EIO;
    return -1;
  }
  if (g_fault != Fault::none) count = std::min<size_t>(count, 100);
  return syscall(SYS_pread64, descriptor, memory, count, offset);
}

namespace pygpt::test {
namespace {

void a30_reads_again() {
  const TemporaryFolder folder;
  const std::string path = folder.write("model.pygpt", small_model().bytes());
  for (const Fault fault : {Fault::none, Fault::short_read, Fault::interrupted}) {
    g_fault = fault;
    g_calls = 0;
    const ModelFile file(path, false, Verify::full);
    expect(fault == Fault::none ? g_calls == 1 : g_calls > 10, join(g_calls, " calls"));
  }
}
const Test a30_reads_again_test{"A30: short and interrupted reads are continued", a30_reads_again};

void a30_fails() {
  const TemporaryFolder folder;
  const std::string path = folder.write("model.pygpt", small_model().bytes());
  g_fault = Fault::input_output;
  const auto error = expect_throws<ModelFileError>([&] { ModelFile(path, false, Verify::full); });
  expect_equal(error.code, "unreadable");
  expect_equal(error.offset, 100);
  g_fault = Fault::end_of_file;
  const auto shorter = expect_throws<ModelFileError>([&] { ModelFile(path, false, Verify::full); });
  expect_equal(shorter.code, "truncated");
  expect_equal(shorter.offset, 100);
}
const Test a30_fails_test{"A30: a read that fails or ends early is an error with its offset", a30_fails};

}  // namespace
}  // namespace pygpt::test
