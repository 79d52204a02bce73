#pragma once
// What this process may use of the machine it runs on.

#include <cstdint>
#include <vector>

namespace pygpt {

/// CPUs: the affinity mask or the cgroup's quota, whichever is smaller; at least 1.
int available_cpus();

/// The numbers of the CPUs in this thread's affinity mask; empty where the system does not tell.
std::vector<int> cpus_of_process();

/// Keeps this thread on one CPU, if the system lets it.
void run_on(int cpu) noexcept;

/// Bytes that can be allocated without swapping: free memory or what the cgroup leaves, whichever is smaller.
int64_t available_memory();

/// Bytes of the cache that is nearest to memory, as one core sees it; 16 MiB where the system does not tell.
int64_t last_level_cache();

/// Sets this thread's arithmetic to what exactness counts on: rounding to nearest, subnormals kept. A new thread
/// inherits its creator's, and there a library may have changed it for the whole process (-ffast-math,
/// set_flush_denormal).
void use_exact_arithmetic() noexcept;

}  // namespace pygpt
