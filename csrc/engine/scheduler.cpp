#include "engine/scheduler.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace pygpt {

Scheduler::Scheduler(Backend& backend, const Limits& limits)
    : backend_(backend), limits_(limits), pool_(backend.info().page_capacity) {
  running_.reserve(static_cast<size_t>(limits.max_running));
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
    sequence->publish();  // only an end is news of one that waits
  }
  std::erase_if(waiting_, [](const auto& sequence) { return sequence->finished(); });
}

void Scheduler::start_waiting() {
  while (!waiting_.empty() && std::ssize(running_) < limits_.max_running && start(*waiting_.front())) {
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

/// Reserves its pages; false if they are not free yet.
bool Scheduler::start(Sequence& sequence) {
  const int64_t pages = pages_for(sequence.positions_needed());
  if (pool_.available() < pages) return false;
  sequence.cache.grow(pages, pool_);
  sequence.started();
  return true;
}

/// Zeroes the pages that its next rows reach for the first time. A sequence whose memory cannot be had ends with that
/// error.
bool Scheduler::clear_pages(Sequence& sequence, int64_t positions) {
  try {
    for (; sequence.cleared_pages < pages_for(positions); ++sequence.cleared_pages) {
      backend_.clear_page(sequence.cache.pages()[static_cast<size_t>(sequence.cleared_pages)]);
    }
    return true;
  } catch (const OutOfMemory& error) {
    sequence.finish(Finish::error, Fault::memory, error.what());
    return false;
  }
}

/// One row for each sequence that is past its prompt, then chunks of those that read.
void Scheduler::collect_rows() {
  rows_.clear();
  views_.clear();
  for (const auto& sequence : running_) views_.push_back(sequence->view(sequence->cache));
  for (int32_t place = 0; place < std::ssize(running_); ++place) {
    if (running_[static_cast<size_t>(place)]->rows_waiting() == 1) append_rows(place, 1);
  }
  sort_readers();
  int64_t left = limits_.chunk;
  for (const int32_t place : readers_) left -= append_rows(place, left);
}

/// Prompts in order of arrival; those that read their window anew, taking turns, behind them or every other time
/// before.
void Scheduler::sort_readers() {
  readers_.clear();
  for (int32_t place = 0; place < std::ssize(running_); ++place) {
    if (running_[static_cast<size_t>(place)]->rows_waiting() > 1) readers_.push_back(place);
  }
  const auto anew = std::ranges::stable_partition(
      readers_, [&](int32_t place) { return !running_[static_cast<size_t>(place)]->reads_anew(); });
  if (anew.empty()) return;
  ++turn_;
  std::ranges::rotate(anew, anew.begin() + static_cast<ptrdiff_t>(turn_ / 2 % anew.size()));
  if (turn_ % 2 == 0) std::ranges::rotate(readers_, anew.begin());
}

/// Appends up to `count` of the next rows of the sequence at `place`; how many it were.
int64_t Scheduler::append_rows(int32_t place, int64_t count) {
  Sequence& sequence = *running_[static_cast<size_t>(place)];
  count = std::min(count, sequence.rows_waiting());
  if (!clear_pages(sequence, sequence.positions_after(count))) return 0;
  sequence.append_rows(count, place, rows_);
  return count;
}

void Scheduler::accept(const Results& results, int32_t vocab_size) {
  size_t answer = 0;
  for (const Row& row : rows_) {
    if (row.want == Want::nothing) continue;
    const float* logits = results.logits + static_cast<int64_t>(answer) * results.stride;
    running_[static_cast<size_t>(row.sequence)]->take(row, results.tokens[answer],
                                                      {logits, static_cast<size_t>(vocab_size)});
    ++answer;
  }
  for (auto& sequence : running_) {
    if (sequence->rows_waiting() == 0) sequence->finish(Finish::length);  // it has read its prompt and wants no token
  }
  retire();
}

void Scheduler::retire() {
  for (auto& sequence : running_) {
    sequence->publish();
    if (sequence->finished()) sequence->cache.truncate(0, pool_);
  }
  std::erase_if(running_, [](const auto& sequence) { return sequence->finished(); });
}

void Scheduler::finish_all(Finish finish, Fault fault, std::string_view message) noexcept {
  const auto end = [&](auto& sequences) {
    for (auto& sequence : sequences) {
      sequence->finish(finish, fault, message);
      sequence->publish();
      sequence->cache.truncate(0, pool_);
    }
    sequences.clear();
  };
  end(running_);
  end(waiting_);
}

}  // namespace pygpt
