#include "emulated/emulated_device.h"

#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "check.h"
#include "emulated/test_device.h"

namespace pygpt {

namespace cuda {
extern const KernelTable pygpt_emulated_kernels;
}

namespace emulated {
namespace {

constexpr int64_t kHeader = 256;  // before each array: its size, and what its alignment asks for

class Recording final : public cuda::Graph {
 public:
  Recording(std::vector<std::function<void()>> works, int& launches) : works_(std::move(works)), launches_(launches) {}
  void launch() override {
    ++launches_;
    for (const auto& work : works_) work();
  }

 private:
  std::vector<std::function<void()>> works_;
  int& launches_;
};

}  // namespace

EmulatedDevice::EmulatedDevice(Order order, int64_t memory_bytes)
    : about_{"a processor that plays a GPU", "emulated", 1, memory_bytes} {
  stream_.order = order;
}

EmulatedDevice::~EmulatedDevice() {
  if (arrays_ == 0) return;
  std::fputs("memory of the device was not released\n", stderr);
  std::abort();
}

const cuda::KernelTable& EmulatedDevice::kernels() const noexcept { return cuda::pygpt_emulated_kernels; }

/// Filled with NaNs, for who reads what nobody wrote.
std::byte* EmulatedDevice::allocate(int64_t bytes) {
  if (bytes > available_memory())
    throw OutOfMemory(join("the emulated GPU has ", available_memory(), " bytes left, not ", bytes));
  std::byte* memory = allocate_host(bytes);
  used_ += bytes;
  return memory;
}

void EmulatedDevice::release(std::byte* memory) noexcept {
  int64_t bytes = 0;
  std::memcpy(&bytes, memory - kHeader, sizeof bytes);
  used_ -= bytes;
  release_host(memory);
}

std::byte* EmulatedDevice::allocate_host(int64_t bytes) {
  auto* memory = static_cast<std::byte*>(::operator new[](static_cast<size_t>(kHeader + bytes), std::align_val_t{256}));
  std::memcpy(memory, &bytes, sizeof bytes);
  std::memset(memory + kHeader, 0xff, static_cast<size_t>(bytes));
  ++arrays_;
  return memory + kHeader;
}

void EmulatedDevice::release_host(std::byte* memory) noexcept {
  --arrays_;
  ::operator delete[](memory - kHeader, std::align_val_t{256});
}

void EmulatedDevice::copy(void* to, const void* from, int64_t bytes) {
  stream_.submit([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
}

void EmulatedDevice::clear(void* at, int64_t bytes) {
  stream_.submit([=] { std::memset(at, 0, static_cast<size_t>(bytes)); });
}

void EmulatedDevice::check(int code) const {
  if (code != 0) throw DeviceError(join("the emulated GPU failed with ", code));
}

void EmulatedDevice::begin_recording() { stream_.capturing = true; }

std::unique_ptr<cuda::Graph> EmulatedDevice::end_recording() {
  stream_.capturing = false;
  ++recordings;
  return std::make_unique<Recording>(std::exchange(stream_.recorded, {}), launches);
}

}  // namespace emulated

namespace test {

std::shared_ptr<cuda::Device> open_test_device() { return std::make_shared<emulated::EmulatedDevice>(); }
void set_tensor_cores(bool there) { emulated::has_tiles = there; }

}  // namespace test
}  // namespace pygpt
