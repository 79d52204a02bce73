// What happens at the context's end, against the code that everyone knows: idx[:, -T:].

#include <algorithm>

#include "check.h"
#include "engine/harness.h"

namespace pygpt::test {
namespace {

using Tokens = std::vector<int32_t>;

Tokens last(const Tokens& tokens, int64_t count) {
  return Tokens(tokens.end() - std::min<ptrdiff_t>(count, std::ssize(tokens)), tokens.end());
}

/// PyTorch's loop: crop to the last T tokens, choose, append.
Tokens naive_slide(Tokens tokens, int64_t count, int64_t context) {
  Tokens output;
  for (int64_t i = 0; i < count; ++i) {
    output.push_back(next_token(last(tokens, context), 50));
    tokens.push_back(output.back());
  }
  return output;
}

/// Keep n_keep tokens; of the rest drop half, or as many as are too many.
Tokens naive_shift(const Tokens& prompt, int64_t count, int64_t context, int64_t n_keep) {
  const Tokens kept(prompt.begin(), prompt.begin() + std::min<ptrdiff_t>(n_keep, std::ssize(prompt)));
  Tokens rest(prompt.begin() + std::ssize(kept), prompt.end());
  const int64_t room = context - std::ssize(kept);
  if (std::ssize(rest) > room) rest = last(rest, room);
  Tokens output;
  for (int64_t i = 0; i < count; ++i) {
    if (std::ssize(rest) > room) rest.erase(rest.begin(), rest.begin() + std::max<int64_t>(1, room / 2));
    Tokens window = kept;
    window.insert(window.end(), rest.begin(), rest.end());
    output.push_back(next_token(window, 50));
    rest.push_back(output.back());
  }
  return output;
}

constexpr int64_t kContexts[] = {1, 2, 7, 32, 33, 65};

void slide() {
  for (const int64_t context : kContexts) {
    for (const int64_t chunk : {1, 5, 100}) {
      Harness harness({.context = context, .chunk = chunk});
      for (const int64_t length : {int64_t{1}, context - 1, context, context + 1, 3 * context}) {
        if (length < 1) continue;
        const auto events =
            harness.run({{.prompt = prompt_of(length), .max_tokens = 2 * context + 3, .overflow = Overflow::slide}});
        expect_equal(events[0].token_ids, naive_slide(prompt_of(length), 2 * context + 3, context),
                     join(length, " tokens in a context of ", context));
        expect_equal(finish_of(events[0]), "length");
        expect_equal(events[0].prompt_tokens_dropped, std::max<int64_t>(0, length - context));
      }
    }
  }
}
const Test slide_test{"slide is cropping to the last tokens and running anew", slide};

void shift() {
  for (const int64_t context : kContexts) {
    for (const int64_t n_keep : {int64_t{0}, int64_t{1}, context / 2, context - 1}) {
      if (n_keep >= context) continue;
      Harness harness({.context = context, .chunk = 9});
      for (const int64_t length : {int64_t{1}, n_keep, context - 1, context, context + 1, 3 * context}) {
        if (length < std::max<int64_t>(n_keep, 1)) continue;
        const auto events = harness.run({{.prompt = prompt_of(length),
                                          .max_tokens = 3 * context + 2,
                                          .overflow = Overflow::shift,
                                          .n_keep = n_keep}});
        expect_equal(events[0].token_ids, naive_shift(prompt_of(length), 3 * context + 2, context, n_keep),
                     join(length, " tokens in a context of ", context, ", keeping ", n_keep));
        expect_equal(events[0].prompt_tokens_dropped, std::max<int64_t>(0, length - context));
      }
    }
  }
}
const Test shift_test{"shift keeps the first tokens and drops half of the others", shift};

void amortised() {
  Harness harness({.context = 64, .chunk = 64});
  harness.run({{.prompt = prompt_of(60), .max_tokens = 320, .overflow = Overflow::shift}});
  int64_t prefills = 0;
  for (const auto& run : harness.backend.runs) prefills += run.begin()->second.rows > 1;
  expect_equal(prefills, 1 + 10, "the prompt, then once for each half of a context");
}
const Test amortised_test{"shift reads anew once for each half context of tokens", amortised};

void beside_others() {
  Harness harness({.context = 20, .chunk = 8, .max_running = 4});
  const auto events = harness.run({
      {.prompt = prompt_of(50, 1), .max_tokens = 45, .overflow = Overflow::slide},
      {.prompt = prompt_of(3, 2), .max_tokens = 45, .overflow = Overflow::shift, .n_keep = 2},
      {.prompt = prompt_of(9, 3), .max_tokens = 45},
      {.prompt = prompt_of(1, 4), .max_tokens = 45, .overflow = Overflow::slide},
  });
  expect_equal(events[0].token_ids, naive_slide(prompt_of(50, 1), 45, 20));
  expect_equal(events[1].token_ids, naive_shift(prompt_of(3, 2), 45, 20, 2));
  expect_equal(events[2].token_ids, naive_slide(prompt_of(9, 3), 11, 20), "stop ends at the context's end");
  expect_equal(events[3].token_ids, naive_slide(prompt_of(1, 4), 45, 20));
}
const Test beside_others_test{"sequences that overflow do not disturb each other", beside_others};

}  // namespace
}  // namespace pygpt::test
