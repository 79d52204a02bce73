#pragma once
// A backend whose next token is a hash of all that its sequence has read, found through the pages as attention finds
// it. So a token is right only if every position held the right token when it was chosen.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace pygpt::test {

/// The token that follows `window`.
int32_t next_token(std::span<const int32_t> window, int32_t vocab_size);

class FakeBackend final : public Backend {
 public:
  struct Options {
    int64_t pages = 64;
    int32_t vocab_size = 50;
    int32_t max_rows = 1000;
    int32_t max_steps = 1;
  };

  explicit FakeBackend(const Options& options);

  const Info& info() const noexcept override { return info_; }

  /// Throws OutOfMemory for a page that may not be touched.
  void clear_page(int32_t page) override;

  void copy_page(int32_t from, int32_t to) override;
  void save_page(int32_t page, std::byte* to) const override;
  void load_page(int32_t page, const std::byte* from) override;
  void reserve_answers(int64_t count) override;

  /// Checks the batch as a backend may rely on it, then answers.
  void run(const Batch& batch, const Plan& plan, Results& results) override;

  /// What a run had for each sequence: how many rows, the first one's position, whether a token was wanted.
  struct Share {
    int64_t rows = 0;
    int32_t first = 0;
    bool token = false;
  };

  std::vector<std::map<int32_t, Share>> runs;  // by the sequence's first page: running sequences share none
  std::function<int32_t(int32_t)> answer;      // instead of the token that would be chosen
  std::function<void()> before_run;
  int64_t rows_run = 0;
  int64_t answers_that_can_be_had = 1 << 30;  // in one batch; more are OutOfMemory
  int32_t pages_that_can_be_had = 1 << 30;    // a page with this number or above is OutOfMemory

 private:
  void check_row(const Batch& batch, size_t index) const;
  void write(const Batch& batch, const Row& row);
  void take_steps(const Batch& batch, int steps, Results& results);
  std::vector<int32_t> window(const Batch& batch, const Row& row) const;

  Options options_;
  Info info_;
  std::vector<std::vector<int32_t>> slots_;  // by page: the token at each of its positions
  std::vector<float> logits_;
};

}  // namespace pygpt::test
