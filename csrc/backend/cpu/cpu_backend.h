#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "base/team.h"
#include "kernels/cpu/table.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace pygpt {

struct CpuOptions {
  int workers = 1;
  std::string isa;  // empty: the best
  int kv_type = 0;  // an id of WeightFormats
  int64_t page_capacity = 0;
  int32_t max_rows = 0;
};

/// Up to this many rows every worker norms all of them for itself: cheaper than a barrier.
inline constexpr int64_t kFewRows = 4;

/// Rows of floats, each filled up to a multiple of 16 with zeros.
class RowBuffer {
 public:
  RowBuffer() = default;
  RowBuffer(int64_t rows, int64_t width) : stride_(round_up(width, kPanel)), memory_(rows * stride_) {}
  float* row(int64_t r) noexcept { return memory_.data() + r * stride_; }
  int64_t stride() const noexcept { return stride_; }
  int64_t rows() const noexcept { return stride_ == 0 ? 0 : memory_.size() / stride_; }

 private:
  int64_t stride_ = 0;
  AlignedArray<float> memory_;
};

/// A team of threads on the processor's cores.
class CpuBackend final : public Backend {
 public:
  /// Bytes of the rows that a backend of these options allocates, and of the logits of `running` sequences.
  static int64_t workspace_bytes(const ModelConfig& config, int32_t max_rows, int64_t running);

  /// Throws DeviceError (ISA), OutOfMemory.
  CpuBackend(std::shared_ptr<const ModelFile> file, const CpuOptions& options);

  const Info& info() const noexcept override { return info_; }
  void clear_page(int32_t page) override;
  void run(const Batch& batch, const Plan& plan, Results& results) override;

 private:
  friend class Forward;

  /// What a worker needs for itself.
  struct Scratch {
    RowBuffer normed;    // [few rows, d_model]
    RowBuffer position;  // [1, d_model]
    SamplingScratch sampling;
  };

  std::shared_ptr<const ModelFile> file_;
  const ModelConfig& config_;
  const KernelTable& kernels_;
  Weights weights_;
  PageLayout layout_;
  Team team_;
  Info info_;

  std::vector<AlignedArray<std::byte>> pages_;  // by number; memory comes with the first use
  RowBuffer x_;                                 // [rows, d_model] the residual stream
  RowBuffer normed_;                            // [rows, d_model]
  RowBuffer qkv_;                               // [rows, n_head * 3 * padded head_dim]
  RowBuffer heads_;                             // [rows, n_head * head_dim] what attention gives
  RowBuffer hidden_;                            // [rows, d_ff]
  RowBuffer last_;                              // [outputs, d_model] normed rows that want something
  RowBuffer logits_;                            // [outputs, padded_vocab_size]
  std::vector<Scratch> scratch_;
};

}  // namespace pygpt
