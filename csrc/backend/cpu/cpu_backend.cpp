#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/forward.h"
#include "base/machine.h"
#include "kernels/cpu/select.h"

namespace pygpt {

int64_t CpuBackend::workspace_bytes(const ModelFile& file, int32_t max_rows, int64_t running) {
  // Below 2^25 rows of below 2^25 numbers, by the ranges of docs/format.md: no overflow.
  const ModelConfig& config = file.config();
  const bool bytes = file.quantised();
  const int64_t of_rows =
      FloatRows::bytes_for(config.d_model) + Activations::row_bytes(config.d_model, bytes) +
      FloatRows::bytes_for(config.qkv_rows()) + Activations::row_bytes(config.attention_width(), bytes) +
      Activations::row_bytes(config.d_ff, bytes) + (config.gate ? FloatRows::bytes_for(config.up_rows()) : 0) +
      (config.position == Position::rotary ? FloatRows::bytes_for(config.head_dim) : 0);
  const int64_t of_outputs =
      Activations::row_bytes(config.d_model, bytes) + FloatRows::bytes_for(config.padded_vocab_size);
  return max_rows * of_rows + running * of_outputs;
}

CpuBackend::CpuBackend(std::shared_ptr<const ModelFile> file, const CpuOptions& options)
    : file_(std::move(file)),
      config_(file_->config()),
      kernels_(select_kernels(options.isa)),
      weights_(*file_),
      far_(weights_.multiplied_bytes() > last_level_cache()),
      layout_(config_, options.kv_type),
      rotary_(config_),
      team_(options.workers),
      pages_(static_cast<size_t>(options.page_capacity)),
      x_(options.max_rows, config_.d_model),
      normed_(options.max_rows, config_.d_model, file_->quantised()),
      angles_(rotary_.pairs() > 0 ? options.max_rows : 0, config_.head_dim),
      qkv_(options.max_rows, config_.qkv_rows()),
      heads_(options.max_rows, config_.attention_width(), file_->quantised()),
      up_(config_.gate ? options.max_rows : 0, config_.up_rows()),
      hidden_(options.max_rows, config_.d_ff, file_->quantised()) {
  const bool bytes = file_->quantised();
  for (int worker = 0; worker < team_.size(); ++worker) {
    scratch_.push_back({Activations(kFewRows, config_.d_model, bytes),
                        Rows(bytes ? kFewRows : 0, ByteRow(config_.attention_width()).size()),
                        FloatRows(1, config_.d_model), SamplingScratch(static_cast<int32_t>(config_.vocab_size))});
  }
  info_ = {
      .isa = kernels_.isa,
      .kv_dtype = KvTypes::kNames[static_cast<size_t>(layout_.type)],
      .workers = team_.size(),
      .weight_bytes = weights_.multiplied_bytes(),
      .page_bytes = layout_.page_bytes,
      .page_capacity = options.page_capacity,
      .max_rows = options.max_rows,
  };
}

void CpuBackend::clear_page(int32_t page) {
  auto& memory = pages_[static_cast<size_t>(page)];
  if (memory.size() == 0) {
    memory = AlignedArray<std::byte>(layout_.page_bytes);
  } else {
    std::memset(memory.data(), 0, static_cast<size_t>(memory.size()));
  }
}

void CpuBackend::run(const Batch& batch, const Plan&, Results& results) {
  const auto outputs = std::ranges::count_if(batch.rows, [](const Row& row) { return row.want != Want::nothing; });
  if (outputs > logits_.rows()) {  // of the two the one that is replaced last, should memory run out between them
    // Grown when first needed: most callers never want the logits of a whole prompt.
    last_ = Activations(outputs, config_.d_model, file_->quantised());
    logits_ = FloatRows(outputs, config_.padded_vocab_size);
  }
  results.tokens.assign(static_cast<size_t>(outputs), -1);
  results.logits = outputs > 0 ? logits_.row(0) : nullptr;
  results.stride = logits_.stride() / static_cast<int64_t>(sizeof(float));
  const Forward forward(*this, batch, results);
  team_.run([&](int worker) noexcept { forward(worker); });
}

}  // namespace pygpt
