#include "engine/look.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/machine.h"

namespace pygpt {
namespace {

std::vector<int64_t> look_shape(const Request& request, const ModelConfig& config) {
  const int64_t length = std::ssize(request.prompt);
  switch (request.look) {
    case Want::states: return {config.n_layer + 1, length, config.d_model};
    case Want::embedding: return {length, config.d_model};
    case Want::attention: return {config.n_head, length, length};
    default: return {};
  }
}

/// Of a length within the context, by the ranges of docs/format.md: no overflow.
int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t count = shape.empty() ? 0 : 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

}  // namespace

void check_looks(std::span<const Request> requests, const ModelConfig& config) {
  const int64_t available = available_memory();
  int64_t bytes = 0;
  for (const Request& request : requests) {
    if (request.look == Want::nothing) continue;
    check(!is_answered(request.look), "a look is at states, embedding or attention");
    check(request.max_tokens == 0 && !request.logits && request.prompt_logprobs < 0,
          "a request that looks generates nothing and wants nothing else");
    check(request.look != Want::attention || (request.layer >= 0 && request.layer < config.n_layer),
          "layer must be from 0 to ", config.n_layer - 1, ", got ", request.layer);
    const auto needed = checked_multiply(element_count(look_shape(request, config)), int64_t{sizeof(float)});
    bytes = needed && bytes < available ? bytes + *needed : INT64_MAX;
    if (bytes > available / 10 * 9) {
      throw OutOfMemory(join("what is to be shown of ", request.prompt.size(), " tokens needs ", bytes >> 20, " MiB, ",
                             available >> 20, " MiB are available: give a shorter prompt"));
    }
  }
}

Shown room_for_look(const Request& request, const ModelConfig& config) {
  auto shape = look_shape(request, config);
  const auto count = static_cast<size_t>(element_count(shape));
  return {std::vector<float>(count), std::move(shape)};
}

}  // namespace pygpt
