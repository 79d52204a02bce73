#pragma once
// A device whose memory is the host's and whose kernels run on the processor.

#include "backend/cuda/device.h"
#include "emulated/grid.h"

namespace pygpt::emulated {

class EmulatedDevice final : public cuda::Device {
 public:
  explicit EmulatedDevice(Order order = Order::ascending, int64_t memory_bytes = int64_t{1} << 30);
  ~EmulatedDevice() override;

  const About& about() const noexcept override { return about_; }
  const cuda::KernelTable& kernels() const noexcept override;
  void enter() const noexcept override {}
  int64_t available_memory() const override { return about_.memory_bytes - used_; }
  std::byte* allocate(int64_t bytes) override;
  void release(std::byte* memory) noexcept override;
  std::byte* allocate_host(int64_t bytes) override;
  void release_host(std::byte* memory) noexcept override;
  void copy(void* to, const void* from, int64_t bytes) override;
  void clear(void* at, int64_t bytes) override;
  void synchronise() override {}
  void* stream() noexcept override { return &stream_; }
  void check(int code) const override;
  void begin_recording() override;
  std::unique_ptr<cuda::Graph> end_recording() override;

  int recordings = 0;
  int launches = 0;  // of recordings

 private:
  About about_;
  Stream stream_;
  int64_t used_ = 0;
  int64_t arrays_ = 0;  // that have not been released
};

}  // namespace pygpt::emulated
