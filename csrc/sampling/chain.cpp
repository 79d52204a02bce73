#include "sampling/chain.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/exp.h"
#include "sampling/philox.h"

namespace pygpt {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
// Sums over the vocabulary are formed in chunks that are merged in order, so that a device can share them out and get
// the same bits.
constexpr int32_t kChunk = 256;

struct Candidates {
  std::span<float> values;
  std::span<float> weights;
  std::span<float> order;
  std::span<int32_t> ids;
  float largest = kForbidden;
};

void apply_bias(Candidates& c, const Sampler& sampler) {
  for (const auto& [id, bias] : sampler.params().logit_bias) c.values[static_cast<size_t>(id)] += bias;
}

void keep_allowed(Candidates& c, const Sampler& sampler) {
  const auto& allowed = sampler.params().allowed_token_ids;
  if (allowed.empty()) return;
  // Without a set to search: put the allowed values aside, forbid all, put them back.
  for (size_t i = 0; i < allowed.size(); ++i) c.order[i] = c.values[static_cast<size_t>(allowed[i])];
  std::ranges::fill(c.values, kForbidden);
  for (size_t i = 0; i < allowed.size(); ++i) c.values[static_cast<size_t>(allowed[i])] = c.order[i];
}

void forbid_early_stop(Candidates& c, const Sampler& sampler) {
  if (sampler.count() >= sampler.params().min_tokens) return;
  for (const int32_t id : sampler.params().stop_token_ids) c.values[static_cast<size_t>(id)] = kForbidden;
}

void penalise(Candidates& c, const Sampler& sampler) {
  const auto& params = sampler.params();
  if (params.repetition_penalty == 1 && params.presence_penalty == 0 && params.frequency_penalty == 0) return;
  for (size_t i = 0; i < c.values.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    float& value = c.values[i];
    if (sampler.seen(id)) value = value > 0 ? value / params.repetition_penalty : value * params.repetition_penalty;
    const auto times = static_cast<float>(sampler.times(id));
    if (times > 0) value -= params.presence_penalty + params.frequency_penalty * times;
  }
}

void keep_top_k(Candidates& c, const Sampler& sampler) {
  const auto k = static_cast<size_t>(sampler.params().top_k);
  if (k == 0 || k >= c.values.size()) return;
  std::ranges::copy(c.values, c.order.begin());
  const auto kth = c.order.begin() + static_cast<ptrdiff_t>(k - 1);
  std::ranges::nth_element(c.order, kth, std::greater<>());
  const float threshold = *kth;
  const auto above =
      static_cast<size_t>(std::ranges::count_if(c.values, [&](float value) { return value > threshold; }));
  size_t ties = sampler.params().top_k_ties ? c.values.size() : k - above;
  for (float& value : c.values) {
    if (value > threshold) continue;
    if (value == threshold && ties > 0) {
      --ties;
    } else {
      value = kForbidden;
    }
  }
}

void weigh(Candidates& c, const Sampler& sampler) {
  const float temperature = sampler.params().temperature;
  for (size_t i = 0; i < c.values.size(); ++i) {
    c.weights[i] = c.values[i] == kForbidden ? 0 : sampling::exp_nonpositive((c.values[i] - c.largest) / temperature);
  }
}

/// The sum of `weights`, chunk by chunk.
double total(std::span<const float> weights) {
  double sum = 0;
  for (size_t begin = 0; begin < weights.size(); begin += kChunk) {
    double part = 0;
    for (size_t i = begin; i < std::min(begin + kChunk, weights.size()); ++i) part += static_cast<double>(weights[i]);
    sum += part;
  }
  return sum;
}

void keep_top_p(Candidates& c, const Sampler& sampler) {
  const float top_p = sampler.params().top_p;
  if (top_p >= 1) return;
  const double wanted = total(c.weights) * static_cast<double>(top_p);
  size_t count = 0;
  for (size_t i = 0; i < c.weights.size(); ++i) {
    if (c.weights[i] > 0) c.ids[count++] = static_cast<int32_t>(i);
  }
  const auto by_weight = [&](int32_t a, int32_t b) {
    const float wa = c.weights[static_cast<size_t>(a)];
    const float wb = c.weights[static_cast<size_t>(b)];
    return wa != wb ? wa > wb : a < b;
  };
  // The nucleus is mostly small: order the best 64, then four times as many, until they hold the mass.
  const auto ids = c.ids.first(count);
  double sum = 0;
  size_t done = 0;
  for (size_t some = std::min<size_t>(64, count); done < count && (done == 0 || sum < wanted);
       some = std::min(some * 4, count)) {
    std::partial_sort(ids.begin() + static_cast<ptrdiff_t>(done), ids.begin() + static_cast<ptrdiff_t>(some), ids.end(),
                      by_weight);
    for (; done < some && (done == 0 || sum < wanted); ++done)
      sum += static_cast<double>(c.weights[static_cast<size_t>(ids[done])]);
  }
  for (const int32_t id : ids.subspan(done)) c.weights[static_cast<size_t>(id)] = 0;
}

void keep_min_p(Candidates& c, const Sampler& sampler) {
  const float min_p = sampler.params().min_p;
  if (min_p <= 0) return;
  for (float& weight : c.weights) {  // the largest weight is 1
    if (weight < min_p) weight = 0;
  }
}

int32_t most_likely(const Candidates& c) {
  for (size_t i = 0; i < c.values.size(); ++i) {
    if (c.values[i] == c.largest) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(Choice::none_left);
}

/// The token at which the running sum of weights passes a random share of the whole.
int32_t draw(const Candidates& c, const Sampler& sampler) {
  const auto& params = sampler.params();
  const double target =
      sampling::uniform(params.seed, params.sample, static_cast<uint64_t>(sampler.count())) * total(c.weights);
  double sum = 0;
  int32_t last = static_cast<int32_t>(Choice::none_left);
  for (size_t begin = 0; begin < c.weights.size(); begin += kChunk) {
    double part = 0;
    for (size_t i = begin; i < std::min(begin + kChunk, c.weights.size()); ++i) {
      part += static_cast<double>(c.weights[i]);
      if (c.weights[i] > 0) last = static_cast<int32_t>(i);
      if (c.weights[i] > 0 && sum + part > target) return last;
    }
    sum += part;
  }
  return last;  // rounding left target at the very end
}

}  // namespace

Sampler::Sampler(SamplingParams params, int32_t vocab_size, std::span<const int32_t> prompt)
    : params_(std::move(params)) {
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) times_.resize(static_cast<size_t>(vocab_size));
  if (params_.repetition_penalty != 1) {
    seen_.resize(static_cast<size_t>(vocab_size));
    for (const int32_t token : prompt) seen_[static_cast<size_t>(token)] = true;
  }
}

