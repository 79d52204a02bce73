#include "sampling/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pygpt {
namespace {

/// ln of the sum of e^logit, in double: this is reported to people, never compared with a device's.
double log_sum_exp(std::span<const float> logits) {
  const double largest = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

}  // namespace

TokenLogprobs token_logprobs(std::span<const float> logits, int32_t token_id, int32_t top) {
  const double norm = log_sum_exp(logits);
  const auto logprob = [&](int32_t id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - norm);
  };
  TokenLogprobs result{token_id, logprob(token_id), {}};
  std::vector<int32_t> ids(top > 0 ? logits.size() : 0);
  std::iota(ids.begin(), ids.end(), 0);
  const size_t count = std::min<size_t>(ids.size(), static_cast<size_t>(std::max(top, 0)));
  std::ranges::partial_sort(ids, ids.begin() + static_cast<ptrdiff_t>(count), [&](int32_t a, int32_t b) {
    const float la = logits[static_cast<size_t>(a)];
    const float lb = logits[static_cast<size_t>(b)];
    return la != lb ? la > lb : a < b;
  });
  for (size_t i = 0; i < count; ++i) result.top.emplace_back(ids[i], logprob(ids[i]));
  return result;
}

}  // namespace pygpt
