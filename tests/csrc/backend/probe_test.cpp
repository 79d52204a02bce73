#include "backend/cpu/probe.h"

#include <unistd.h>

#include <cstdio>

#include "check.h"
#include "kernels/cpu/select.h"

namespace pygpt::test {
namespace {

constexpr int64_t kBytes = 1 << 16;

void speeds() {
  for (const KernelTable* kernels : available_kernels()) {
    for (const int workers : {1, 2, 3}) {
      Probe probe(workers, kernels->isa);
      const ProbeMemory memory = probe.allocate(kBytes, MemoryKind::plain, -1);
      for (const int streams : {1, 4, 8})
        expect(probe.read(memory, kBytes, {streams, streams == 4}, 2) > 0, "a read takes time");
      expect(probe.fma(100) > 0, "so does an FMA");
      expect(probe.dot8(100) > 0, "and a dot product of bytes");
      expect(probe.barrier(10) > 0 && probe.wake(0) > 0, "and the team");
    }
  }
}
const Test speeds_test{"every probe runs on every ISA, with one and with more workers", speeds};

void kinds() {
  Probe probe(2, "");
  std::FILE* file = std::tmpfile();
  expect(file != nullptr && ftruncate(fileno(file), kBytes) == 0, "a file");
  for (const MemoryKind kind : {MemoryKind::plain, MemoryKind::huge, MemoryKind::file}) {
    const ProbeMemory memory = probe.allocate(kBytes, kind, fileno(file));
    expect(probe.read(memory, kBytes, {8, true}, 1) > 0, "every kind can be read");
    const ProbeMemory moved = probe.allocate(kBytes, kind, fileno(file));
    expect_equal(moved.size(), kBytes);
  }
  expect_throws<Error>([&] { probe.allocate(kBytes + 1, MemoryKind::file, fileno(file)); }, "a file too short");
  std::fclose(file);
}
const Test kinds_test{"plain memory, huge pages and a mapped file can be read; a file that is too short is refused",
                      kinds};

void mistakes() {
  Probe probe(1, "");
  const ProbeMemory memory = probe.allocate(kBytes, MemoryKind::plain, -1);
  expect_throws<Error>([&] { probe.read(memory, kBytes + 512, {1, false}, 1); }, "more than there is");
  expect_throws<Error>([&] { probe.read(memory, kBytes, {3, false}, 1); }, "three streams");
  expect_throws<Error>([&] { probe.read(memory, kBytes, {1, false}, 0); }, "no sweep");
  expect_throws<Error>([&] { probe.fma(0); }, "no iteration");
  expect_throws<Error>([&] { probe.allocate(0, MemoryKind::plain, -1); }, "no memory");
  expect_throws<OutOfMemory>([&] { probe.allocate(INT64_MAX / 2, MemoryKind::plain, -1); }, "too much memory");
  expect_throws<Error>([] { Probe(0, ""); }, "no worker");
  expect_throws<DeviceError>([] { Probe(1, "abacus"); }, "an ISA that there is not");
}
const Test mistakes_test{"what cannot be measured is refused", mistakes};

}  // namespace
}  // namespace pygpt::test
