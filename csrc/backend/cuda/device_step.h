#pragma once
// What the device is told of a batch: rows, which of them are answered, by which rules, and where pages lie.

#include "backend/batch.h"
#include "backend/cuda/device.h"

namespace pygpt::cuda {

/// Whether the device has these rules. What it cannot do is the host's: penalties, biases, lists of allowed tokens.
bool device_knows(const SamplingParams& params);

/// Whether the device will always choose by itself: a nucleus of any size may be too large for it.
bool device_is_sure(const SamplingParams& params);

/// One piece of memory on either side, so that one copy brings all of it over. Where things lie follows from the
/// numbers of rows and answers alone: a recorded step finds them again.
class DeviceStep {
 public:
  /// Throws OutOfMemory.
  DeviceStep(Device& device, int64_t max_rows, int64_t max_pages);

  /// Writes it down and puts the copy on the stream. `positions`: how many behind its rows a sequence may reach.
  void send(const Batch& batch, int64_t positions);

  int rows() const noexcept { return static_cast<int>(rows_); }
  int answers() const noexcept { return static_cast<int>(answers_); }
  RowInfo* row_infos() const noexcept { return at<RowInfo>(0); }
  const int32_t* places() const noexcept { return at<int32_t>(places_at()); }
  ChooseRules* rules() const noexcept { return at<ChooseRules>(rules_at()); }
  const int32_t* pages() const noexcept { return at<int32_t>(pages_at()); }

 private:
  static constexpr int64_t kAlign = 16;
  int64_t places_at() const noexcept { return rows_ * static_cast<int64_t>(sizeof(RowInfo)); }
  int64_t rules_at() const noexcept { return round_up(places_at() + answers_ * 4, kAlign); }
  int64_t pages_at() const noexcept { return rules_at() + answers_ * static_cast<int64_t>(sizeof(ChooseRules)); }
  template <class T>
  T* at(int64_t offset) const noexcept {
    return reinterpret_cast<T*>(device_memory_.data() + offset);
  }
  template <class T>
  T* host(int64_t offset) const noexcept {
    return reinterpret_cast<T*>(host_memory_.data() + offset);
  }
  int64_t write_pages(const Batch& batch, int64_t positions);

  Device& device_;
  DeviceArray<std::byte> device_memory_;
  HostArray<std::byte> host_memory_;
  std::vector<int32_t> first_pages_;  // by sequence of the batch
  int64_t rows_ = 0;
  int64_t answers_ = 0;
};

}  // namespace pygpt::cuda
