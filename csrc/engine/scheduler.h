#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "engine/sequence.h"

namespace pygpt {

/// Who runs: first come, first served. A sequence starts when the pages of all that it may ever need are free, so
/// nothing is ever preempted. Long prompts run in chunks beside the steps of the others.
class Scheduler {
 public:
  struct Limits {
    int64_t chunk;        // rows of prompts in one step
    int64_t max_running;  // sequences at once
  };

  Scheduler(Backend& backend, const Limits& limits);

  /// Takes the sequence. Throws std::bad_alloc, and then has not taken it.
  void add(std::unique_ptr<Sequence>&& sequence) { waiting_.push_back(std::move(sequence)); }

  bool idle() const { return waiting_.empty() && running_.empty(); }

  /// Lets go of cancelled sequences, starts those that fit, and makes the next batch. False if nothing is to be run.
  bool next(Batch& batch);

  /// Hands the answers of the batch to their sequences, and frees what the finished ones held.
  void accept(const Results& results, int32_t vocab_size);

  /// Ends every sequence for one reason. Where it throws std::bad_alloc, it can be called again.
  void fail_all(Fault fault, const std::string& message) { finish_all(Finish::error, fault, message); }
  void cancel_all() { finish_all(Finish::cancelled, Fault::none, ""); }

 private:
  void finish_all(Finish finish, Fault fault, const std::string& message);
  void drop_cancelled();
  void start_waiting();
  bool start(Sequence& sequence);
  bool clear_pages(Sequence& sequence, int64_t positions);
  void collect_rows();
  void sort_readers();
  int64_t append_rows(int32_t place, int64_t count);
  void retire();

  Backend& backend_;
  Limits limits_;
  PagePool pool_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::vector<Row> rows_;
  std::vector<SequenceView> views_;
  std::vector<int32_t> readers_;  // places in running_ of who has more than one row to run, whose turn it is first
  uint64_t turn_ = 0;
};

}  // namespace pygpt
