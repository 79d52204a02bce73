#pragma once
// Logits to a token: a chain of rules, each a function over the candidates. To add a rule: one function in chain.cpp,
// one entry in the chain, one field in SamplingParams.

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/params.h"

namespace pygpt {

/// What the rules of one sequence need to remember between its tokens.
class Sampler {
 public:
  /// `prompt` counts for the repetition penalty. Ids must lie in [0, vocab_size).
  Sampler(SamplingParams params, int32_t vocab_size, std::span<const int32_t> prompt);

  const SamplingParams& params() const noexcept { return params_; }

  /// Tokens chosen so far.
  int64_t count() const noexcept { return count_; }

  /// Records that `token` was chosen.
  void accept(int32_t token) noexcept;

  /// How often the output holds `token`; and whether prompt or output do.
  uint32_t times(int32_t token) const noexcept { return times_.empty() ? 0 : times_[static_cast<size_t>(token)]; }
  bool seen(int32_t token) const noexcept { return !seen_.empty() && seen_[static_cast<size_t>(token)]; }

 private:
  SamplingParams params_;
  int64_t count_ = 0;
  std::vector<uint32_t> times_;  // empty where no rule asks
  std::vector<bool> seen_;
};

/// Memory that choosing needs, one for each thread that chooses.
struct SamplingScratch {
  static constexpr int64_t kBytesPerToken = 3 * sizeof(float) + sizeof(int32_t);

  explicit SamplingScratch(int32_t vocab_size);
  std::vector<float> values;   // logits after the rules so far; minus infinity: not to be chosen
  std::vector<float> weights;  // exp((value - largest) / temperature)
  std::vector<float> order;
  std::vector<int32_t> ids;
};

enum class Choice : int32_t {
  not_finite = -1,  // a logit is NaN or plus infinity: the model is broken
  none_left = -2,   // the request's rules forbid every token
};

/// The token that the rules choose from logits[vocab_size], or a Choice. Ties go to the lowest id.
/// A pure function of its arguments. Never allocates.
int32_t choose(std::span<const float> logits, const Sampler& sampler, SamplingScratch& scratch) noexcept;

}  // namespace pygpt
