// What a hand-over costs through clusters (compute capability 9.0 and up): blocks of a cluster write into each other's
// shared memory and meet at a barrier in hardware.
//   "cluster alone": each cluster makes and reads the whole vector by itself; no word leaves it.
//   "words, then cluster": between clusters the vector travels as words with epochs; each block of a cluster polls a
//   part of them only and passes it on to its neighbours. Less is polled, but a second hop follows.

#include <cooperative_groups.h>

#include "gpu_machine.cuh"

namespace lab {
namespace {

namespace cg = cooperative_groups;

constexpr int kWidths[] = {768, 1600, 2048};
constexpr int kClusters[] = {2, 4, 8};
constexpr int kWidest = 2048;
constexpr uint32_t kRounds = 4000;

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

struct Span {
  int first, last;
};

/// Part `index` of `parts` of the vector, cut at even elements: two words make one load.
__device__ Span part(int width, int index, int parts) {
  const int pairs = width / 2;
  return {2 * (pairs * index / parts), 2 * (pairs * (index + 1) / parts)};
}

/// Writes element i into the shared memory of every block of the cluster.
__device__ void pass_on(float* slot, int i, float value) {
  const cg::cluster_group cluster = cg::this_cluster();
  for (unsigned block = 0; block < cluster.num_blocks(); ++block) cluster.map_shared_rank(slot, block)[i] = value;
}

/// After the cluster's barrier every block has the whole slot.
__device__ float sum_of(const float* slot, int width) {
  float sum = 0;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < width; i += 4 * kThreads) {
    const float4 four = *reinterpret_cast<const float4*>(slot + i);
    sum += four.x + four.y + four.z + four.w;
  }
  return sum;
}

/// Two slots do: who is past a round's barrier knows that its neighbours have read the round before.
struct ClusterAlone {
  __device__ float exchange(GpuMachine&, float* slot, uint32_t round, int width, uint32_t last_sum) const {
    const cg::cluster_group cluster = cg::this_cluster();
    const Span mine = part(width, static_cast<int>(cluster.block_rank()), static_cast<int>(cluster.num_blocks()));
    for (int i = mine.first + static_cast<int>(threadIdx.x); i < mine.last; i += kThreads) {
      pass_on(slot, i, element(round, static_cast<uint32_t>(i), last_sum));
    }
    cluster.sync();
    return sum_of(slot, width);
  }
};

/// words: [2, width], zeroed; see Words in exchange.h.
struct WordsThenCluster {
  Words words;

  __device__ float exchange(GpuMachine& m, float* slot, uint32_t round, int width, uint32_t last_sum) const {
    const cg::cluster_group cluster = cg::this_cluster();
    const Span mine = part(width, m.block(), m.blocks());
    for (int i = mine.first + m.rank(); i < mine.last; i += kThreads) {
      words.put(m, round, i, element(round, static_cast<uint32_t>(i), last_sum));
    }
    const uint64_t* from = words.slots + (round % 2) * static_cast<uint32_t>(width);
    const Span polled = part(width, static_cast<int>(cluster.block_rank()), static_cast<int>(cluster.num_blocks()));
    for (int i = polled.first + 2 * m.rank(); i < polled.last; i += 2 * kThreads) {
      Pair pair{};
      m.until([&] {
        pair = m.load_2x64(from + i);
        return is_of(pair.a, round) && is_of(pair.b, round);
      });
      pass_on(slot, i, value_of(pair.a));
      pass_on(slot, i + 1, value_of(pair.b));
    }
    cluster.sync();
    return sum_of(slot, width);
  }
};

template <class Exchange>
__device__ void run_rounds(const Exchange& exchange, const Job& job) {
  __shared__ __align__(16) float slots[2][kWidest];
  GpuMachine machine(job.abort);
  uint32_t history = 0, sum = 0;
  cg::this_cluster().sync();  // nobody writes into a block that has not begun
  for (uint32_t round = 0; round < job.rounds; ++round) {
    const float mine = exchange.exchange(machine, slots[round % 2], round, job.width, sum);
    sum = static_cast<uint32_t>(machine.block_sum(mine));
    history = mix(history, sum);
  }
  cg::this_cluster().sync();  // nor into one that has ended
  if (machine.rank() == 0) job.history[machine.block()] = history;
}

#else  // compiled for an older device: never launched

struct ClusterAlone {};
struct WordsThenCluster {
  Words words;
};
template <class Exchange>
__device__ void run_rounds(const Exchange&, const Job&) {}

#endif

/// Grid: as many clusters as fit at once, one block a multiprocessor.
template <class Exchange>
__global__ void __launch_bounds__(kThreads, 1) cluster_kernel(Exchange exchange, Job job) {
  run_rounds(exchange, job);
}

/// How many clusters of `size` blocks run at once; `attribute` and `config` are filled for them.
template <class Exchange>
int prepare(const Device& device, int size, cudaLaunchAttribute& attribute, cudaLaunchConfig_t& config) {
  const auto kernel = cluster_kernel<Exchange>;
  const size_t shared = device.shared_of_a_lone_block() - sizeof(float) * 2 * kWidest;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(size);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  config = {};
  config.gridDim = static_cast<unsigned>(size);
  config.blockDim = kThreads;
  config.dynamicSmemBytes = shared;
  config.attrs = &attribute;
  config.numAttrs = 1;
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config));
  config.gridDim = static_cast<unsigned>(size * clusters);
  return clusters;
}

/// The median of some launches, each of which starts from words that hold nothing.
template <class Exchange>
void run(const Device& device, const std::string& title, int size, int width, Exchange exchange,
         Buffer<uint64_t>& words) {
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
  const int clusters = prepare<Exchange>(device, size, attribute, config);
  const std::string name = title + " of " + std::to_string(size) + ", width " + std::to_string(width);
  if (clusters == 0) return skip(name, "no cluster of this size fits");
  Buffer<uint32_t> abort(1), history(config.gridDim.x);
  const uint32_t expected = expected_history(width, kRounds);
  std::vector<double> times;
  bool right = true;
  for (int repeat = 0; repeat < 6; ++repeat) {
    abort.fill(0);
    history.fill(0);
    words.fill(0);
    const Job job{width, kRounds, abort.data, history.data};
    const Stopwatch watch;
    check(cudaLaunchKernelEx(&config, cluster_kernel<Exchange>, exchange, job));
    times.push_back(watch.ms());
    right = right && verified(abort, history, expected);
  }
  times.erase(times.begin());  // it warmed up
  report(name, median(times) * 1e6 / kRounds, "ns", right);
}

}  // namespace
}  // namespace lab

int main() {
  const lab::Device device;
  if (device.version < 90) {
    lab::skip("clusters", "needs compute capability 9.0");
    return 0;
  }
  lab::Buffer<uint64_t> words(2 * lab::kWidest);
  for (const int width : lab::kWidths) {
    for (const int size : lab::kClusters) {
      lab::run(device, "cluster alone", size, width, lab::ClusterAlone{}, words);
      lab::run(device, "words, then cluster", size, width, lab::WordsThenCluster{{words.data, width}}, words);
    }
  }
  return 0;
}
