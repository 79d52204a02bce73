// The rules at their edges, where sanitizers look. tests/sampling/test_rules.py holds each against a naive twin.

#include "sampling/chain.h"

#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "sampling/exp.h"
#include "sampling/logprobs.h"

namespace pygpt::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kMost = std::numeric_limits<float>::max();

int32_t choose_from(const std::vector<float>& logits, const SamplingParams& params,
                    const std::vector<int32_t>& output = {}, const std::vector<int32_t>& prompt = {}) {
  const auto vocab_size = static_cast<int32_t>(logits.size());
  Sampler sampler(params, vocab_size, prompt);
  for (const int32_t token : output) sampler.accept(token);
  SamplingScratch scratch(vocab_size);
  return choose(logits, sampler, scratch);
}

void not_finite() {
  for (const float bad : {kNaN, -kNaN, kInfinity}) {
    for (size_t place = 0; place < 3; ++place) {
      for (const float temperature : {0.0f, 1.0f}) {
        std::vector<float> logits = {1, 2, 3};
        logits[place] = bad;
        expect_equal(choose_from(logits, {.temperature = temperature}), static_cast<int32_t>(Choice::not_finite));
      }
    }
  }
}
const Test not_finite_test{"a logit that is NaN or plus infinity is reported, wherever it stands", not_finite};

void none_left() {
  for (const float temperature : {0.0f, 1.0f}) {
    expect_equal(choose_from({-kInfinity, -kInfinity}, {.temperature = temperature}),
                 static_cast<int32_t>(Choice::none_left));
    expect_equal(choose_from({1, 2}, {.temperature = temperature, .min_tokens = 1, .stop_token_ids = {0, 1}}),
                 static_cast<int32_t>(Choice::none_left));
    const SamplingParams only_stop{
        .temperature = temperature, .allowed_token_ids = {1}, .min_tokens = 2, .stop_token_ids = {1}};
    expect_equal(choose_from({1, 2}, only_stop, {0}), static_cast<int32_t>(Choice::none_left));
    expect_equal(choose_from({1, 2}, only_stop, {0, 0}), 1);
  }
}
const Test none_left_test{"rules that forbid every token say so", none_left};

void greedy() {
  expect_equal(choose_from({1, 5, 5, 2}, {.temperature = 0}), 1, "ties go to the lowest id");
  expect_equal(choose_from({1, 5, 5.5f, 2}, {.temperature = 1e-39f, .top_k = 1}), 2,
               "a subnormal temperature is greedy");
  expect_equal(choose_from({-kMost, -kInfinity}, {.temperature = 0}), 0);
}
const Test greedy_test{"temperature 0 takes the largest logit", greedy};

/// Whatever numbers a request brings, the answer is a token with a finite logit or a Choice; sanitizers see the rest.
void extremes() {
  const std::vector<float> numbers = {1e-45f, 1e-38f, 1e-3f, 1, 100, 1e30f, kMost, kInfinity};
  const std::vector<float> logits = {kMost, -kMost, 0, -kInfinity, 1e-45f, 3, 3};
  for (const float number : numbers) {
    for (const SamplingParams& params : std::vector<SamplingParams>{
             {.temperature = number},
             {.temperature = 1, .repetition_penalty = number},
             {.presence_penalty = number, .frequency_penalty = number},
             {.presence_penalty = -number, .frequency_penalty = -number},
             {.temperature = 1e-37f,
              .top_k = 3,
              .top_p = 1e-45f,
              .repetition_penalty = 1e-30f,
              .presence_penalty = number},
             {.top_p = 0.5f,
              .logit_bias = {{0, std::min(number, kMost)}, {3, std::min(number, kMost)}, {0, std::min(number, kMost)}}},
             {.top_k = 2, .logit_bias = {{0, kMost}, {0, kMost}}, .seed = ~0ull, .sample = ~0u}}) {
      const int32_t token = choose_from(logits, params, {0, 1, 2, 5, 5}, {0, 3});
      expect(token >= -2 && token < 7 && token != 3, join("token ", token, " with ", number));
    }
  }
}
const Test extremes_test{"extreme parameters give a token that may be chosen, or a reason", extremes};

void exponential() {
  expect_equal(sampling::exp_nonpositive(0.0f), 1.0f);
  expect_equal(sampling::exp_nonpositive(-0.0f), 1.0f);
  expect_equal(sampling::exp_nonpositive(-kInfinity), 0.0f);
  expect_equal(sampling::exp_nonpositive(-87.1f), 0.0f);
  expect_equal(sampling::exp_nonpositive(kNaN), 0.0f, "NaN weighs nothing");
}
const Test exponential_test{"the exponential is exactly 1 at 0 and exactly 0 far below", exponential};

void logprobs() {
  const std::vector<float> logits = {1, 3, 3, -kInfinity};
  const double norm = std::log(std::exp(1.0) + 2 * std::exp(3.0));
  const TokenLogprobs asked = token_logprobs(logits, 0, 9);
  expect(std::abs(static_cast<double>(asked.logprob) - (1 - norm)) < 1e-6, "logprob");
  expect_equal(asked.top.size(), 4u, "no more than there are tokens");
  const int32_t order[] = {1, 2, 0, 3};
  for (size_t i = 0; i < 4; ++i) expect_equal(asked.top[i].first, order[i], "best first, ties by id");
  expect_equal(asked.top[3].second, -kInfinity);
  expect(token_logprobs(logits, 1, 0).top.empty() && token_logprobs(logits, 1, -1).top.empty(), "none asked for");
}
const Test logprobs_test{"logprobs are the model's own, best first, at most one for each token", logprobs};

}  // namespace
}  // namespace pygpt::test
