// The machine's GPU through CUDA's runtime, which is linked in and looks for the driver itself: a build with CUDA runs
// where there is no driver, and says so only when a GPU is asked for.

#include <cuda_runtime_api.h>

#include "backend/cuda/device.h"
#include "base/error.h"

namespace pygpt::cuda {

extern const KernelTable pygpt_cuda_kernels;

namespace {

constexpr int kOldestMajor = 7;  // the kernels use what compute capability 7.5 has
constexpr int kOldestMinor = 5;

void check_code(cudaError_t code, const char* doing) {
  if (code == cudaSuccess) return;
  throw DeviceError(join("the GPU failed at ", doing, ": ", cudaGetErrorString(code), " (", cudaGetErrorName(code),
                         "): open the engine anew, or with device=\"cpu\""));
}

int64_t mebibytes(int64_t bytes) { return bytes >> 20; }

class NvidiaGraph final : public Graph {
 public:
  NvidiaGraph(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    const cudaError_t code = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check_code(code, "preparing a graph");
  }
  ~NvidiaGraph() override { cudaGraphExecDestroy(executable_); }
  NvidiaGraph(const NvidiaGraph&) = delete;
  NvidiaGraph& operator=(const NvidiaGraph&) = delete;

  void launch() override { check_code(cudaGraphLaunch(executable_, stream_), "launching a graph"); }

 private:
  cudaGraphExec_t executable_ = nullptr;
  cudaStream_t stream_;
};

class NvidiaDevice final : public Device {
 public:
  NvidiaDevice() {
    find_device();
    check_code(cudaSetDevice(0), "setting up");
    check_code(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "setting up");
  }
  ~NvidiaDevice() override { cudaStreamDestroy(stream_); }

  const About& about() const noexcept override { return about_; }
  const KernelTable& kernels() const noexcept override { return pygpt_cuda_kernels; }
  void enter() const noexcept override { cudaSetDevice(0); }  // where it fails, the next call says so

  int64_t available_memory() const override {
    size_t free = 0;
    size_t total = 0;
    check_code(cudaMemGetInfo(&free, &total), "asking for its memory");
    return static_cast<int64_t>(free);
  }

  std::byte* allocate(int64_t bytes) override {
    void* memory = nullptr;
    const cudaError_t code = cudaMalloc(&memory, static_cast<size_t>(bytes));
    if (code == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());  // it is told, and does not stick
      throw OutOfMemory(join("the GPU cannot give ", mebibytes(bytes), " MiB, ", mebibytes(available_memory()), " of ",
                             mebibytes(about_.memory_bytes),
                             " MiB are free: close what else uses it, or pass a smaller max_context or max_running"));
    }
    check_code(code, "allocating memory");
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) noexcept override { cudaFree(memory); }

  std::byte* allocate_host(int64_t bytes) override {
    void* memory = nullptr;
    const cudaError_t code = cudaMallocHost(&memory, static_cast<size_t>(bytes));
    if (code == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      throw OutOfMemory(join("the system cannot give ", mebibytes(bytes), " MiB that the GPU can copy from"));
    }
    check_code(code, "allocating memory of the host");
    return static_cast<std::byte*>(memory);
  }
  void release_host(std::byte* memory) noexcept override { cudaFreeHost(memory); }

  void copy(void* to, const void* from, int64_t bytes) override {
    check_code(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_), "copying");
  }
  void clear(void* at, int64_t bytes) override {
    check_code(cudaMemsetAsync(at, 0, static_cast<size_t>(bytes), stream_), "clearing memory");
  }
  void synchronise() override { check_code(cudaStreamSynchronize(stream_), "running"); }

  void* stream() noexcept override { return stream_; }
  void check(int code) const override { check_code(static_cast<cudaError_t>(code), "launching a kernel"); }

  void begin_recording() override {
    check_code(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording");
  }
  std::unique_ptr<Graph> end_recording() override {
    cudaGraph_t graph = nullptr;
    check_code(cudaStreamEndCapture(stream_, &graph), "recording");
    return std::make_unique<NvidiaGraph>(graph, stream_);
  }

 private:
  void find_device() {
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaErrorInsufficientDriver) {
      int driver = 0;
      int runtime = 0;
      cudaDriverGetVersion(&driver);
      cudaRuntimeGetVersion(&runtime);
      if (driver == 0) throw DeviceError("this machine has no NVIDIA driver: install it, or use device=\"cpu\"");
      throw DeviceError(join("the NVIDIA driver knows CUDA ", driver / 1000, ".", driver % 1000 / 10,
                             ", this build needs ", runtime / 1000, ".", runtime % 1000 / 10,
                             ": install a newer driver, or use device=\"cpu\""));
    }
    if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0))
      throw DeviceError("this machine has no NVIDIA GPU that can be used: use device=\"cpu\"");
    check_code(code, "looking for it");
    cudaDeviceProp properties{};
    check_code(cudaGetDeviceProperties(&properties, 0), "asking for its properties");
    about_ = {properties.name, join("sm_", properties.major, properties.minor), properties.multiProcessorCount,
              static_cast<int64_t>(properties.totalGlobalMem)};
    if (properties.major < kOldestMajor || (properties.major == kOldestMajor && properties.minor < kOldestMinor)) {
      throw DeviceError(join(about_.name, " has compute capability ", properties.major, ".", properties.minor,
                             ", pygpt needs 7.5: use device=\"cpu\""));
    }
  }

  About about_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Device> open_device() { return std::make_unique<NvidiaDevice>(); }

}  // namespace pygpt::cuda
