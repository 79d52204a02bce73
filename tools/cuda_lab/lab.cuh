#pragma once
// What every experiment of the CUDA laboratory needs: checked calls, memory, time, waiting that ends, lines of JSON.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <source_location>
#include <string>
#include <vector>

namespace lab {

/// Ends the program with the call's place when it failed: a laboratory has nothing to save.
inline void check(cudaError_t status, std::source_location where = std::source_location::current()) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s:%u: %s\n", where.file_name(), where.line(), cudaGetErrorString(status));
  std::exit(1);
}

/// The device that everything runs on.
struct Device {
  int blocks = 0;                  ///< multiprocessors: a grid of one thread block each
  int version = 0;                 ///< compute capability, 90 for 9.0
  size_t shared_of_block = 0;      ///< bytes of shared memory that a block may ask for
  size_t shared_of_processor = 0;  ///< bytes of shared memory of a multiprocessor
  size_t l2 = 0;                   ///< bytes of the last cache
  size_t free = 0;                 ///< bytes of memory that nobody has
  Device() {
    cudaDeviceProp about{};
    check(cudaGetDeviceProperties(&about, 0));
    size_t total = 0;
    check(cudaMemGetInfo(&free, &total));
    blocks = about.multiProcessorCount;
    version = about.major * 10 + about.minor;
    shared_of_block = about.sharedMemPerBlockOptin;
    shared_of_processor = about.sharedMemPerMultiprocessor;
    l2 = static_cast<size_t>(about.l2CacheSize);
    std::printf("{\"device\": \"%s\", \"version\": %d, \"multiprocessors\": %d, \"l2_bytes\": %zu, \"bytes\": %zu}\n",
                about.name, version, blocks, l2, total);
  }

  /// Dynamic shared memory that leaves no room for a second block on a multiprocessor.
  size_t shared_of_a_lone_block() const { return std::min(shared_of_block - 1024, shared_of_processor / 2 + 1024); }
};

/// Device memory of `count` T, filled with bytes of `fill`.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count, int fill = 0) : count(count) {
    check(cudaMalloc(&data, count * sizeof(T)));
    check(cudaMemset(data, fill, count * sizeof(T)));
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    check(cudaMemcpy(data, values.data(), count * sizeof(T), cudaMemcpyHostToDevice));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { check(cudaFree(data)); }

  void fill(int byte) { check(cudaMemset(data, byte, count * sizeof(T))); }
  size_t bytes() const { return count * sizeof(T); }
  std::vector<T> read() const {
    std::vector<T> values(count);
    check(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

  T* data = nullptr;
  size_t count = 0;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Device time of what is sent to a stream after it was made.
class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream = nullptr) : stream_(stream) {
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
    check(cudaEventRecord(begin_, stream_));
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    check(cudaEventDestroy(begin_));
    check(cudaEventDestroy(end_));
  }

  /// Milliseconds until all of it was done; waits for that.
  double ms() const {
    check(cudaGetLastError());
    check(cudaEventRecord(end_, stream_));
    check(cudaEventSynchronize(end_));
    float elapsed = 0;
    check(cudaEventElapsedTime(&elapsed, begin_, end_));
    return elapsed;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_{}, end_{};
};

/// Milliseconds that the device takes for `work` on a stream: the median of some runs after one that warms up.
template <class Work>
double median_ms(cudaStream_t stream, Work work) {
  constexpr int kRepeats = 5;
  work();
  std::vector<double> times;
  for (int i = 0; i < kRepeats; ++i) {
    const Stopwatch watch(stream);
    work();
    times.push_back(watch.ms());
  }
  return median(times);
}

inline cudaStream_t new_stream() {
  cudaStream_t stream{};
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

/// What `work` sends to a stream, as a graph to launch.
template <class Work>
cudaGraphExec_t captured(cudaStream_t stream, Work work) {
  cudaGraph_t graph{};
  cudaGraphExec_t runnable{};
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  work();
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&runnable, graph, 0));
  check(cudaGraphDestroy(graph));
  return runnable;
}

/// One measured case. `verified`: whether what was computed meanwhile is what it must be.
inline void report(const std::string& name, double value, const char* unit, bool verified) {
  std::printf("{\"case\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"verified\": %s}\n", name.c_str(), value, unit,
              verified ? "true" : "false");
  std::fflush(stdout);
}

/// A case that this device cannot run.
inline void skip(const std::string& name, const std::string& why) {
  std::printf("{\"case\": \"%s\", \"skipped\": \"%s\"}\n", name.c_str(), why.c_str());
}

__device__ inline uint64_t now_ns() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

/// Waiting that ends: at a deadline, or once another thread of the grid gave up. After that nothing waits any more, so
/// a kernel runs through to its end, every barrier is met by everyone, and the abort flag says that its result is void.
class Patience {
 public:
  static constexpr uint64_t kLimitNs = 500'000'000;  ///< from the kernel's start

  __device__ explicit Patience(uint32_t* abort) : abort_(abort), deadline_(now_ns() + kLimitNs) {}

  /// Repeats `ready` until it says yes. It is asked at least once.
  template <class Ready>
  __device__ void until(Ready ready) {
    for (uint32_t spins = 1; !ready() && !lost_; ++spins) {
      if (spins % kSpins == 0) lost_ = expired();
    }
  }

  __device__ bool lost() const { return lost_; }

 private:
  static constexpr uint32_t kSpins = 256;  // reading the clock and the flag costs more than a poll

  __device__ bool expired() {
    auto* flag = static_cast<volatile uint32_t*>(abort_);
    if (now_ns() > deadline_) *flag = 1;
    return *flag != 0;
  }

  uint32_t* abort_;
  uint64_t deadline_;
  bool lost_ = false;
};

}  // namespace lab
