#include "engine/ticket.h"

#include <algorithm>
#include <iterator>
#include <new>

namespace pygpt {
namespace {

constexpr auto kWakeInterval = std::chrono::milliseconds(2);
constexpr double kLongestWait = 86400 * 365;  // seconds: no clock overflows

/// NaN does not wait.
Ticket::Clock::duration duration_of(double seconds) {
  const double bounded = seconds > 0 ? std::min(seconds, kLongestWait) : 0;
  return std::chrono::duration_cast<Ticket::Clock::duration>(std::chrono::duration<double>(bounded));
}

template <class T>
void make_room(std::vector<T>& to, const std::vector<T>& from) {
  const size_t needed = to.size() + from.size();
  if (needed > to.capacity()) to.reserve(std::max(needed, 2 * to.capacity()));
}

template <class T>
void move_behind(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

/// Room in `pending` for what is new in `event`.
void make_room(Event& pending, const Event& event) {
  make_room(pending.token_ids, event.token_ids);
  make_room(pending.logprobs, event.logprobs);
  make_room(pending.prompt_logprobs, event.prompt_logprobs);
  make_room(pending.logits, event.logits);
}

bool must_be_told(const Event& event) { return event.finish == Finish::error || event.finish == Finish::cancelled; }

void drop_news(Event& event) {
  event.token_ids.clear();
  event.logprobs.clear();
  event.prompt_logprobs.clear();
  event.logits.clear();
}

/// Adds `event` to what has not been seen yet of the same request. Where memory runs out, both stay as they were.
void merge(Event& pending, Event& event) {
  try {
    make_room(pending, event);
  } catch (const std::bad_alloc&) {
    if (!must_be_told(event)) throw;
    drop_news(event);
  }
  move_behind(pending.token_ids, event.token_ids);
  move_behind(pending.logprobs, event.logprobs);
  move_behind(pending.prompt_logprobs, event.prompt_logprobs);
  move_behind(pending.logits, event.logits);
  event.token_ids = std::move(pending.token_ids);
  event.logprobs = std::move(pending.logprobs);
  event.prompt_logprobs = std::move(pending.prompt_logprobs);
  event.logits = std::move(pending.logits);
  event.logits_width = std::max(event.logits_width, pending.logits_width);
  pending = std::move(event);  // the newest word on everything else
}

}  // namespace

Ticket::Ticket(size_t requests, Waiting waiting)
    : cancelled_(requests), waiting_(std::move(waiting)), pending_(requests), fresh_(requests), running_(requests) {
  for (size_t i = 0; i < requests; ++i) pending_[i].index = static_cast<int64_t>(i);
  if (waiting_.timeout_s) deadline_ = Clock::now() + duration_of(*waiting_.timeout_s);
  if (waiting_.bell) waiting_.bell->attach();
}

Ticket::~Ticket() {
  if (waiting_.bell) waiting_.bell->detach();
}

std::vector<Event> Ticket::poll(double timeout_s, bool until_done) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return until_done ? running_ == 0 : any_fresh_; };
  if (!news_.wait_for(lock, duration_of(timeout_s), ready)) return {};
  return take();
}

std::vector<Event> Ticket::take() {
  std::vector<Event> events;
  events.reserve(static_cast<size_t>(std::ranges::count(fresh_, true)));  // below, nothing may fail half-way
  for (size_t i = 0; i < pending_.size(); ++i) {
    if (!fresh_[i]) continue;
    events.push_back(std::move(pending_[i]));
    pending_[i] = {};
    pending_[i].index = static_cast<int64_t>(i);
    fresh_[i] = false;
  }
  any_fresh_ = listed_ = false;
  return events;
}

void Ticket::cancel(int64_t index) {
  for (size_t i = 0; i < cancelled_.size(); ++i) {
    if (index < 0 || static_cast<size_t>(index) == i) cancelled_[i].store(true, std::memory_order_relaxed);
  }
}

bool Ticket::done() const {
  const std::lock_guard lock(mutex_);
  return running_ == 0;
}

void Ticket::publish(Event&& event) {
  const auto now = Clock::now();
  const bool ended = event.finish.has_value();
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    const auto i = static_cast<size_t>(event.index);
    merge(pending_[i], event);
    wake = ended || now >= next_wake_;
    if (wake) next_wake_ = now + kWakeInterval;
    fresh_[i] = true;
    any_fresh_ = true;
    if (ended) --running_;
    if (waiting_.bell) ring(ended);
  }
  if (wake && !waiting_.bell) news_.notify_all();
}

/// With the mutex held: what is listed stays so until it is taken.
void Ticket::ring(bool ended) noexcept {
  if (waiting_.until_done && running_ > 0) return;
  const bool urgent = ended || !heard_of_;  // people wait for the first word, and for the last
  if (listed_ && !urgent) return;
  waiting_.bell->list(waiting_.id, urgent, !listed_);
  listed_ = heard_of_ = true;
}

}  // namespace pygpt
