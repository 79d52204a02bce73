#pragma once
// What a backend is asked to do in one step, and what it answers. There is no prefill and no decode: a chunk of a
// prompt is many rows of one sequence, a step of a running one is a single row.

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/chain.h"

namespace pygpt {

/// What a row gives back. Logits come with a token, too.
enum class Want : uint8_t { nothing, token, logits };

struct Row {
  int32_t token;
  int32_t previous;  // the token before it, -1 at position 0: some architectures look back
  int32_t sequence;  // index into Batch::sequences
  int32_t position;
  Want want;
};

/// One sequence as a backend sees it.
struct SequenceView {
  std::span<const int32_t> pages;
  const Sampler* sampler;  // its rules; null where no row of it wants a token
};

struct Batch {
  std::span<const Row> rows;  // rows of one sequence in ascending position
  std::span<const SequenceView> sequences;
};

/// How far a backend may go by itself.
struct Plan {
  int max_steps = 1;  // tokens a sequence that the backend may choose before it answers
};

/// One entry for each row that wants something, in the order of rows. Valid until the next run.
struct Results {
  std::vector<int32_t> tokens;    // the chosen token or a Choice; -1 where only logits were wanted
  const float* logits = nullptr;  // [entries, stride], the first vocab_size of each row count
  int64_t stride = 0;
};

}  // namespace pygpt
