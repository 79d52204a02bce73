#pragma once
// What a caller asks for, and the news that come back.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend/batch.h"
#include "sampling/logprobs.h"
#include "sampling/params.h"

namespace pygpt {

/// What happens when a sequence has filled the context and wants to go on.
enum class Overflow {
  stop,   // it ends
  slide,  // the last context_length tokens are read anew for each token: PyTorch's idx[:, -block_size:], bit for bit
  shift,  // the first n_keep tokens stay, half of the others go, the rest is read anew
};

struct Request {
  std::vector<int32_t> prompt;
  int64_t max_tokens = -1;  // -1: until a stop token or the context's end
  Overflow overflow = Overflow::stop;
  int64_t n_keep = 0;
  int32_t logprobs = -1;         // -1: none; 0: the chosen token's; k: the k most likely as well
  int32_t prompt_logprobs = -1;  // the same for the prompt's tokens
  bool logits = false;           // of every prompt position
  Want look = Want::nothing;     // states, embedding or attention of every prompt position; with max_tokens 0 only
  int32_t layer = 0;             // of attention
  SamplingParams sampling;
};

enum class Finish { stop, length, cancelled, error };

const char* finish_name(Finish finish);

/// Why a request ended in an error: decides the class of the exception.
enum class Fault { none, numerical, constraint, memory, deadline, other };

const char* fault_name(Fault fault);

/// What a request saw of the model's inside, row-major in the shape of its Look.
struct Shown {
  std::vector<float> values;
  std::vector<int64_t> shape;
};

/// News of one request since the last time.
struct Event {
  int64_t index = 0;
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprobs> logprobs;
  std::vector<TokenLogprobs> prompt_logprobs;
  std::vector<float> logits;  // [prompt, vocab_size]
  int64_t logits_width = 0;
  Shown shown;  // with the end
  std::optional<Finish> finish;
  std::optional<int32_t> stop_token;
  Fault fault = Fault::none;
  std::string message;
  int64_t prompt_tokens_dropped = 0;
  int64_t cached_tokens = 0;  // of the prompt, not computed for this request
  double queue_s = 0;
  double prefill_s = 0;
  double decode_s = 0;
};

}  // namespace pygpt
