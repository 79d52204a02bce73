// GB/s of weights when one to eight tokens are multiplied with the matrices of three models: by FMA and by mma.sync, in
// bf16 and in q8. "in one launch" goes through all matrices of a set that no cache holds, as a persistent kernel would;
// "a launch each" is a captured graph with a node for every matrix.

#include "gemv_set.cuh"

namespace lab {
namespace {

constexpr size_t kSetBytes = size_t{2} << 30;

constexpr Shape kShapes[] = {
    {"124M qkv", 2304, 768},       {"124M up", 3072, 768},
    {"124M down", 768, 3072},      {"124M head", 50272, 768},
    {"1.5B qkv", 4800, 1600},      {"1.5B up", 6400, 1600},
    {"1.5B down", 1600, 6400},     {"1.5B head", 50272, 1600},
    {"Llama 1B qkv", 3072, 2048},  {"Llama 1B gate and up", 16384, 2048},
    {"Llama 1B down", 2048, 8192}, {"Llama 1B head", 128256, 2048},
};

using Kernel = void (*)(GemvJob);

template <class Format>
Kernel fma_kernel_for(int tokens) {
  switch (tokens) {
    case 1: return fma_kernel<Format, 1>;
    case 2: return fma_kernel<Format, 2>;
    case 4: return fma_kernel<Format, 4>;
    default: return fma_kernel<Format, 8>;
  }
}

class Bench {
 public:
  explicit Bench(const Device& device) : device_(device) {}

  /// Every batch in one launch; batch 1 with a launch a matrix too.
  template <class Format, bool kTiled>
  void run(const Shape& shape) {
    Set<Format, kTiled> set(shape, std::min(kSetBytes, device_.free / 8));
    for (const int tokens : {1, 2, 4, 8}) {
      const Kernel kernel = kTiled ? mma_kernel<Format> : fma_kernel_for<Format>(tokens);
      const size_t shared = Tokens::bytes(tokens, shape.k, Format::kWeightBytes);
      const std::string name = std::string(Format::kName) + (kTiled ? " mma" : " FMA") + ", batch " +
                               std::to_string(tokens) + ", " + shape.name;
      if (shared + 4096 > device_.shared_of_block) {
        skip(name, "needs more shared memory");
        continue;
      }
      const int most = resident(kernel, shared);
      const auto launch = [&](int first, int count) {
        const int strips = shape.n / (kTiled ? kMmaRows : kFmaRows) * count;
        const auto blocks = static_cast<unsigned>(std::min(most, strips));
        kernel<<<blocks, kGemvThreads, shared, stream_>>>(set.job(tokens, first, count));
      };
      time(name + ", in one launch", set, tokens, [&] { launch(0, set.matrices()); });
      if (tokens > 1) continue;
      const cudaGraphExec_t graph = captured(stream_, [&] {
        for (int matrix = 0; matrix < set.matrices(); ++matrix) launch(matrix, 1);
      });
      time(name + ", a launch each", set, tokens, [&] { check(cudaGraphLaunch(graph, stream_)); });
      check(cudaGraphExecDestroy(graph));
    }
  }

 private:
  template <class S, class Launch>
  void time(const std::string& name, S& set, int tokens, Launch launch) {
    set.poison();
    check(cudaDeviceSynchronize());
    const double ms = median_ms(stream_, launch);
    report(name, set.bytes() / ms / 1e6, "GB/s", set.right(tokens));
  }

  /// As many blocks as are resident at once.
  int resident(Kernel kernel, size_t shared) const {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
    int of_processor = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, kernel, kGemvThreads, shared));
    return of_processor * device_.blocks;
  }

  const Device& device_;
  cudaStream_t stream_ = new_stream();
};

}  // namespace
}  // namespace lab

int main() {
  const lab::Device device;
  lab::Bench bench(device);
  for (const auto& shape : lab::kShapes) {
    bench.run<lab::Bf16, false>(shape);
    bench.run<lab::Bf16, true>(shape);
    bench.run<lab::Q8, false>(shape);
    bench.run<lab::Q8, true>(shape);
  }
  return 0;
}
