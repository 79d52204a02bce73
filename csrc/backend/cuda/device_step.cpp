#include "backend/cuda/device_step.h"

#include "model/kv_cache.h"

namespace pygpt::cuda {
namespace {

ChooseRules rules_of(const Sampler* sampler, int64_t row) {
  ChooseRules rules{};
  rules.row = static_cast<int32_t>(row);
  rules.host_chooses = sampler == nullptr || !device_knows(sampler->params()) ? 1 : 0;
  if (rules.host_chooses != 0) return rules;
  const SamplingParams& params = sampler->params();
  rules.temperature = params.temperature;
  rules.top_k = params.top_k;
  rules.top_k_ties = params.top_k_ties ? 1 : 0;
  rules.top_p = params.top_p;
  rules.min_p = params.min_p;
  rules.seed = params.seed;
  rules.sample = params.sample;
  rules.index = sampler->count();
  rules.min_tokens = params.min_tokens;
  if (params.min_tokens == 0) return rules;
  for (const int32_t id : params.stop_token_ids) rules.forbidden[rules.forbidden_count++] = id;
  return rules;
}

}  // namespace

bool device_knows(const SamplingParams& params) {
  return params.repetition_penalty == 1 && params.presence_penalty == 0 && params.frequency_penalty == 0 &&
         params.logit_bias.empty() && params.allowed_token_ids.empty() &&
         (params.min_tokens == 0 || std::ssize(params.stop_token_ids) <= kMostStopTokens);
}

bool device_is_sure(const SamplingParams& params) {
  const bool few = params.top_k > 0 && params.top_k <= kMostSorted && !params.top_k_ties;
  return device_knows(params) && (params.top_p >= 1 || params.temperature == 0 || few);
}

DeviceStep::DeviceStep(Device& device, int64_t max_rows, int64_t max_pages)
    : device_(device),
      device_memory_(device, max_rows * static_cast<int64_t>(sizeof(RowInfo) + sizeof(int32_t) + sizeof(ChooseRules)) +
                                 kAlign + max_pages * static_cast<int64_t>(sizeof(int32_t))),
      host_memory_(device, device_memory_.size()) {}

void DeviceStep::send(const Batch& batch, int64_t positions) {
  rows_ = std::ssize(batch.rows);
  answers_ = std::ranges::count_if(batch.rows, [](const Row& row) { return is_answered(row.want); });
  const int64_t pages = write_pages(batch, positions);
  int64_t answer = 0;
  for (int64_t i = 0; i < rows_; ++i) {
    const Row& row = batch.rows[static_cast<size_t>(i)];
    const auto sequence = static_cast<size_t>(row.sequence);
    host<RowInfo>(0)[i] = {row.token, row.previous, row.position, first_pages_[sequence]};
    if (!is_answered(row.want)) continue;
    const Sampler* sampler = row.want == Want::token ? batch.sequences[sequence].sampler : nullptr;
    host<int32_t>(places_at())[answer] = static_cast<int32_t>(i);
    host<ChooseRules>(rules_at())[answer++] = rules_of(sampler, i);
  }
  device_.copy(device_memory_.data(), host_memory_.data(), pages_at() + pages * static_cast<int64_t>(sizeof(int32_t)));
}

/// The numbers of the pages that the rows reach, sequence by sequence; how many.
int64_t DeviceStep::write_pages(const Batch& batch, int64_t positions) {
  std::vector<int64_t> counts(batch.sequences.size());
  for (const Row& row : batch.rows) {
    int64_t& count = counts[static_cast<size_t>(row.sequence)];
    count = std::max(count, pages_for(row.position + 1 + positions));
  }
  int64_t written = 0;
  first_pages_.assign(batch.sequences.size(), 0);
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto pages = batch.sequences[i].pages;
    first_pages_[i] = static_cast<int32_t>(written);
    const auto count = std::min(counts[i], std::ssize(pages));
    std::copy_n(pages.begin(), count, host<int32_t>(pages_at()) + written);
    written += count;
  }
  return written;
}

}  // namespace pygpt::cuda
