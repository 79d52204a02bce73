#pragma once
// What a backend is asked to do in one step, and what it answers. There is no prefill and no decode: a chunk of a
// prompt is many rows of one sequence, a step of a running one is a single row.

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/chain.h"

namespace pygpt {

/// What a row gives back. A token and logits are its entry of Results, and logits come with a token, too. The others
/// are what it computes on its way; they go to the Look of its sequence.
enum class Want : uint8_t { nothing, token, logits, states, embedding, attention };

/// Whether a row has an entry of Results.
constexpr bool is_answered(Want want) { return want == Want::token || want == Want::logits; }

struct Row {
  int32_t token;
  int32_t previous;  // the token before it, -1 at position 0: some architectures look back
  int32_t sequence;  // index into Batch::sequences
  int32_t position;
  Want want;
};

/// Where the rows of a sequence put what they compute on their way, each at its own position. Zeroed before.
struct Look {
  float* to = nullptr;  // states: [n_layer + 1, length, d_model] the residual stream behind the embedding and each
                        // layer; embedding: [length, d_model] that of the last layer, normed; attention: [n_head,
                        // length, length] the weights that a position (row) gives to those up to itself (column)
  int64_t length = 0;
  int32_t layer = 0;  // of attention
};

/// One sequence as a backend sees it.
struct SequenceView {
  std::span<const int32_t> pages;
  const Sampler* sampler;    // its rules; null where no row of it wants a token
  Look look = {};            // where one row of it wants to be looked into, all do, and in the same way
  bool reads_logits = true;  // beside the token, where a row wants one
};

struct Batch {
  std::span<const Row> rows;  // rows of one sequence in ascending position
  std::span<const SequenceView> sequences;
};

/// How far a backend may go by itself.
struct Plan {
  int max_steps = 1;  // tokens a sequence that the backend may choose before it answers
};

/// One entry for each row that wants a token or logits, in the order of rows. Valid until the next run.
struct Results {
  std::vector<int32_t> tokens;    // [steps, entries] the chosen token or a Choice; -1 where only logits were wanted
  int64_t steps = 1;              // that the backend has taken, each with the token that the one before it chose
  const float* logits = nullptr;  // [entries, stride], the first vocab_size of each row count
  int64_t stride = 0;
};

}  // namespace pygpt
