#pragma once
// A GPU as the backend sees it: memory, one stream of work, and recordings of it. Two classes stand behind it: the
// machine's GPU (nvidia_device.cpp), and in the tests one that the processor plays.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cuda/table.h"

namespace pygpt::cuda {

/// Work that was recorded once, to be put on the stream as a whole.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void launch() = 0;
};

/// Copies, clears and kernels run in the order in which they were asked for, later. All throw DeviceError where the
/// device fails.
class Device {
 public:
  struct About {
    std::string name;
    std::string target;  // "sm_90"
    int multiprocessors;
    int64_t memory_bytes;
  };

  virtual ~Device() = default;

  virtual const About& about() const noexcept = 0;
  virtual const KernelTable& kernels() const noexcept = 0;

  /// Called by each thread before it calls anything else.
  virtual void enter() const noexcept = 0;

  /// Bytes that can be allocated.
  virtual int64_t available_memory() const = 0;

  /// Memory of the device, and memory of the host that it copies from and to without a detour; aligned to 256 bytes,
  /// not cleared. Throw OutOfMemory.
  virtual std::byte* allocate(int64_t bytes) = 0;
  virtual void release(std::byte* memory) noexcept = 0;
  virtual std::byte* allocate_host(int64_t bytes) = 0;
  virtual void release_host(std::byte* memory) noexcept = 0;

  /// Any of the two may be on the host; what is there must stay until synchronise().
  virtual void copy(void* to, const void* from, int64_t bytes) = 0;
  virtual void clear(void* at, int64_t bytes) = 0;

  /// Waits until all is done.
  virtual void synchronise() = 0;

  /// What the kernels of the table are given, and what is done with what they return.
  virtual void* stream() noexcept = 0;
  virtual void check(int code) const = 0;

  /// What is asked for in between is recorded and not done.
  virtual void begin_recording() = 0;
  virtual std::unique_ptr<Graph> end_recording() = 0;
};

/// The machine's first GPU. Throws DeviceError: this build has no CUDA, or there is no
/// GPU or none that it was built for, or the driver is too old.
std::unique_ptr<Device> open_device();

/// Bytes of the device, or of the host for it.
template <class T, bool kHost = false>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(Device& device, int64_t count) : device_(&device), count_(count) {
    const int64_t bytes = std::max<int64_t>(count, 1) * static_cast<int64_t>(sizeof(T));
    memory_ = reinterpret_cast<T*>(kHost ? device.allocate_host(bytes) : device.allocate(bytes));
  }
  DeviceArray(DeviceArray&& other) noexcept
      : device_(other.device_),
        memory_(std::exchange(other.memory_, nullptr)),
        count_(std::exchange(other.count_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(memory_, other.memory_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~DeviceArray() {
    if (memory_ == nullptr) return;
    auto* bytes = reinterpret_cast<std::byte*>(memory_);
    kHost ? device_->release_host(bytes) : device_->release(bytes);
  }

  T* data() const noexcept { return memory_; }
  int64_t size() const noexcept { return count_; }

 private:
  Device* device_ = nullptr;
  T* memory_ = nullptr;
  int64_t count_ = 0;
};

template <class T>
using HostArray = DeviceArray<T, true>;

}  // namespace pygpt::cuda
