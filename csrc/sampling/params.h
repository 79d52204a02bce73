#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace pygpt {

/// The rules that choose a request's tokens. Each default means "off". Python checks the ranges and names the
/// parameter.
struct SamplingParams {
  float temperature = 1;         // 0: greedy
  int32_t top_k = 0;             // 0: off; at least the k most likely are kept
  bool top_k_ties = false;       // keep all that equal the k-th, as nanoGPT does; else exactly k, lower ids first
  float top_p = 1;               // nucleus: the smallest set with this mass (Holtzman et al. 2020)
  float min_p = 0;               // at least this share of the most likely token's probability
  float repetition_penalty = 1;  // over prompt and output (Keskar et al. 2019, section 4.1)
  float presence_penalty = 0;    // subtracted once for each token that the output holds
  float frequency_penalty = 0;   // subtracted for each time that the output holds it
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<int32_t> allowed_token_ids;  // empty: all
  int32_t min_tokens = 0;                  // before, no stop token is chosen
  std::vector<int32_t> stop_token_ids;
  uint64_t seed = 0;
  uint32_t sample = 0;  // which of the request's n
};

}  // namespace pygpt
