#include "base/machine.h"

#include <unistd.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace pygpt {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

/// The first number in a file, or `otherwise` where the file is missing or says "max".
int64_t read_number(const char* path, int64_t otherwise) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : otherwise;
}

int cpus_by_affinity() {
  const auto cpus = static_cast<int>(cpus_of_process().size());
  return std::max(1, cpus > 0 ? cpus : static_cast<int>(std::thread::hardware_concurrency()));
}

/// cgroup v2 "cpu.max": quota and period in microseconds; v1 has them in two files.
int cpus_by_quota() {
  int64_t quota = kUnlimited;
  int64_t period = 0;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file) {
    std::string first;
    if (file >> first >> period && first != "max") quota = std::stoll(first);
  } else {
    quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1);
    period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", 0);
  }
  if (quota == kUnlimited || quota <= 0 || period <= 0) return std::numeric_limits<int>::max();
  return std::max(1, static_cast<int>(ceil(static_cast<double>(quota) / static_cast<double>(period))));
}

int64_t free_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes >> unit) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  const int64_t page = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && page > 0 ? pages * page : kUnlimited;
}

/// Bytes of files that the kernel keeps in this cgroup's memory and drops when somebody needs it.
int64_t reclaimable_by_cgroup() {
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  std::string key;
  int64_t bytes = 0;
  int64_t sum = 0;
  while (file >> key >> bytes) {
    if (key == "active_file" || key == "inactive_file") sum += bytes;
  }
  return sum;
}

int64_t memory_by_cgroup() {
  const int64_t limit = read_number("/sys/fs/cgroup/memory.max", kUnlimited);
  if (limit == kUnlimited) return kUnlimited;
  const int64_t used = read_number("/sys/fs/cgroup/memory.current", 0) - reclaimable_by_cgroup();
  return std::max<int64_t>(0, limit - std::max<int64_t>(0, used));
}

}  // namespace

int available_cpus() { return std::min(cpus_by_affinity(), cpus_by_quota()); }

std::vector<int> cpus_of_process() {
  std::vector<int> cpus;
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
#endif
  return cpus;
}

void run_on(int cpu) noexcept {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  sched_setaffinity(0, sizeof set, &set);  // where it is forbidden, the system's choice stands
#else
  static_cast<void>(cpu);
#endif
}

void use_exact_arithmetic() noexcept { std::fesetenv(FE_DFL_ENV); }

int64_t last_level_cache() {
  // Not sysconf: it counts all the caches of a processor that has several.
  for (const char* index : {"4", "3", "2"}) {
    const std::string path = std::string("/sys/devices/system/cpu/cpu0/cache/index") + index + "/size";
    const int64_t kilobytes = read_number(path.c_str(), 0);  // such as "32768K"
    if (kilobytes > 0) return kilobytes * 1024;
  }
  return 16 << 20;
}

int64_t available_memory() { return std::min(free_memory(), memory_by_cgroup()); }

}  // namespace pygpt
