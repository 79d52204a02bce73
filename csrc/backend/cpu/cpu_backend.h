#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/rows.h"
#include "base/team.h"
#include "kernels/cpu/table.h"
#include "model/kv_cache.h"
#include "model/rotary.h"
#include "model/weights.h"

namespace pygpt {

struct CpuOptions {
  int workers = 1;
  std::string isa;  // empty: the best
  int kv_type = 0;  // an id of KvTypes
  int64_t page_capacity = 0;
  int32_t max_rows = 0;
};

/// Up to this many rows every worker norms all of them for itself: cheaper than a barrier.
inline constexpr int64_t kFewRows = 4;

/// A team of threads on the processor's cores.
class CpuBackend final : public Backend {
 public:
  /// Bytes of the rows that a backend of these options allocates, and of the logits of `running` sequences.
  static int64_t workspace_bytes(const ModelFile& file, int32_t max_rows, int64_t running);

  /// Throws DeviceError (ISA), OutOfMemory.
  CpuBackend(std::shared_ptr<const ModelFile> file, const CpuOptions& options);

  const Info& info() const noexcept override { return info_; }
  void enter() noexcept override { team_.take_place(0); }
  void clear_page(int32_t page) override;
  void run(const Batch& batch, const Plan& plan, Results& results) override;

 private:
  friend class Forward;

  /// What a worker needs for itself.
  struct Scratch {
    Activations normed;  // [few rows, d_model]
    Rows heads;          // [few rows, n_head * head_dim] as bytes
    FloatRows position;  // [1, d_model]
    SamplingScratch sampling;
  };

  std::shared_ptr<const ModelFile> file_;
  const ModelConfig& config_;
  const KernelTable& kernels_;
  Weights weights_;
  bool far_;  // they do not fit into the last cache
  PageLayout layout_;
  Rotary rotary_;
  Team team_;
  Info info_;

  std::vector<AlignedArray<std::byte>> pages_;  // by number; memory comes with the first use
  FloatRows x_;                                 // [rows, d_model] the residual stream
  Activations normed_;                          // [rows, d_model]
  FloatRows angles_;                            // [rows, head_dim] of rotary positions: cosines, then sines
  FloatRows qkv_;                               // [rows, n_kv_head * group_rows]
  Activations heads_;                           // [rows, n_head * head_dim] what attention gives
  FloatRows up_;                                // [rows, up_rows] where there is a gate
  Activations hidden_;                          // [rows, d_ff]
  Activations last_;                            // [outputs, d_model] normed rows that want something
  FloatRows logits_;                            // [outputs, padded_vocab_size]
  std::vector<Scratch> scratch_;
};

}  // namespace pygpt
