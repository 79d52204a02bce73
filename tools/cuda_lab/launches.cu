// What it costs to start kernels one after the other (plainly, as nodes of a graph, with programmatic dependent
// launch), and to have the host take part in every token.

#include <atomic>
#include <chrono>

#include "lab.cuh"

namespace lab {
namespace {

constexpr int kChain = 1000;       // kernels, each of which needs the one before
constexpr int kRoundTrips = 2000;  // of the host
constexpr uint32_t kHostLimitS = 2;

/// Thread 0 of each block raises its block's cell, so a launch that is lost or overtaken shows. Reads and writes 4
/// bytes a block.
template <bool kDependent>
__global__ void step_kernel(uint32_t* cells) {
#if __CUDA_ARCH__ >= 900
  if constexpr (kDependent) {
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");  // the kernel before is done, and its stores are seen
  }
#endif
  if (threadIdx.x == 0) cells[blockIdx.x] += 1;
}

__device__ uint32_t load_system(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
/// A word that says all by itself needs no release, which would wait for every word before it.
__device__ void store_relaxed(uint32_t* to, uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
__device__ void store_system(uint32_t* to, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

/// One thread: tells the host that this launch is done.
__global__ void tell_kernel(uint32_t* reply, uint32_t value) { store_system(reply, value); }

/// One thread: answers the numbers 1, 2, ... as the host sends them.
__global__ void answer_kernel(const uint32_t* request, uint32_t* reply, uint32_t last, uint32_t* abort) {
  Patience patience(abort);
  for (uint32_t i = 1; i <= last; ++i) {
    patience.until([&] { return load_system(request) >= i; });
    if (patience.lost()) return;  // the host waits in vain, and says so
    store_system(reply, i);
  }
}

/// One thread: `last` tokens in a row into the host's memory, a word each with its number.
__global__ void tokens_kernel(uint32_t* ring, uint32_t size, uint32_t last) {
  for (uint32_t i = 1; i <= last; ++i) store_relaxed(ring + i % size, i);
}

/// Host memory that the device sees, zeroed.
class Mapped {
 public:
  explicit Mapped(size_t count) {
    check(cudaHostAlloc(&host_, count * sizeof(uint32_t), cudaHostAllocMapped));
    std::fill(host_, host_ + count, 0u);
    check(cudaHostGetDevicePointer(&device, host_, 0));
  }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  ~Mapped() { check(cudaFreeHost(host_)); }

  void set(uint32_t value) { std::atomic_ref(*host_).store(value, std::memory_order_release); }
  uint32_t at(size_t i) const { return std::atomic_ref(host_[i]).load(std::memory_order_acquire); }
  /// Whether the first word comes to be `value` in time.
  bool becomes(uint32_t value) const {
    const auto begin = std::chrono::steady_clock::now();
    for (uint32_t spins = 1; at(0) < value; ++spins) {
      if (spins % 4096 == 0 && std::chrono::steady_clock::now() - begin > std::chrono::seconds(kHostLimitS))
        return false;
    }
    return true;
  }

  uint32_t* device = nullptr;

 private:
  uint32_t* host_ = nullptr;
};

class Bench {
 public:
  explicit Bench(const Device& device) : device_(device) {}

  /// The chain on a grid of one block, and of one a multiprocessor.
  void chains() {
    for (const int blocks : {1, device_.blocks}) {
      const std::string grid = blocks == 1 ? ", 1 block" : ", a block a multiprocessor";
      const auto plain = [&] { chain(blocks, false); };
      const auto dependent = [&] { chain(blocks, true); };
      time("plain launch" + grid, blocks, plain);
      time_graph("graph node" + grid, blocks, plain);
      if (device_.version < 90) {
        skip("dependent launch" + grid, "needs compute capability 9.0");
        continue;
      }
      time("dependent launch" + grid, blocks, dependent);
      time_graph("graph node, dependent" + grid, blocks, dependent);
    }
  }

  /// Host and device in turn, from the host's clock.
  void round_trips() {
    Mapped request(1), reply(1);
    uint32_t sent = 0;
    const auto step = [&] { step_kernel<false><<<1, 32, 0, stream_>>>(cells_.data); };
    const auto graph = captured(stream_, step);
    const auto wait = [&] {
      check(cudaStreamSynchronize(stream_));
      return true;
    };
    turns("launch, synchronise", [&] { return step(), wait(); });
    turns("graph of one node, synchronise", [&] { return check(cudaGraphLaunch(graph, stream_)), wait(); });
    turns("launch, poll mapped memory", [&] {
      tell_kernel<<<1, 1, 0, stream_>>>(reply.device, ++sent);
      return reply.becomes(sent);
    });
    check(cudaStreamSynchronize(stream_));
    check(cudaGraphExecDestroy(graph));
    reply.set(0);
    abort_.fill(0);
    check(cudaDeviceSynchronize());
    uint32_t asked = 0;
    answer_kernel<<<1, 1, 0, stream_>>>(request.device, reply.device, kRoundTrips + 1, abort_.data);
    turns("resident kernel, both ways through mapped memory", [&] {
      request.set(++asked);
      return reply.becomes(asked);
    });
    check(cudaStreamSynchronize(stream_));
  }

  /// Tokens that only go one way.
  void one_way() {
    constexpr uint32_t kSize = 1024, kLast = 100'000;
    Mapped ring(kSize);
    const double ms = median_ms(stream_, [&] { tokens_kernel<<<1, 1, 0, stream_>>>(ring.device, kSize, kLast); });
    report("resident kernel, a token into mapped memory", ms * 1e6 / kLast, "ns", ring.at(kLast % kSize) == kLast);
  }

 private:
  void chain(int blocks, bool dependent) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(blocks);
    config.blockDim = 256;
    config.stream = stream_;
    config.attrs = &attribute;
    config.numAttrs = dependent ? 1 : 0;
    const auto kernel = dependent ? step_kernel<true> : step_kernel<false>;
    for (int i = 0; i < kChain; ++i) check(cudaLaunchKernelEx(&config, kernel, cells_.data));
  }

  template <class Work>
  void time_graph(const std::string& name, int blocks, Work work) {
    const auto graph = captured(stream_, work);
    time(name, blocks, [&] { check(cudaGraphLaunch(graph, stream_)); });
    check(cudaGraphExecDestroy(graph));
  }

  template <class Work>
  void time(const std::string& name, int blocks, Work work) {
    cells_.fill(0);
    check(cudaDeviceSynchronize());
    uint32_t runs = 0;
    const double ms = median_ms(stream_, [&] { work(), ++runs; });
    const auto cells = cells_.read();
    report(name, ms * 1e6 / kChain, "ns", std::count(cells.begin(), cells.end(), runs * kChain) == blocks);
  }

  /// The median of the turns after the first.
  template <class Turn>
  void turns(const std::string& name, Turn turn) {
    bool right = turn();
    std::vector<double> times;
    for (int i = 0; i < kRoundTrips && right; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      right = turn();
      times.push_back(std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count());
    }
    report(name, times.empty() ? 0 : median(times), "ns", right);
  }

  const Device& device_;
  cudaStream_t stream_ = new_stream();
  Buffer<uint32_t> cells_{static_cast<size_t>(device_.blocks)}, abort_{1};
};

}  // namespace
}  // namespace lab

int main() {
  const lab::Device device;
  lab::Bench bench(device);
  bench.chains();
  bench.round_trips();
  bench.one_way();
  return 0;
}
