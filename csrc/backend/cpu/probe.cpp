#include "backend/cpu/probe.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/machine.h"
#include "kernels/cpu/select.h"

namespace pygpt {
namespace {

constexpr int kMostWorkers = 1024;
constexpr int64_t kUnit = 64 * 8;  // bytes: a cache line for each of the most streams
constexpr int64_t kPage = 4096;    // bytes: at most what a page of any system has
constexpr int64_t kHugePage = 2 << 20;

int64_t mebibytes(int64_t bytes) { return bytes >> 20; }

/// The run of units [first, last) of a worker, in bytes from the start.
std::pair<int64_t, int64_t> share(int64_t bytes, int worker, int workers) noexcept {
  const int64_t units = bytes / kUnit;
  return {units * worker / workers * kUnit, units * (worker + 1) / workers * kUnit};
}

int checked_workers(int workers) {
  check(workers >= 1 && workers <= kMostWorkers, "threads must be from 1 to ", kMostWorkers, ", got ", workers);
  return workers;
}

void check_file(int file, int64_t bytes) {
  struct stat about = {};
  check(fstat(file, &about) == 0 && about.st_size >= bytes, "the file to map must have at least ", bytes, " bytes");
}

}  // namespace

ProbeMemory::ProbeMemory(int64_t bytes, MemoryKind kind, int file) : kind_(kind), bytes_(bytes) {
  check(bytes >= kUnit, "memory to read must have at least ", kUnit, " bytes, got ", bytes);
  const int64_t available = available_memory();
  if (bytes > available / 10 * 9) {
    throw OutOfMemory(join("measuring memory needs ", mebibytes(bytes), " MiB, ", mebibytes(available),
                           " MiB are available: free some memory"));
  }
  if (kind == MemoryKind::file) check_file(file, bytes);
  mapped_bytes_ = bytes + (kind == MemoryKind::huge ? kHugePage : 0);
  const auto length = static_cast<size_t>(mapped_bytes_);
  mapping_ = kind == MemoryKind::file
                 ? mmap(nullptr, length, PROT_READ, MAP_SHARED, file, 0)
                 : mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) throw OutOfMemory(join("cannot map ", mebibytes(bytes), " MiB"));
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  const uintptr_t skipped = kind == MemoryKind::huge ? (kHugePage - address % kHugePage) % kHugePage : 0;
  start_ = static_cast<std::byte*>(mapping_) + skipped;
#ifdef MADV_HUGEPAGE
  // Refused where the system has none: then these are plain pages.
  if (kind != MemoryKind::file) madvise(mapping_, length, kind == MemoryKind::huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
}

ProbeMemory::ProbeMemory(ProbeMemory&& other) noexcept
    : kind_(other.kind_),
      bytes_(other.bytes_),
      mapped_bytes_(other.mapped_bytes_),
      mapping_(std::exchange(other.mapping_, nullptr)),
      start_(other.start_) {}

ProbeMemory::~ProbeMemory() {
  if (mapping_ != nullptr) munmap(mapping_, static_cast<size_t>(mapped_bytes_));
}

Probe::Probe(int workers, const std::string& isa)
    : kernels_(select_kernels(isa)), team_(checked_workers(workers)), runs_(static_cast<size_t>(team_.size())) {}

ProbeMemory Probe::allocate(int64_t bytes, MemoryKind kind, int file) {
  ProbeMemory memory(bytes, kind, file);
  const std::lock_guard lock(mutex_);
  team_.run([&](int worker) noexcept {
    const auto [first, last] = share(bytes, worker, team_.size());
    if (memory.writable()) {
      std::memset(memory.data() + first, worker + 1, static_cast<size_t>(last - first));
    } else {
      uint32_t seen = 0;
      for (int64_t at = first; at < last; at += kPage)
        seen += std::to_integer<uint32_t>(static_cast<const volatile std::byte*>(memory.data())[at]);
      runs_[static_cast<size_t>(worker)].result = seen;
    }
  });
  return memory;
}

/// Of work(worker) on all workers at once, from the first one's start to the last one's end. Each looks at the clock
/// itself: where workers share a core, one that times for all may start when others are done.
template <class Work>
double Probe::seconds(const Work& work) noexcept {
  team_.run([&](int worker) noexcept {
    team_.barrier();
    const auto start = Clock::now();
    const uint32_t result = work(worker);
    runs_[static_cast<size_t>(worker)] = {start, Clock::now(), result};
  });
  const auto first = std::ranges::min(runs_, {}, &Run::start);
  const auto last = std::ranges::max(runs_, {}, &Run::end);
  return std::max(1e-9, std::chrono::duration<double>(last.end - first.start).count());
}

double Probe::read(const ProbeMemory& memory, int64_t bytes, ReadPattern pattern, int64_t sweeps) {
  check(bytes >= kUnit && bytes <= memory.size(), "can read ", kUnit, " to ", memory.size(), " bytes, got ", bytes);
  check(pattern.streams == 1 || pattern.streams == 4 || pattern.streams == 8, "streams must be 1, 4 or 8");
  check(sweeps >= 1, "sweeps must be at least 1");
  const std::lock_guard lock(mutex_);
  const double taken = seconds([&](int worker) noexcept {
    const auto [first, last] = share(bytes, worker, team_.size());
    uint32_t sum = 0;
    for (int64_t sweep = 0; sweep < sweeps; ++sweep)
      sum += kernels_.probe.read(memory.data() + first, last - first, pattern.streams, pattern.prefetch);
    return sum;
  });
  return static_cast<double>(bytes / kUnit * kUnit * sweeps) / taken;
}

double Probe::fma(int64_t iterations) {
  check(iterations >= 1, "iterations must be at least 1");
  const std::lock_guard lock(mutex_);
  const double taken = seconds([&](int) noexcept { return std::bit_cast<uint32_t>(kernels_.probe.fma(iterations)); });
  return static_cast<double>(iterations * kernels_.probe.fma_flops * team_.size()) / taken;
}

double Probe::dot8(int64_t iterations) {
  check(iterations >= 1, "iterations must be at least 1");
  const std::lock_guard lock(mutex_);
  const double taken = seconds([&](int) noexcept { return static_cast<uint32_t>(kernels_.probe.dot8(iterations)); });
  return static_cast<double>(iterations * kernels_.probe.dot8_ops * team_.size()) / taken;
}

double Probe::barrier(int64_t count) {
  check(count >= 1, "count must be at least 1");
  const std::lock_guard lock(mutex_);
  const double taken = seconds([&](int) noexcept {
    for (int64_t i = 0; i < count; ++i) team_.barrier();
    return 0u;
  });
  return taken / static_cast<double>(count);
}

double Probe::wake(double idle_s) {
  check(std::isfinite(idle_s) && idle_s >= 0 && idle_s <= 1, "idle_s must be from 0 to 1");
  const std::lock_guard lock(mutex_);
  std::this_thread::sleep_for(std::chrono::duration<double>(idle_s));
  const auto start = Clock::now();
  team_.run([](int) noexcept {});
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace pygpt
