#include "backend/cuda/cuda_backend.h"

#include <algorithm>

#include "backend/cuda/cuda_forward.h"
#include "base/error.h"
#include "model/rotary.h"

namespace pygpt {
namespace {

constexpr int32_t kMostSteps = 8;      // of one run: some milliseconds, in which nobody new is served
constexpr int64_t kRecordedRows = 64;  // a batch of more has other shapes each time

int64_t mebibytes(int64_t bytes) { return bytes >> 20; }

std::unique_ptr<cuda::Graph> record(cuda::Device& device, const CudaForward& forward) {
  device.begin_recording();
  try {
    forward();
  } catch (...) {
    try {
      device.end_recording();  // else the stream would go on recording
    } catch (const DeviceError&) {
      // What went wrong first is told.
    }
    throw;
  }
  return device.end_recording();
}

}  // namespace

CudaBackend::CudaBackend(std::shared_ptr<const ModelFile> file, std::shared_ptr<cuda::Device> device,
                         const CudaOptions& options)
    : file_(std::move(file)),
      config_(file_->config()),
      device_(std::move(device)),
      weights_(*device_, *file_),
      layout_(config_, options.kv_type),
      x_(*device_, options.max_rows, config_.d_model),
      x0_(*device_, config_.layer_lambdas ? options.max_rows : 0, config_.d_model),
      backout_(*device_, config_.backout_layer ? options.max_rows : 0, config_.d_model),
      before_(*device_, config_.smear_width > 0 ? options.max_rows : 0, config_.d_model),
      normed_(*device_, options.max_rows, config_.d_model),
      qkv_(*device_, options.max_rows, config_.qkv_rows()),
      heads_(*device_, options.max_rows, config_.attention_width()),
      hidden_(*device_, options.max_rows, config_.d_ff),
      step_(*device_, options.max_rows, options.max_running * pages_for(options.context)),
      tokens_(*device_, options.max_rows),
      host_tokens_(*device_, kMostSteps * options.max_rows),
      scratch_(static_cast<int32_t>(config_.vocab_size)) {
  upload_angles(options.context);
  reserve_pages(options);
  info_ = {
      .isa = device_->about().target,
      .kv_dtype = KvTypes::kNames[static_cast<size_t>(layout_.type)],
      .workers = device_->about().multiprocessors,
      .weight_bytes = weights_->multiplied_bytes(),
      .page_bytes = layout_.page_bytes,
      .page_capacity =
          layout_.page_bytes > 0 ? pool_.size() / layout_.page_bytes : options.max_running * pages_for(options.context),
      .max_rows = options.max_rows,
      .max_steps = kMostSteps,
      .device = "cuda",
  };
}

/// The same numbers as on the CPU, once for all positions.
void CudaBackend::upload_angles(int64_t context) {
  const Rotary rotary(config_, weights_->rope_frequencies);
  if (rotary.pairs() == 0) return;
  std::vector<float> angles(static_cast<size_t>(context * config_.head_dim));
  for (int64_t position = 0; position < context; ++position)
    rotary.angles(position, angles.data() + position * config_.head_dim);
  angles_ = cuda::DeviceArray<float>(*device_, std::ssize(angles));
  device_->copy(angles_.data(), angles.data(), angles_.size() * static_cast<int64_t>(sizeof(float)));
  device_->synchronise();
}

/// Pages for as many sequences as may run, or as many as most of the free memory holds; never fewer than one context.
void CudaBackend::reserve_pages(const CudaOptions& options) {
  if (layout_.page_bytes == 0) return;  // a model without layers
  const int64_t per_sequence = pages_for(options.context);
  const int64_t possible = device_->available_memory() / 10 * 9 / layout_.page_bytes;
  if (possible < per_sequence) {
    throw OutOfMemory(join("the KV cache of one context of ", options.context, " tokens needs ",
                           mebibytes(per_sequence * layout_.page_bytes), " MiB, ",
                           mebibytes(device_->available_memory()),
                           " MiB of the GPU's memory are free beside the model: pass a smaller max_context"));
  }
  const int64_t pages = std::min(possible, per_sequence * options.max_running);
  pool_ = cuda::DeviceArray<std::byte>(*device_, pages * layout_.page_bytes);
}

void CudaBackend::clear_page(int32_t page) {
  if (layout_.page_bytes > 0) device_->clear(page_at(page), layout_.page_bytes);
}

void CudaBackend::copy_page(int32_t from, int32_t to) {
  if (layout_.page_bytes > 0) device_->copy(page_at(to), page_at(from), layout_.page_bytes);
}

void CudaBackend::save_page(int32_t page, std::byte* to) const {
  if (layout_.page_bytes == 0) return;
  device_->copy(to, page_at(page), layout_.page_bytes);
  device_->synchronise();
}

void CudaBackend::load_page(int32_t page, const std::byte* from) {
  if (layout_.page_bytes == 0) return;
  device_->copy(page_at(page), from, layout_.page_bytes);
  device_->synchronise();
}

void CudaBackend::reserve_answers(int64_t count) {
  if (count <= answers_) return;
  // Twice as many as before: what is recorded knows the old place and has to be recorded anew.
  count = std::max(count, std::min<int64_t>(2 * answers_, info_.max_rows));
  graphs_.clear();
  answers_ = 0;
  logits_ = Rows(*device_, count, config_.padded_vocab_size);
  candidates_ = Rows(*device_, count, config_.vocab_size);
  host_logits_ = cuda::HostArray<float>(*device_, count * logits_.stride);
  answers_ = count;
}

void CudaBackend::run(const Batch& batch, const Plan& plan, Results& results) {
  const int64_t steps = steps_of(batch, plan);
  const auto answers = std::ranges::count_if(batch.rows, [](const Row& row) { return is_answered(row.want); });
  reserve_answers(answers);
  step_.send(batch, steps - 1);
  const bool only_steps = answers == std::ssize(batch.rows) && answers <= kRecordedRows;
  for (int64_t step = 0; step < steps; ++step) {
    put_on_stream(batch, only_steps);
    if (answers > 0) {
      device_->copy(host_tokens_.data() + step * answers, tokens_.data(),
                    answers * static_cast<int64_t>(sizeof(int32_t)));
    }
  }
  results.steps = steps;
  results.stride = logits_.stride;
  results.logits = host_logits_.data();
  fetch(batch, results);
  device_->synchronise();
  results.tokens.assign(host_tokens_.data(), host_tokens_.data() + steps * answers);
  choose_on_host(batch, results);
}

/// More than one only where the device knows of each row what comes next.
int64_t CudaBackend::steps_of(const Batch& batch, const Plan& plan) const {
  const bool all_go_on = std::ranges::all_of(batch.rows, [&](const Row& row) {
    const SequenceView& sequence = batch.sequences[static_cast<size_t>(row.sequence)];
    return row.want == Want::token && !sequence.reads_logits && cuda::device_is_sure(sequence.sampler->params());
  });
  return all_go_on ? std::clamp<int64_t>(plan.max_steps, 1, kMostSteps) : 1;
}

/// One step. With so many rows and answers for the first time it is done as it comes, which loads the kernels that it
/// needs; then it is recorded, and taken from the recording.
void CudaBackend::put_on_stream(const Batch& batch, bool may_record) {
  const CudaForward forward(*this, batch);
  if (!may_record) return forward();
  const auto [known, is_new] = graphs_.try_emplace({step_.rows(), step_.answers()});
  if (is_new) return forward();
  if (!known->second) known->second = record(*device_, forward);
  known->second->launch();
}

/// The logits that somebody will read, asked for.
void CudaBackend::fetch(const Batch& batch, Results& results) {
  int64_t answer = 0;
  for (const Row& row : batch.rows) {
    if (!is_answered(row.want)) continue;
    const SequenceView& sequence = batch.sequences[static_cast<size_t>(row.sequence)];
    if (row.want == Want::logits || sequence.reads_logits || !cuda::device_knows(sequence.sampler->params())) {
      device_->copy(host_logits_.data() + answer * results.stride, logits_.view().data + answer * logits_.stride,
                    config_.vocab_size * static_cast<int64_t>(sizeof(float)));
    }
    ++answer;
  }
}

/// For rules that the device does not have, with the same code as the CPU's.
void CudaBackend::choose_on_host(const Batch& batch, Results& results) {
  size_t answer = 0;
  for (const Row& row : batch.rows) {
    if (!is_answered(row.want)) continue;
    const Sampler* sampler = batch.sequences[static_cast<size_t>(row.sequence)].sampler;
    int32_t& token = results.tokens[answer];
    float* logits = host_logits_.data() + static_cast<int64_t>(answer) * results.stride;
    ++answer;
    if (row.want != Want::token) {
      token = -1;
    } else if (token == cuda::kHostChooses) {
      if (cuda::device_knows(sampler->params())) {  // it tried, and nobody thought that the logits would be wanted
        device_->copy(logits, logits_.view().data + (logits - host_logits_.data()),
                      config_.vocab_size * static_cast<int64_t>(sizeof(float)));
        device_->synchronise();
      }
      token = choose({logits, static_cast<size_t>(config_.vocab_size)}, *sampler, scratch_);
    }
  }
}

}  // namespace pygpt