void Sampler::accept(int32_t token) noexcept {
  ++count_;
  if (!times_.empty()) ++times_[static_cast<size_t>(token)];
  if (!seen_.empty()) seen_[static_cast<size_t>(token)] = true;
}

SamplingScratch::SamplingScratch(int32_t vocab_size)
    : values(static_cast<size_t>(vocab_size)),
      weights(static_cast<size_t>(vocab_size)),
      order(static_cast<size_t>(vocab_size)),
      ids(static_cast<size_t>(vocab_size)) {}

int32_t choose(std::span<const float> logits, const Sampler& sampler, SamplingScratch& scratch) noexcept {
  for (const float logit : logits) {
    if (!(logit < std::numeric_limits<float>::infinity())) return static_cast<int32_t>(Choice::not_finite);
  }
  std::ranges::copy(logits, scratch.values.begin());
  Candidates c{scratch.values, scratch.weights, scratch.order, scratch.ids};
  apply_bias(c, sampler);
  keep_allowed(c, sampler);
  forbid_early_stop(c, sampler);
  penalise(c, sampler);
  c.largest = *std::ranges::max_element(c.values);
  if (!(c.largest > kForbidden)) return static_cast<int32_t>(Choice::none_left);
  if (sampler.params().temperature < std::numeric_limits<float>::min()) return most_likely(c);
  keep_top_k(c, sampler);
  weigh(c, sampler);
  keep_top_p(c, sampler);
  keep_min_p(c, sampler);
  return draw(c, sampler);
}

}  // namespace pygpt
