#pragma once
// The workers of one engine. The thread that calls run() is worker 0; the others sleep until then.

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace pygpt {

/// A fixed set of threads that run one job together and meet at barriers.
///
/// A waiting worker spins for some tens of microseconds and then parks in the kernel: spinning is 400 times faster than
/// parking, but a spinner on an oversubscribed core keeps away the very worker that it waits for. A team of more
/// workers than CPUs therefore yields instead of spinning.
///
/// A team that fills all CPUs of this process takes one for each worker: a busy neighbour otherwise makes the system
/// put two workers on one CPU, and there they wait for each other at every barrier. Smaller teams stay where the system
/// puts them, since several may share the machine.
class Team {
 public:
  /// Starts up to `workers` - 1 threads: fewer if the system refuses, see size().
  explicit Team(int workers);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const noexcept { return size_; }

  /// Puts the calling thread where this worker belongs, for good. For a thread that is worker 0 all its life; whoever
  /// calls run() now and then keeps the freedom to be anywhere.
  void take_place(int worker) const noexcept;

  /// Runs job(worker) on every worker at once; returns when all are done. The job must not throw.
  template <class Job>
  void run(const Job& job) noexcept {
    static_assert(std::is_nothrow_invocable_v<const Job&, int>);
    start([](const void* self, int worker) noexcept { (*static_cast<const Job*>(self))(worker); }, &job);
  }

  /// Called by every worker of a running job: nobody goes on before all have come.
  void barrier() noexcept;

 private:
  using Entry = void (*)(const void* self, int worker) noexcept;

  void start(Entry entry, const void* self) noexcept;
  void help(int worker) noexcept;

  // Each on a line of its own: a worker that spins on one must not slow down who writes the other.
  static constexpr size_t kLine = 128;
  alignas(kLine) std::atomic<uint32_t> arrived_{0};
  alignas(kLine) std::atomic<uint32_t> epoch_{0};  // of the barrier
  alignas(kLine) std::atomic<uint32_t> jobs_{0};   // started so far
  alignas(kLine) std::atomic<uint32_t> parked_{0};
  Entry entry_ = nullptr;
  const void* self_ = nullptr;
  bool stopping_ = false;
  int size_ = 1;
  bool crowded_ = false;     // more workers than CPUs
  std::vector<int> places_;  // the CPU of each worker; empty: wherever the system puts them
  std::vector<std::thread> helpers_;

  void wait_while(const std::atomic<uint32_t>& word, uint32_t value) noexcept;
  void wake(std::atomic<uint32_t>& word) noexcept;
};

}  // namespace pygpt
