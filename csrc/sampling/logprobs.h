#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace pygpt {

/// What the model itself thought of a token, before any rule. Natural logarithms.
struct TokenLogprobs {
  int32_t token_id = 0;
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top;  // the most likely, best first, ties by id
};

TokenLogprobs token_logprobs(std::span<const float> logits, int32_t token_id, int32_t top);

}  // namespace pygpt
