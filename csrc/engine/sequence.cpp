#include "engine/sequence.h"

#include <algorithm>
#include <new>

namespace pygpt {

Sequence::Sequence(Request request, std::shared_ptr<Ticket> ticket, int64_t index, const SequenceLimits& limits,
                   Place place)
    : request_(std::move(request)),
      ticket_(std::move(ticket)),
      index_(index),
      limits_(limits),
      place_(std::move(place)),
      window_(request_.prompt),
      sampler_(request_.sampling, limits.vocab_size, request_.prompt),
      submitted_(Clock::now()) {
  event_.index = index_;
  crop_prompt();
  prompt_length_ = std::ssize(window_);
  generates_ = request_.max_tokens != 0 && !full();
}

/// A prompt longer than the context keeps its end; under "shift" its first n_keep tokens as well.
void Sequence::crop_prompt() {
  dropped_ = std::max<int64_t>(0, std::ssize(window_) - limits_.context_length);
  const int64_t keep = request_.overflow == Overflow::shift ? std::min(request_.n_keep, limits_.context_length - 1) : 0;
  window_.erase(window_.begin() + keep, window_.begin() + keep + dropped_);
}

int64_t Sequence::positions_needed() const {
  const bool open = request_.max_tokens < 0 || request_.max_tokens > limits_.context_length;
  return open ? limits_.context_length : std::min(limits_.context_length, prompt_length_ + request_.max_tokens);
}

bool Sequence::stays_in_place() const {
  return request_.overflow == Overflow::stop || request_.max_tokens < 0 ||
         request_.max_tokens <= limits_.context_length - prompt_length_;
}

void Sequence::skip_to(int64_t positions) {
  cached_ += positions - computed_;
  computed_ = positions;
}

int64_t Sequence::answers_in(int64_t count) const {
  int64_t answers = 0;
  for (int64_t i = 0; i < count; ++i) answers += is_answered(want_at(computed_ + i));
  return answers;
}

void Sequence::append_rows(int64_t count, int32_t place, std::vector<Row>& rows) {
  const int64_t end = computed_ + std::min(count, rows_waiting());
  for (; computed_ < end; ++computed_) {
    rows.push_back({
        .token = window_[static_cast<size_t>(computed_)],
        .previous = computed_ > 0 ? window_[static_cast<size_t>(computed_ - 1)] : -1,
        .sequence = place,
        .position = static_cast<int32_t>(computed_),
        .want = want_at(computed_),
    });
  }
}

Look Sequence::look() { return {shown_.values.data(), prompt_length_, request_.layer}; }

Want Sequence::want_at(int64_t position) const {
  if (request_.look != Want::nothing) return request_.look;
  const bool last = position + 1 == std::ssize(window_);
  if (last && generates_) return Want::token;
  const bool of_prompt = sampler_.count() == 0;
  const bool scored = request_.prompt_logprobs >= 0 && !last;
  return of_prompt && (request_.logits || scored) ? Want::logits : Want::nothing;
}

void Sequence::take(const Row& row, int32_t token, std::span<const float> logits) {
  if (finished()) return;
  if (sampler_.count() == 0) take_prompt_row(row, logits);
  if (row.want == Want::token) take_token(token, logits);
}

int64_t Sequence::steps_possible() const {
  if (rows_waiting() != 1 || !generates_ || reads_logits()) return 1;
  const int64_t room = limits_.context_length - std::ssize(window_) + 1;  // the last token needs no position
  return request_.max_tokens < 0 ? room : std::min(room, request_.max_tokens - sampler_.count());
}

void Sequence::take_next(int32_t token) {
  if (finished()) return;
  ++computed_;
  take_token(token, {});
}

void Sequence::take_prompt_row(const Row& row, std::span<const float> logits) {
  if (request_.logits) {
    event_.logits.insert(event_.logits.end(), logits.begin(), logits.end());
    event_.logits_width = std::ssize(logits);
    news_ = true;
  }
  const auto next = static_cast<size_t>(row.position) + 1;
  if (request_.prompt_logprobs >= 0 && next < window_.size()) {
    event_.prompt_logprobs.push_back(token_logprobs(logits, window_[next], request_.prompt_logprobs));
    news_ = true;
  }
}

void Sequence::take_token(int32_t token, std::span<const float> logits) {
  if (sampler_.count() == 0) prefilled_ = Clock::now();
  if (token == static_cast<int32_t>(Choice::not_finite)) {
    return finish(
        Finish::error, Fault::numerical,
        "the model's logits are not finite: its weights are damaged, or a float format is too narrow for them");
  }
  if (token == static_cast<int32_t>(Choice::none_left)) {
    return finish(Finish::error, Fault::constraint,
                  "the request's rules forbid every token: allowed_token_ids, logit_bias and min_tokens leave none");
  }
  sampler_.accept(token);
  news_ = true;
  const auto& stops = request_.sampling.stop_token_ids;
  if (std::ranges::find(stops, token) != stops.end()) {
    event_.stop_token = token;
    return finish(Finish::stop);
  }
  event_.token_ids.push_back(token);
  if (request_.logprobs >= 0) event_.logprobs.push_back(token_logprobs(logits, token, request_.logprobs));
  window_.push_back(token);
  if (sampler_.count() == request_.max_tokens || full()) return finish(Finish::length);
  make_room();
}

/// Whether the context's end is the request's end: always under "stop", and under every policy without max_tokens.
bool Sequence::full() const {
  const bool ends_there = request_.max_tokens < 0 || request_.overflow == Overflow::stop;
  return ends_there && prompt_length_ + sampler_.count() >= limits_.context_length;
}

/// Drops tokens if the newest one has no position left. What stays moves to other positions, so all of it is read anew.
void Sequence::make_room() {
  const int64_t context = limits_.context_length;
  const int64_t excess = std::ssize(window_) - context;
  if (excess <= 0) return;
  const int64_t keep = request_.overflow == Overflow::shift ? std::min(request_.n_keep, context - 1) : 0;
  const int64_t drop = request_.overflow == Overflow::shift ? std::max<int64_t>(excess, (context - keep) / 2) : excess;
  window_.erase(window_.begin() + keep, window_.begin() + keep + drop);
  computed_ = 0;
}

void Sequence::finish(Finish finish, Fault fault, std::string_view message) noexcept {
  const bool from_outside = finish == Finish::error || finish == Finish::cancelled;
  if (finished() && !(from_outside && news_)) return;
  try {
    event_.message = message;
  } catch (const std::bad_alloc&) {
    event_.message = "out of memory";  // short enough to need none
  }
  if (finish == Finish::length) event_.shown = std::move(shown_);
  event_.finish = finish;
  event_.fault = fault;
  news_ = true;
}

void Sequence::stop_if_unwanted(Clock::time_point now) noexcept {
  if (ticket_->cancelled(index_)) return finish(Finish::cancelled);
  if (ticket_->late(now)) finish(Finish::error, Fault::deadline, "the request's time ran out");
}

void Sequence::stamp() {
  using Seconds = std::chrono::duration<double>;
  const auto now = Clock::now();
  const bool ran = started_ != Clock::time_point{};
  const bool chose = prefilled_ != Clock::time_point{};
  event_.prompt_tokens_dropped = dropped_;
  event_.cached_tokens = cached_;
  event_.queue_s = Seconds((ran ? started_ : now) - submitted_).count();
  event_.prefill_s = ran ? Seconds((chose ? prefilled_ : now) - started_).count() : 0;
  event_.decode_s = chose ? Seconds(now - prefilled_).count() : 0;
}

void Sequence::publish() {
  if (!news_) return;
  const auto ended = event_.finish;
  stamp();
  if (ended) place_ = {};  // before its caller hears of it, who may ask for more at once
  ticket_->publish(std::move(event_));
  event_ = {};
  event_.index = index_;
  event_.finish = ended;  // stays finished
  news_ = false;
}

}  // namespace pygpt
