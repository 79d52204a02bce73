#pragma once

#include <deque>
#include <memory>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "engine/reuse.h"
#include "engine/sequence.h"

namespace pygpt {

/// Who runs: first come, first served. A sequence starts when the pages of all that it may ever need are free, so
/// nothing is ever preempted. Long prompts run in chunks beside the steps of the others.
class Scheduler {
 public:
  struct Limits {
    int64_t chunk;          // rows of prompts in one step
    int64_t max_running;    // sequences at once
    int64_t most_kept = 0;  // pages that are kept for later while nobody uses them; 0: nothing is shared
  };

  Scheduler(Backend& backend, const Limits& limits);

  /// Takes the sequences, to run them in this order. Throws std::bad_alloc, and then has taken none.
  void add(std::vector<std::unique_ptr<Sequence>>& sequences);

  bool idle() const { return waiting_.empty() && running_.empty(); }

  /// Lets go of sequences that are cancelled or late, starts those that fit, and makes the next batch. False if nothing
  /// is to be run.
  bool next(Batch& batch);

  /// How many steps the backend may take with the last batch by itself.
  int64_t steps() const { return steps_; }

  /// Hands the answers of the batch to their sequences, and frees what the finished ones held.
  void accept(const Results& results, int32_t vocab_size);

  Reuse& reuse() noexcept { return reuse_; }

  /// Ends every sequence by an error or a cancellation. Needs no memory; where there is none, the last tokens get lost.
  void finish_all(Finish finish, Fault fault, std::string_view message) noexcept;

 private:
  void drop_unwanted();
  void start_waiting();
  bool have_memory(Sequence& sequence, int64_t rows) noexcept;
  void collect_rows();
  int64_t steps_possible() const;
  bool should_follow(const Sequence& sequence, int64_t rows) const;
  void sort_readers();
  int64_t append_rows(int32_t place, int64_t count);
  void accept_steps(const Results& results, size_t answers);
  void retire() noexcept;

  Backend& backend_;
  Limits limits_;
  PagePool pool_;
  Reuse reuse_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::vector<Row> rows_;
  std::vector<SequenceView> views_;
  std::vector<int32_t> readers_;    // places in running_ of who has more than one row to run, whose turn it is first
  std::vector<int32_t> reading_;    // of readers_, those that have rows in this batch
  std::vector<int32_t> following_;  // and those that wait for one of these
  int64_t answers_ = 0;             // rows of this batch that want something
  int64_t steps_ = 1;
  uint64_t turn_ = 0;
};

}  // namespace pygpt
