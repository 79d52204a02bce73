#include "base/team.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "check.h"

namespace pygpt::test {
namespace {

constexpr int kSizes[] = {1, 2, 3, 5, 8};

/// Plain counters on purpose: they are free of races only if run() and barrier() order everything, which TSan checks.
void barriers() {
  for (const int size : kSizes) {
    Team team(size);
    std::vector<int> written(static_cast<size_t>(team.size()));
    std::vector<int> stale(static_cast<size_t>(team.size()));
    constexpr int kRounds = 200;
    const auto job = [&](int worker) noexcept {
      for (int round = 1; round <= kRounds; ++round) {
        written[static_cast<size_t>(worker)] = round;
        team.barrier();
        for (const int other : written) stale[static_cast<size_t>(worker)] += other != round;
        team.barrier();
      }
    };
    team.run(job);
    for (const int count : stale) expect_equal(count, 0, join(size, " workers"));
  }
}
const Test barriers_test{"nobody passes a barrier before all have come, and all see what was written before it",
                         barriers};

void jobs() {
  for (const int size : kSizes) {
    Team team(size);
    std::vector<int> ran(static_cast<size_t>(team.size()));
    for (int job = 1; job <= 500; ++job) {
      team.run([&](int worker) noexcept { ++ran[static_cast<size_t>(worker)]; });
      for (const int count : ran) expect_equal(count, job, join(size, " workers"));
    }
  }
}
const Test jobs_test{"every job runs once on every worker and is over when run() returns", jobs};

void parked() {
  // Far longer than any spinning: the others are parked in the kernel by then.
  constexpr auto kLong = std::chrono::milliseconds(5);
  for (const int size : {2, 3, 8}) {
    Team team(size);
    std::atomic<int> passed = 0;
    for (int job = 0; job < 4; ++job) {
      std::this_thread::sleep_for(kLong);
      team.run([&](int worker) noexcept {
        if (worker == job % team.size()) std::this_thread::sleep_for(kLong);
        team.barrier();
        ++passed;
      });
    }
    expect_equal(passed.load(), 4 * team.size());
  }
}
const Test parked_test{"workers that have gone to sleep between jobs, or at a barrier, wake up", parked};

void short_lived() {
  for (int i = 0; i < 60; ++i) {
    Team team(kSizes[i % 5]);
    int ran = 0;
    if (i % 3 != 0)
      team.run([&](int worker) noexcept {
        if (worker == 0) ++ran;
      });
    expect_equal(ran, i % 3 != 0 ? 1 : 0);
  }
}
const Test short_lived_test{"a team can end at once: before a job, after one, while its workers fall asleep",
                            short_lived};

void several() {
  std::vector<std::thread> threads;
  std::atomic<int64_t> sum = 0;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      Team team(3);
      for (int job = 0; job < 100; ++job) team.run([&](int worker) noexcept { sum += worker; });
    });
  }
  for (auto& thread : threads) thread.join();
  expect_equal(sum.load(), 3 * 100 * 3);
}
const Test several_test{"teams do not disturb each other", several};

}  // namespace
}  // namespace pygpt::test
