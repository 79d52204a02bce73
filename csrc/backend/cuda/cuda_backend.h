#pragma once

#include <map>
#include <memory>
#include <utility>

#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/device_step.h"
#include "backend/cuda/device_weights.h"
#include "model/kv_cache.h"

namespace pygpt {

struct CudaOptions {
  int kv_type = 0;          // an id of KvTypes
  int64_t context = 0;      // positions of a sequence at most
  int64_t max_running = 0;  // sequences
  int32_t max_rows = 0;
};

/// One GPU. What it is asked for is put on its stream phase by phase; it is waited for once a run.
class CudaBackend final : public Backend {
 public:
  /// Throws DeviceError, OutOfMemory.
  CudaBackend(std::shared_ptr<const ModelFile> file, std::shared_ptr<cuda::Device> device, const CudaOptions& options);

  const Info& info() const noexcept override { return info_; }
  void enter() noexcept override { device_->enter(); }
  void clear_page(int32_t page) override;
  void copy_page(int32_t from, int32_t to) override;
  void save_page(int32_t page, std::byte* to) const override;
  void load_page(int32_t page, const std::byte* from) override;
  void reserve_answers(int64_t count) override;
  void run(const Batch& batch, const Plan& plan, Results& results) override;

 private:
  friend class CudaForward;

  /// Rows of floats on the device.
  struct Rows {
    Rows() = default;
    Rows(cuda::Device& device, int64_t rows, int64_t width)
        : memory(device, rows * round_up(width, kGroup)), stride(round_up(width, kGroup)) {}
    cuda::FloatRows view() const { return {memory.data(), stride}; }

    cuda::DeviceArray<float> memory;
    int64_t stride = 0;
  };

  std::byte* page_at(int32_t page) const { return pool_.data() + page * layout_.page_bytes; }
  void upload_angles(int64_t context);
  void reserve_pages(const CudaOptions& options);
  int64_t steps_of(const Batch& batch, const Plan& plan) const;
  void put_on_stream(const Batch& batch, bool may_record);
  void fetch(const Batch& batch, Results& results);
  void choose_on_host(const Batch& batch, Results& results);

  std::shared_ptr<const ModelFile> file_;
  const ModelConfig& config_;
  std::shared_ptr<cuda::Device> device_;
  cuda::DeviceWeights weights_;
  PageLayout layout_;
  Info info_;

  cuda::DeviceArray<float> angles_;  // [context, head_dim] of rotary positions: cosines, then sines
  Rows x_;                           // [rows, d_model] the residual stream
  Rows x0_;                          // as it began, where layers mix that in
  Rows backout_;                     // behind backout_layer
  Rows before_;                      // of a smear
  Rows normed_;                      // where more than a product reads the normed rows
  Rows qkv_;                         // [rows, qkv_rows]
  Rows heads_;                       // [rows, n_head * head_dim] what attention gives
  Rows hidden_;                      // [rows, d_ff]
  cuda::DeviceStep step_;
  cuda::DeviceArray<int32_t> tokens_;     // [rows]
  cuda::HostArray<int32_t> host_tokens_;  // [steps, rows]
  Rows logits_;                           // [answers, padded_vocab_size]
  Rows candidates_;                       // [answers, vocab_size] what choosing needs
  cuda::HostArray<float> host_logits_;
  int64_t answers_ = 0;
  SamplingScratch scratch_;
  cuda::DeviceArray<std::byte> pool_;                                   // [pages, page_bytes]
  std::map<std::pair<int, int>, std::unique_ptr<cuda::Graph>> graphs_;  // by rows and answers
};

}  // namespace pygpt
