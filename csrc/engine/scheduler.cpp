#include "engine/scheduler.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace pygpt {

namespace {

constexpr const char* kNoMemory =
    "the system is out of memory: run fewer requests at once, or pass a smaller max_context";

/// Publishes a sequence's news; where there is no memory for them, that is its end.
void tell(Sequence& sequence) noexcept {
  try {
    sequence.publish();
  } catch (const std::bad_alloc&) {
    sequence.finish(Finish::error, Fault::memory, kNoMemory);
    sequence.publish();
  }
}

}  // namespace

Scheduler::Scheduler(Backend& backend, const Limits& limits)
    : backend_(backend),
      limits_(limits),
      pool_(backend.info().page_capacity),
      reuse_(backend, pool_, limits.most_kept) {
  // All that a step needs, so that it asks for no memory that could be refused.
  const auto most = static_cast<size_t>(limits.max_running);
  running_.reserve(most);
  views_.reserve(most);
  for (auto* places : {&readers_, &reading_, &following_}) places->reserve(most);
  rows_.reserve(static_cast<size_t>(limits.chunk) + most);
}

void Scheduler::add(std::vector<std::unique_ptr<Sequence>>& sequences) {
  waiting_.insert(waiting_.end(), std::make_move_iterator(sequences.begin()), std::make_move_iterator(sequences.end()));
  sequences.clear();
}

bool Scheduler::next(Batch& batch) {
  drop_unwanted();
  start_waiting();
  collect_rows();
  batch = {rows_, views_};
  return !rows_.empty();
}

void Scheduler::drop_unwanted() {
  const auto now = Sequence::Clock::now();
  for (auto& sequence : running_) sequence->stop_if_unwanted(now);
  retire();
  for (auto& sequence : waiting_) {
    sequence->stop_if_unwanted(now);
    tell(*sequence);  // only an end is news of one that waits
  }
  std::erase_if(waiting_, [](const auto& sequence) { return sequence->finished(); });
}

