#include "base/team.h"

#include <new>
#include <system_error>

#include "base/machine.h"

namespace pygpt {
namespace {

constexpr int kSpins =
    2000;  // 20 to 50 microseconds: longer than any phase of a small model, shorter than a time slice

constexpr int kSpinsBetweenYields = 8;

inline void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

}  // namespace

Team::Team(int workers) {
  const std::vector<int> cpus = cpus_of_process();
  crowded_ = workers > available_cpus();
  if (workers > 1 && !cpus.empty() && static_cast<size_t>(workers) >= cpus.size()) {
    for (size_t worker = 0; worker < static_cast<size_t>(workers); ++worker)
      places_.push_back(cpus[worker % cpus.size()]);
  }
  helpers_.reserve(static_cast<size_t>(workers));  // a thread whose handle has no place could not be joined
  try {
    // A helper learns the team's size with its first job, so that a thread that cannot be had just makes a smaller
    // team.
    for (int worker = 1; worker < workers; ++worker) {
      helpers_.emplace_back([this, worker] { help(worker); });
      ++size_;
    }
  } catch (const std::system_error&) {
    // "Resource temporarily unavailable": a limit on threads. What there is serves.
  } catch (const std::bad_alloc&) {
    // No memory for one more: the same.
  }
}

Team::~Team() {
  stopping_ = true;
  jobs_.fetch_add(1, std::memory_order_seq_cst);
  jobs_.notify_all();
  for (auto& helper : helpers_) helper.join();
}

void Team::start(Entry entry, const void* self) noexcept {
  if (size_ == 1) return entry(self, 0);
  entry_ = entry;
  self_ = self;
  jobs_.fetch_add(1, std::memory_order_seq_cst);
  wake(jobs_);
  entry(self, 0);
  barrier();
}

void Team::help(int worker) noexcept {
  use_exact_arithmetic();
  take_place(worker);
  for (uint32_t done = 0;; ++done) {
    wait_while(jobs_, done);
    if (stopping_) return;
    entry_(self_, worker);
    barrier();
  }
}

void Team::take_place(int worker) const noexcept {
  if (!places_.empty()) run_on(places_[static_cast<size_t>(worker)]);
}

void Team::barrier() noexcept {
  if (size_ == 1) return;
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    epoch_.store(epoch + 1, std::memory_order_seq_cst);
    wake(epoch_);
  } else {
    wait_while(epoch_, epoch);
  }
}

void Team::wait_while(const std::atomic<uint32_t>& word, uint32_t value) noexcept {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (word.load(std::memory_order_acquire) != value) return;
    if (crowded_ && spin % kSpinsBetweenYields == 0) {
      std::this_thread::yield();
    } else {
      pause();
    }
  }
  // Announce first, look again inside wait(): a waker that saw no parked worker has stored before this.
  parked_.fetch_add(1, std::memory_order_seq_cst);
  word.wait(value, std::memory_order_seq_cst);
  parked_.fetch_sub(1, std::memory_order_relaxed);
}

void Team::wake(std::atomic<uint32_t>& word) noexcept {
  // The system call costs 300 ns, so it is made only for somebody.
  if (parked_.load(std::memory_order_seq_cst) > 0) word.notify_all();
}

}  // namespace pygpt
