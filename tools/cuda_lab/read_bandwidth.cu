// How fast memory can be read: by plain 16-byte loads, by cp.async, and by bulk copies through a ring of pages in
// shared memory, beside what a device-to-device copy moves. Everything that is read is added up, and the sum is
// checked.

#include "read_kernels.cuh"

namespace lab {
namespace {

constexpr size_t kMiB = 1 << 20;
constexpr size_t kTrafficBytes = 8192 * kMiB;  // of one launch: several passes over what is smaller

class Bench {
 public:
  explicit Bench(const Device& device) : device_(device) {}

  /// GB/s of `launch(job)` over `bytes` of `data`.
  template <class Launch>
  void run(const std::string& name, const Buffer<uint32_t>& data, Launch launch) {
    const int passes = static_cast<int>(std::max<size_t>(2, kTrafficBytes / data.bytes()));
    const Job job{reinterpret_cast<const uint4*>(data.data), data.bytes() / sizeof(uint4), passes, sum_.data,
                  abort_.data};
    abort_.fill(0);
    const double ms = median_ms(nullptr, [&] {
      check(cudaMemsetAsync(sum_.data, 0, sizeof(uint32_t)));
      launch(job);
    });
    const bool right = sum_.read()[0] == sum_of_pattern(data.count) * static_cast<uint32_t>(passes);
    const std::string size = ", " + std::to_string(data.bytes() / kMiB) + " MiB";
    report(name + size, static_cast<double>(data.bytes()) * passes / ms / 1e6, "GB/s", right && abort_.read()[0] == 0);
  }

  template <int kUnroll>
  void plain(const Buffer<uint32_t>& data, int blocks) {
    const auto name = "plain loads, " + std::to_string(kUnroll) + " under way, " + std::to_string(blocks) + " blocks";
    run(name, data, [&](const Job& job) {
      plain_kernel<kUnroll><<<static_cast<unsigned>(device_.blocks * blocks), kThreads>>>(job);
    });
  }

  template <int kStages>
  void async(const Buffer<uint32_t>& data, int blocks) {
    const auto name = "cp.async, " + std::to_string(kStages) + " under way, " + std::to_string(blocks) + " blocks";
    const size_t shared = sizeof(uint4) * kThreads * kStages;
    if (blocks * (shared + 1024) > device_.shared_of_processor) return skip(name, "needs more shared memory");
    check(cudaFuncSetAttribute(async_kernel<kStages>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared)));
    run(name, data, [&](const Job& job) {
      async_kernel<kStages><<<static_cast<unsigned>(device_.blocks * blocks), kThreads, shared>>>(job);
    });
  }

  /// `stages` 0: as many as shared memory holds.
  template <bool kEvictFirst>
  void ring(const Buffer<uint32_t>& data, uint32_t page_kib, int stages = 0) {
    const uint32_t page = page_kib << 10;
    const size_t room = (device_.shared_of_block - 2 * kMostStages * sizeof(uint64_t)) / page;
    const int most = static_cast<int>(std::min<size_t>(kMostStages, room));
    const RingShape shape{page, stages > 0 ? stages : most};
    const auto name = "ring of " + (stages > 0 ? std::to_string(stages) : "all") + " pages of " +
                      std::to_string(page_kib) + " KiB" + (kEvictFirst ? ", evict first" : "");
    if (device_.version < 90) return skip(name, "needs compute capability 9.0");
    if (shape.stages > most) return skip(name, "needs more shared memory");
    const size_t shared = static_cast<size_t>(page) * shape.stages;
    check(cudaFuncSetAttribute(ring_kernel<kEvictFirst>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared)));
    run(name, data, [&](const Job& job) {
      ring_kernel<kEvictFirst><<<static_cast<unsigned>(device_.blocks), kThreads + 32, shared>>>(job, shape);
    });
  }

  /// The best of each way, at this size.
  void ways(const Buffer<uint32_t>& data) {
    plain<8>(data, 4);
    ring<false>(data, 16);
    ring<true>(data, 16);
  }

  /// What the choices within each way are worth.
  void variants(const Buffer<uint32_t>& data) {
    for (const int blocks : {1, 2, 4}) {
      plain<1>(data, blocks);
      plain<4>(data, blocks);
      if (blocks < 4) plain<8>(data, blocks);
    }
    for (const int blocks : {1, 2}) async<4>(data, blocks), async<8>(data, blocks);
    for (const int page : {4, 8, 32}) ring<false>(data, static_cast<uint32_t>(page));
    for (const int stages : {2, 4, 8}) ring<false>(data, 16, stages);
  }

  void copy(const Buffer<uint32_t>& data) {
    Buffer<uint32_t> target(data.count);
    const double ms = median_ms(
        nullptr, [&] { check(cudaMemcpyAsync(target.data, data.data, data.bytes(), cudaMemcpyDeviceToDevice)); });
    report("cudaMemcpy, read and written, " + std::to_string(data.bytes() / kMiB) + " MiB",
           2.0 * static_cast<double>(data.bytes()) / ms / 1e6, "GB/s", target.read() == data.read());
  }

 private:
  const Device& device_;
  Buffer<uint32_t> sum_{1}, abort_{1};
};

void measure(const Device& device, Bench& bench, size_t mib) {
  if (mib * kMiB > device.free / 3) {
    return skip(std::to_string(mib) + " MiB", "needs three times as much free memory");
  }
  Buffer<uint32_t> data(mib * kMiB / sizeof(uint32_t));
  fill_kernel<<<static_cast<unsigned>(device.blocks * 4), kThreads>>>(data.data, data.count);
  check(cudaGetLastError());
  bench.ways(data);
  if (mib == 1024) {
    bench.variants(data);
    bench.copy(data);
  }
}

}  // namespace
}  // namespace lab

int main() {
  const lab::Device device;
  lab::Bench bench(device);
  for (const size_t mib : {24, 64, 256, 1024, 4096}) lab::measure(device, bench, mib);
  return 0;
}
