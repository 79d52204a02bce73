// What it costs to hand a vector from all thread blocks to all: one block a multiprocessor, many rounds in one launch.
// A round: each block puts its share, gathers the whole and sums it. "no exchange" is that without the hand-over, so
// the difference to it is what a hand-over costs.

#include <cooperative_groups.h>

#include "gpu_machine.cuh"

namespace lab {
namespace {

constexpr int kWidths[] = {768, 1600, 2048};
constexpr uint32_t kRounds = 4000;
constexpr size_t kLongestRing = 8;

/// The barrier of cooperative groups, which every block of the grid meets in every round.
struct GridBarrier {
  template <class Machine>
  __device__ void wait(Machine&, uint32_t) const {
    cooperative_groups::this_grid().sync();
  }
};

/// Grid: one block a multiprocessor, all resident (cooperative launch). A thread reads 16 or 32 bytes of each round.
template <class Exchange>
__global__ void __launch_bounds__(kThreads, 1) handover_kernel(Exchange exchange, Job job) {
  GpuMachine machine(job.abort);
  const uint32_t history = hand_over(machine, exchange, job.width, job.rounds);
  if (machine.rank() == 0) job.history[machine.block()] = history;
}

class Bench {
 public:
  explicit Bench(const Device& device) : device_(device), history_(static_cast<size_t>(device.blocks)) {}

  /// `reset` brings what the exchange needs at the start of a launch.
  template <class Exchange, class Reset>
  void run(const std::string& name, int width, Exchange exchange, Reset reset) {
    Job job{width, kRounds, abort_.data, history_.data};
    void* arguments[] = {&exchange, &job};
    const auto* kernel = reinterpret_cast<const void*>(handover_kernel<Exchange>);
    const size_t shared = device_.shared_of_a_lone_block();
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
    const uint32_t expected = expected_history(width, kRounds);
    std::vector<double> times;
    bool right = true;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      abort_.fill(0);
      history_.fill(0);
      reset();
      const Stopwatch watch;
      check(cudaLaunchCooperativeKernel(kernel, static_cast<unsigned>(device_.blocks), kThreads, arguments, shared));
      times.push_back(watch.ms());
      right = right && verified(abort_, history_, expected);
    }
    times.erase(times.begin());  // it warmed up
    report(name + ", width " + std::to_string(width), median(times) * 1e6 / kRounds, "ns", right);
  }

  void run_all(int width) {
    const auto w = static_cast<size_t>(width);
    Buffer<float> floats(2 * w);
    Buffer<uint32_t> words(kLongestRing * w), flags(32 * static_cast<size_t>(device_.blocks));
    Buffer<uint64_t> pairs(2 * w);
    const auto nothing = [] {};
    const auto no_flags = [&] { flags.fill(0); };
    const auto no_values = [&] { words.fill(0xff); };
    run("no exchange", width, Local{}, nothing);
    run("grid sync", width, Behind<GridBarrier>{floats.data, width, {}}, nothing);
    run("atomic counter", width, Behind<Counter>{floats.data, width, {flags.data}}, no_flags);
    run("flags side by side", width, Behind<Flags>{floats.data, width, {flags.data, 1}}, no_flags);
    run("flags 128 bytes apart", width, Behind<Flags>{floats.data, width, {flags.data, 32}}, no_flags);
    run("words with epoch", width, Words{pairs.data, width}, [&] { pairs.fill(0); });
    run("NaN ring of 8", width, Sentinels<8, false>{words.data, width}, no_values);
    run("NaN ring of 4, fenced", width, Sentinels<4, true>{words.data, width}, no_values);
  }

 private:
  static constexpr int kRepeats = 6;

  const Device& device_;
  Buffer<uint32_t> abort_{1};
  Buffer<uint32_t> history_;
};

}  // namespace
}  // namespace lab

int main() {
  const lab::Device device;
  lab::Bench bench(device);
  for (const int width : lab::kWidths) bench.run_all(width);
  return 0;
}