void Scheduler::start_waiting() {
  while (!waiting_.empty() && std::ssize(running_) < limits_.max_running && reuse_.start(*waiting_.front(), running_)) {
    waiting_.front()->started();
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

/// Has all memory that the sequence's next rows need: pages, which are zeroed when they are first reached, and room for
/// answers. One whose memory cannot be had ends with that error, and nobody else.
bool Scheduler::have_memory(Sequence& sequence, int64_t rows) noexcept {
  try {
    for (; sequence.cleared_pages < pages_for(sequence.positions_after(rows + steps_ - 1)); ++sequence.cleared_pages) {
      backend_.clear_page(sequence.cache.pages()[static_cast<size_t>(sequence.cleared_pages)]);
    }
    const int64_t answers = answers_ + sequence.answers_in(rows);
    backend_.reserve_answers(answers);
    answers_ = answers;
    return true;
  } catch (const OutOfMemory& error) {
    sequence.finish(Finish::error, Fault::memory, error.what());
  } catch (const std::bad_alloc&) {
    sequence.finish(Finish::error, Fault::memory, kNoMemory);
  }
  return false;
}

/// One row for each sequence that is past its prompt, then chunks of those that read.
void Scheduler::collect_rows() {
  rows_.clear();
  views_.clear();
  reading_.clear();
  following_.clear();
  answers_ = 0;
  steps_ = steps_possible();
  for (const auto& sequence : running_) views_.push_back(sequence->view(sequence->cache));
  for (int32_t place = 0; place < std::ssize(running_); ++place) {
    if (running_[static_cast<size_t>(place)]->rows_waiting() == 1) append_rows(place, 1);
  }
  sort_readers();
  int64_t left = limits_.chunk;
  for (const int32_t place : readers_) {
    if (should_follow(*running_[static_cast<size_t>(place)], left)) {
      following_.push_back(place);
    } else if (const int64_t rows = append_rows(place, left)) {
      reading_.push_back(place);
      left -= rows;
    }
  }
}

/// More than one where all that run only wait for their next token.
int64_t Scheduler::steps_possible() const {
  int64_t steps = backend_.info().max_steps;
  for (const auto& sequence : running_) steps = std::min(steps, sequence->steps_possible());
  return std::max<int64_t>(steps, 1);
}

/// Whether another reads in this batch what this one would.
bool Scheduler::should_follow(const Sequence& sequence, int64_t rows) const {
  return std::ranges::any_of(reading_, [&](int32_t place) {
    return reuse_.should_follow(sequence, *running_[static_cast<size_t>(place)], rows);
  });
}

/// Prompts in order of arrival; those that read their window anew, taking turns, behind them or every other time
/// before.
void Scheduler::sort_readers() {
  readers_.clear();
  for (int32_t place = 0; place < std::ssize(running_); ++place) {
    if (running_[static_cast<size_t>(place)]->rows_waiting() > 1) readers_.push_back(place);
  }
  // Not std::ranges: of its subranges clang 14 and 15 make nothing with this library.
  const auto anew = std::stable_partition(readers_.begin(), readers_.end(), [&](int32_t place) {
    return !running_[static_cast<size_t>(place)]->reads_anew();
  });
  const auto end = readers_.end();
  if (anew == end) return;
  ++turn_;
  std::rotate(anew, anew + static_cast<ptrdiff_t>(turn_ / 2 % static_cast<uint64_t>(end - anew)), end);
  if (turn_ % 2 == 0) std::rotate(readers_.begin(), anew, end);
}

/// Appends up to `count` of the next rows of the sequence at `place`; how many it were.
int64_t Scheduler::append_rows(int32_t place, int64_t count) {
  Sequence& sequence = *running_[static_cast<size_t>(place)];
  count = std::min(count, sequence.rows_waiting());
  if (count == 0 || !have_memory(sequence, count)) return 0;
  sequence.append_rows(count, place, rows_);
  return count;
}

void Scheduler::accept(const Results& results, int32_t vocab_size) {
  size_t answer = 0;
  for (const Row& row : rows_) {
    if (!is_answered(row.want)) continue;
    const float* logits = results.logits + static_cast<int64_t>(answer) * results.stride;
    Sequence& sequence = *running_[static_cast<size_t>(row.sequence)];
    try {
      sequence.take(row, results.tokens[answer], {logits, static_cast<size_t>(vocab_size)});
    } catch (const std::bad_alloc&) {
      sequence.finish(Finish::error, Fault::memory, kNoMemory);
    }
    ++answer;
  }
  accept_steps(results, answer);
  for (auto& sequence : running_) reuse_.keep(*sequence);
  for (const int32_t place : following_) reuse_.catch_up(*running_[static_cast<size_t>(place)], running_);
  for (auto& sequence : running_) {
    if (sequence->rows_waiting() == 0) sequence->finish(Finish::length);  // it has read its prompt and wants no token
  }
  retire();
}

/// The tokens of the steps behind the first, each of `answers` entries: of every row one.
void Scheduler::accept_steps(const Results& results, size_t answers) {
  for (size_t step = 1; step < static_cast<size_t>(results.steps); ++step) {
    for (size_t i = 0; i < answers; ++i) {
      Sequence& sequence = *running_[static_cast<size_t>(rows_[i].sequence)];
      try {
        sequence.take_next(results.tokens[step * answers + i]);
      } catch (const std::bad_alloc&) {
        sequence.finish(Finish::error, Fault::memory, kNoMemory);
      }
    }
  }
}

void Scheduler::retire() noexcept {
  for (auto& sequence : running_) {
    tell(*sequence);
    if (sequence->finished()) reuse_.finish(*sequence);
  }
  std::erase_if(running_, [](const auto& sequence) { return sequence->finished(); });
}

void Scheduler::finish_all(Finish finish, Fault fault, std::string_view message) noexcept {
  const auto end = [&](auto& sequences) {
    for (auto& sequence : sequences) {
      sequence->finish(finish, fault, message);
      sequence->publish();
      reuse_.abandon(*sequence);
    }
    sequences.clear();
  };
  end(running_);
  end(waiting_);
}

}  // namespace pygpt
