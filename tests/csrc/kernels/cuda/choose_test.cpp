// Given the same logits, host and device choose the same token: sampling/chain.cpp is the twin.

#include "backend/cuda/device_step.h"
#include "check.h"
#include "emulated/numbers.h"
#include "emulated/test_device.h"
#include "sampling/chain.h"

namespace pygpt::test {
namespace {

/// What the device answers for rows of logits, each under one of the samplers.
std::vector<int32_t> chosen_by_device(cuda::Device& device, const std::vector<std::vector<float>>& logits,
                                      const std::vector<Sampler>& samplers) {
  const auto count = std::ssize(logits);
  const auto vocab = std::ssize(logits[0]);
  std::vector<float> all;
  std::vector<Row> rows;
  std::vector<SequenceView> views;
  const std::vector<int32_t> pages = {0};
  for (int32_t i = 0; i < count; ++i) {
    all.insert(all.end(), logits[static_cast<size_t>(i)].begin(), logits[static_cast<size_t>(i)].end());
    rows.push_back({1, -1, i, 0, Want::token});
    views.push_back({pages, &samplers[static_cast<size_t>(i)]});
  }
  for (int32_t i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = {1, -1, i, 0, Want::token};
  const OnDevice device_logits(device, count, vocab, all), scratch(device, count, vocab);
  cuda::DeviceArray<int32_t> out(device, count);
  cuda::DeviceStep step(device, count, count);
  step.send({rows, views}, 0);
  const cuda::ChooseArgs args{device_logits.rows(), static_cast<int>(count), static_cast<int32_t>(vocab),
                              step.rules(),         scratch.rows(),          out.data(),
                              step.row_infos()};
  device.check(device.kernels().choose(args, device.stream()));
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::vector<cuda::RowInfo> moved(static_cast<size_t>(count));
  device.copy(tokens.data(), out.data(), count * 4);
  device.copy(moved.data(), step.row_infos(), count * static_cast<int64_t>(sizeof(cuda::RowInfo)));
  device.synchronise();
  for (size_t i = 0; i < moved.size(); ++i) {
    expect_equal(moved[i].position, 1, "the row moves on");
    expect_equal(moved[i].previous, 1, "the row moves on");
    expect_equal(moved[i].token, tokens[i] >= 0 ? tokens[i] : 1, "to the token that was chosen");
  }
  return tokens;
}

std::vector<float> scaled(std::vector<float> values, float scale) {
  for (float& value : values) value *= scale;
  return values;
}

/// Numbers of which many are equal.
std::vector<float> coarse(int64_t count, uint32_t seed) {
  auto values = numbers(count, seed);
  for (float& value : values) value = std::nearbyint(value * 4);
  return values;
}

std::vector<SamplingParams> all_rules() {
  std::vector<SamplingParams> rules = {
      {.temperature = 0},
      {.temperature = 1},
      {.temperature = 0.7f},
      {.top_k = 1},
      {.top_k = 40},
      {.temperature = 1.5f, .top_k = 7, .top_k_ties = true},
      {.top_p = 0.1f},
      {.top_p = 0.9f},
      {.temperature = 0.3f, .top_p = 0.999f},
      {.top_k = 30, .top_p = 0.8f},
      {.top_k = 30, .top_p = 0.8f, .min_p = 0.1f},
      {.min_p = 0.2f},
      {.min_tokens = 3, .stop_token_ids = {0, 1, 2, 3}},
      {.temperature = 0, .min_tokens = 3, .stop_token_ids = {0, 5, 9}},
  };
  return rules;
}

void same_tokens() {
  const auto device = open_test_device();
  for (const int64_t vocab : {1, 2, 11, 255, 256, 257, 600, 3000}) {
    for (const uint32_t round : {1u, 2u, 3u}) {
      std::vector<std::vector<float>> logits;
      std::vector<Sampler> samplers;
      for (SamplingParams rule : all_rules()) {
        rule.seed = round * 77 + samplers.size();
        rule.sample = round;
        std::erase_if(rule.stop_token_ids, [&](int32_t id) { return id >= vocab; });
        const auto seed = static_cast<uint32_t>(round * 1000 + samplers.size());
        logits.push_back(round == 1 ? coarse(vocab, seed) : scaled(numbers(vocab, seed), round == 2 ? 2.0f : 12.0f));
        samplers.emplace_back(rule, static_cast<int32_t>(vocab), std::span<const int32_t>());
        for (uint32_t i = 1; i < round; ++i) samplers.back().accept(0);
      }
      const auto got = chosen_by_device(*device, logits, samplers);
      SamplingScratch scratch(static_cast<int32_t>(vocab));
      for (size_t i = 0; i < got.size(); ++i) {
        const bool may_pass = vocab > cuda::kMostSorted && !cuda::device_is_sure(samplers[i].params());
        if (may_pass && got[i] == cuda::kHostChooses) continue;
        expect_equal(got[i], choose(logits[i], samplers[i], scratch),
                     join("vocab ", vocab, " round ", round, " rule ", i));
      }
    }
  }
}
const Test same_tokens_test{"host and device choose the same token from the same logits", same_tokens};

void nucleus_too_large() {
  const auto device = open_test_device();
  const std::vector<std::vector<float>> logits = {std::vector<float>(2000, 0.0f), numbers(2000, 3)};
  std::vector<Sampler> samplers;
  for (int i = 0; i < 2; ++i) samplers.emplace_back(SamplingParams{.top_p = 0.99f}, 2000, std::span<const int32_t>());
  for (const int32_t token : chosen_by_device(*device, logits, samplers)) expect_equal(token, cuda::kHostChooses);
}
const Test nucleus_test{"a nucleus of more than the device can put in order is left to the host", nucleus_too_large};

void broken_logits() {
  const auto device = open_test_device();
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::vector<float>> logits = {
      {0, nan, 1}, {infinity, 0, 0}, {-infinity, -infinity, -infinity}, {-infinity, 2, -infinity}, {3, 1, 2}};
  std::vector<Sampler> samplers;
  for (int i = 0; i < 5; ++i) {
    const SamplingParams all_forbidden{.min_tokens = 1, .stop_token_ids = {0, 1, 2}};
    samplers.emplace_back(i == 4 ? all_forbidden : SamplingParams{}, 3, std::span<const int32_t>());
  }
  expect(chosen_by_device(*device, logits, samplers) == std::vector<int32_t>{-1, -1, -2, 1, -2}, "choices");
}
const Test broken_logits_test{"logits that are not finite, and rules that forbid every token", broken_logits};

void rules_of_the_host() {
  expect(cuda::device_knows({}) && cuda::device_is_sure({}), "the defaults");
  expect(!cuda::device_is_sure({.top_p = 0.5f}), "a nucleus of any size");
  expect(cuda::device_is_sure({.top_k = 50, .top_p = 0.5f}), "a nucleus of few");
  expect(!cuda::device_is_sure({.top_k = 50, .top_k_ties = true, .top_p = 0.5f}), "ties may be many");
  for (const SamplingParams& params :
       {SamplingParams{.repetition_penalty = 1.1f}, SamplingParams{.presence_penalty = 1},
        SamplingParams{.frequency_penalty = 1}, SamplingParams{.logit_bias = {{0, 1.0f}}},
        SamplingParams{.allowed_token_ids = {0}},
        SamplingParams{.min_tokens = 1, .stop_token_ids = std::vector<int32_t>(17)}}) {
    expect(!cuda::device_knows(params), "penalties, biases, lists");
    const auto device = open_test_device();
    std::vector<Sampler> samplers;
    samplers.emplace_back(params, 3, std::span<const int32_t>());
    expect_equal(chosen_by_device(*device, {{1, 2, 3}}, samplers)[0], cuda::kHostChooses);
  }
}
const Test rules_of_the_host_test{"rules that the device does not have are left to the host", rules_of_the_host};

}  // namespace
}  // namespace pygpt::test
