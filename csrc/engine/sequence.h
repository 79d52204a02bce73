#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "backend/batch.h"
#include "engine/place.h"
#include "engine/request.h"
#include "engine/ticket.h"
#include "model/kv_cache.h"

namespace pygpt {

/// What a sequence needs to know of its model.
struct SequenceLimits {
  int64_t context_length;
  int32_t vocab_size;
};

/// One request on its way: what it has read, what it has chosen, what it still wants.
class Sequence {
 public:
  using Clock = std::chrono::steady_clock;

  Sequence(Request request, std::shared_ptr<Ticket> ticket, int64_t index, const SequenceLimits& limits,
           Place place = {});

  /// Positions that it will need in the cache, at most.
  int64_t positions_needed() const;

  /// Rows that it has yet to run before it can choose its next token.
  int64_t rows_waiting() const { return std::ssize(window_) - computed_; }

  /// Whether it has generated already and reads what is left of its window from the start.
  bool reads_anew() const { return sampler_.count() > 0 && rows_waiting() > 1; }

  /// Positions that the cache holds once the next `count` rows have run.
  int64_t positions_after(int64_t count) const { return computed_ + count; }

  /// Appends its next rows, at most `count`, as rows of the batch's sequence `place`.
  void append_rows(int64_t count, int32_t place, std::vector<Row>& rows);

  /// Where its rows put what they are to show: memory in the shape of the request's look.
  void show_in(Shown&& shown) noexcept { shown_ = std::move(shown); }

  SequenceView view(const KvCache& cache) { return {cache.pages(), &sampler_, look(), reads_logits()}; }

  /// How many tokens it may get one after the other before anything else is to be done for it.
  int64_t steps_possible() const;

  /// Takes the answer for one row that wanted something.
  void take(const Row& row, int32_t token, std::span<const float> logits);

  /// Takes the token behind the last one, which the backend has read by itself. Does nothing at its end.
  void take_next(int32_t token);

  /// Ends it, unless it has ended. A fault or cancellation takes the place of an end that its ticket has not heard of.
  void finish(Finish finish, Fault fault = Fault::none, std::string_view message = "") noexcept;

  bool finished() const { return event_.finish.has_value(); }

  /// Ends it where its caller has cancelled it or its time is over.
  void stop_if_unwanted(Clock::time_point now) noexcept;
  void started() { started_ = Clock::now(); }

  /// Hands over the news of this step, if there are any. Throws std::bad_alloc unless it has ended by a fault or was
  /// cancelled, and has then kept them.
  void publish();

  /// The tokens of the context so far; the cache holds the first computed() of them.
  std::span<const int32_t> window() const { return window_; }
  int64_t computed() const { return computed_; }

  /// Whether it reads its prompt and wants nothing of the rows before the last.
  bool may_skip() const {
    return sampler_.count() == 0 && !request_.logits && request_.prompt_logprobs < 0 && request_.look == Want::nothing;
  }

  /// Whether a token never moves to another position: it ends before it outgrows the context.
  bool stays_in_place() const;

  /// Its cache holds the first `positions` now, without its doing.
  void skip_to(int64_t positions);

  /// Of its next `count` rows, those that want a token or logits.
  int64_t answers_in(int64_t count) const;

  KvCache cache;
  int64_t cleared_pages = 0;  // of the cache, from the first on
  int64_t kept_pages = 0;     // the same: those that others may find

 private:
  Want want_at(int64_t position) const;
  void take_prompt_row(const Row& row, std::span<const float> logits);
  void take_token(int32_t token, std::span<const float> logits);
  void make_room();
  bool full() const;
  bool reads_logits() const { return request_.logprobs >= 0 || (request_.logits && sampler_.count() == 0); }
  void crop_prompt();
  void stamp();
  Look look();

  Request request_;
  std::shared_ptr<Ticket> ticket_;
  int64_t index_;
  SequenceLimits limits_;
  Place place_;
  std::vector<int32_t> window_;  // the tokens of the context: prompt and output, less what was dropped
  int64_t prompt_length_ = 0;    // of the prompt that is read, in tokens
  int64_t computed_ = 0;         // positions of window_ in the cache
  int64_t cached_ = 0;           // of the prompt, those that others had computed
  bool generates_ = false;       // whether it wants tokens at all
  Sampler sampler_;
  Shown shown_;
  Event event_;  // since the last publish
  bool news_ = false;
  int64_t dropped_ = 0;
  Clock::time_point submitted_;
  Clock::time_point started_;
  Clock::time_point prefilled_;
};

}  // namespace pygpt
