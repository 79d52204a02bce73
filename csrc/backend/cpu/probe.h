#pragma once
// What this machine can do at most with a team of workers: the roofs that an engine's figures are held against.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/team.h"
#include "kernels/cpu/table.h"

namespace pygpt {

/// What is read: memory with the system's usual pages, with huge ones where the system gives them, or a mapped file.
enum class MemoryKind { plain, huge, file };

/// Memory to read, mapped and never empty. Move-only; unmapped at its end.
class ProbeMemory {
 public:
  /// `file`: an open file of at least `bytes` bytes for MemoryKind::file, else unused.
  /// Throws OutOfMemory before anything is mapped that would not fit, Error for a file that is too short.
  ProbeMemory(int64_t bytes, MemoryKind kind, int file);
  ~ProbeMemory();
  ProbeMemory(ProbeMemory&& other) noexcept;
  ProbeMemory(const ProbeMemory&) = delete;
  ProbeMemory& operator=(const ProbeMemory&) = delete;

  std::byte* data() const noexcept { return start_; }
  int64_t size() const noexcept { return bytes_; }
  bool writable() const noexcept { return kind_ != MemoryKind::file; }

 private:
  MemoryKind kind_;
  int64_t bytes_;
  int64_t mapped_bytes_ = 0;  // more than bytes_, where the start has to lie at a huge page's
  void* mapping_ = nullptr;
  std::byte* start_ = nullptr;
};

/// A way to read: so many streams a worker, with or without software prefetch.
struct ReadPattern {
  int streams;  // 1, 4 or 8
  bool prefetch;
};

/// A team of workers that measure. Any thread may call; the calls take turns.
class Probe {
 public:
  /// Throws Error for a number of workers outside 1..1024, DeviceError for an ISA that this machine lacks.
  Probe(int workers, const std::string& isa);

  int workers() const noexcept { return team_.size(); }
  const char* isa() const noexcept { return kernels_.isa; }

  /// Memory whose pages were first touched by the workers that will read them, with all of it in place.
  ProbeMemory allocate(int64_t bytes, MemoryKind kind, int file);

  /// Bytes a second: each worker reads its own run of the first `bytes` of memory, `sweeps` times.
  double read(const ProbeMemory& memory, int64_t bytes, ReadPattern pattern, int64_t sweeps);

  /// Floating-point operations a second of all workers.
  double fma(int64_t iterations);

  /// Multiplications and additions of bytes a second of all workers; 0 where the ISA has none.
  double dot8(int64_t iterations);

  /// Seconds of one barrier, of `count` in a row.
  double barrier(int64_t count);

  /// Seconds of an empty job after the team was idle for so long: the parked workers are woken, run, and meet.
  double wake(double idle_s);

 private:
  using Clock = std::chrono::steady_clock;
  struct Run {
    Clock::time_point start;
    Clock::time_point end;
    uint32_t result;  // what is computed must be used, or compilers compute nothing
  };

  template <class Work>
  double seconds(const Work& work) noexcept;

  const KernelTable& kernels_;
  std::mutex mutex_;
  Team team_;
  std::vector<Run> runs_;  // one a worker
};

}  // namespace pygpt
