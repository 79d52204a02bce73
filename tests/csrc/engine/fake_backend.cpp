#include "engine/fake_backend.h"

#include <algorithm>
#include <map>

#include "check.h"
#include "kernels/cpu/table.h"

namespace pygpt::test {

int32_t next_token(std::span<const int32_t> window, int32_t vocab_size) {
  uint32_t hash = 2166136261u;
  for (const int32_t token : window) hash = (hash ^ static_cast<uint32_t>(token + 1)) * 16777619u;
  return static_cast<int32_t>((hash >> 8) % static_cast<uint32_t>(vocab_size));
}

FakeBackend::FakeBackend(const Options& options) : options_(options), slots_(static_cast<size_t>(options.pages)) {
  info_ = {
      .isa = "fake",
      .kv_dtype = "f32",
      .workers = 1,
      .weight_bytes = 0,
      .page_bytes = kPageRows,
      .page_capacity = options.pages,
      .max_rows = options.max_rows,
      .max_steps = options.max_steps,
  };
}

void FakeBackend::clear_page(int32_t page) {
  if (page >= pages_that_can_be_had) throw OutOfMemory("no memory for a page");
  slots_[static_cast<size_t>(page)].assign(kPageRows, -1);
}

void FakeBackend::copy_page(int32_t from, int32_t to) {
  if (to >= pages_that_can_be_had) throw OutOfMemory("no memory for a page");
  const auto& source = slots_[static_cast<size_t>(from)];
  expect_equal(std::ssize(source), kPageRows, "the page was cleared");
  slots_[static_cast<size_t>(to)] = source;
}

void FakeBackend::save_page(int32_t page, std::byte* to) const {
  const auto& slots = slots_[static_cast<size_t>(page)];
  std::transform(slots.begin(), slots.end(), to, [](int32_t token) { return static_cast<std::byte>(token); });
}

void FakeBackend::load_page(int32_t page, const std::byte* from) {
  if (page >= pages_that_can_be_had) throw OutOfMemory("no memory for a page");
  auto& slots = slots_[static_cast<size_t>(page)];
  slots.resize(kPageRows);
  std::transform(from, from + kPageRows, slots.begin(), [](std::byte token) { return static_cast<int32_t>(token); });
}

void FakeBackend::reserve_answers(int64_t count) {
  if (count > answers_that_can_be_had) throw OutOfMemory("no memory for answers");
}

void FakeBackend::check_row(const Batch& batch, size_t index) const {
  const Row& row = batch.rows[index];
  expect(row.sequence >= 0 && row.sequence < std::ssize(batch.sequences), "a row names a sequence of the batch");
  expect(row.token >= 0 && row.token < options_.vocab_size && row.position >= 0, "token and position");
  const auto& pages = batch.sequences[static_cast<size_t>(row.sequence)].pages;
  expect(row.position / kPageRows < std::ssize(pages), "the sequence has a page for the row");
  expect_equal(std::ssize(slots_[static_cast<size_t>(pages[static_cast<size_t>(row.position / kPageRows)])]), kPageRows,
               "the page was cleared");
  for (size_t before = 0; before < index; ++before) {
    const Row& other = batch.rows[before];
    if (other.sequence == row.sequence && before + 1 == index)
      expect_equal(other.position + 1, row.position, "ascending positions");
    if (other.sequence == row.sequence && before + 1 < index)
      expect(other.position < row.position, "ascending positions");
  }
  if (row.position > 0) {
    const int32_t page = pages[static_cast<size_t>((row.position - 1) / kPageRows)];
    expect_equal(slots_[static_cast<size_t>(page)][static_cast<size_t>((row.position - 1) % kPageRows)], row.previous,
                 "the token before");
  } else {
    expect_equal(row.previous, -1);
  }
}

void FakeBackend::write(const Batch& batch, const Row& row) {
  const auto& pages = batch.sequences[static_cast<size_t>(row.sequence)].pages;
  slots_[static_cast<size_t>(pages[static_cast<size_t>(row.position / kPageRows)])]
        [static_cast<size_t>(row.position % kPageRows)] = row.token;
}

std::vector<int32_t> FakeBackend::window(const Batch& batch, const Row& row) const {
  std::vector<int32_t> tokens;
  for (int32_t position = 0; position <= row.position; ++position) {
    const int32_t page =
        batch.sequences[static_cast<size_t>(row.sequence)].pages[static_cast<size_t>(position / kPageRows)];
    tokens.push_back(slots_[static_cast<size_t>(page)][static_cast<size_t>(position % kPageRows)]);
  }
  return tokens;
}

/// Goes on by itself, each sequence with the token that it has chosen.
void FakeBackend::take_steps(const Batch& batch, int steps, Results& results) {
  std::vector<Row> rows(batch.rows.begin(), batch.rows.end());
  for (int step = 0; step < steps; ++step) {
    const size_t before = results.tokens.size() - rows.size();
    for (size_t i = 0; i < rows.size(); ++i) {
      Row& row = rows[i];
      expect(row.want == Want::token, "what goes on wants tokens");
      row = {std::max(results.tokens[before + i], 0), row.token, row.sequence, row.position + 1, row.want};
      check_row({rows, batch.sequences}, i);
      write(batch, row);
      const int32_t token = next_token(window(batch, row), options_.vocab_size);
      results.tokens.push_back(answer ? answer(token) : token);
    }
  }
}

void FakeBackend::run(const Batch& batch, const Plan& plan, Results& results) {
  if (before_run) before_run();
  expect(!batch.rows.empty() && std::ssize(batch.rows) <= info_.max_rows && plan.max_steps >= 1,
         "a batch has rows, and not too many");
  std::map<int32_t, int> holders;
  for (const SequenceView& sequence : batch.sequences) {
    for (const int32_t page : sequence.pages) ++holders[page];
  }
  for (const Row& row : batch.rows) {
    const auto& pages = batch.sequences[static_cast<size_t>(row.sequence)].pages;
    expect_equal(holders[pages[static_cast<size_t>(row.position / kPageRows)]], 1,
                 "a page that is shared is not written");
  }
  rows_run += std::ssize(batch.rows);
  results.tokens.clear();
  logits_.clear();
  auto& shares = runs.emplace_back();
  for (size_t i = 0; i < batch.rows.size(); ++i) {
    const Row& row = batch.rows[i];
    check_row(batch, i);
    write(batch, row);
    Share& share = shares[batch.sequences[static_cast<size_t>(row.sequence)].pages[0]];
    if (share.rows++ == 0) share.first = row.position;
    share.token = share.token || row.want == Want::token;
    if (!is_answered(row.want)) continue;
    const int32_t token = next_token(window(batch, row), options_.vocab_size);
    // A stride wider than the vocabulary, and logits that tell which row they are of.
    for (int32_t id = 0; id < options_.vocab_size + 3; ++id)
      logits_.push_back(id == token ? 4.0f : static_cast<float>(row.position % 7) * 0.1f);
    results.tokens.push_back(row.want == Want::token ? (answer ? answer(token) : token) : -1);
  }
  results.steps = plan.max_steps;
  take_steps(batch, plan.max_steps - 1, results);
  results.stride = options_.vocab_size + 3;
  results.logits = logits_.empty() ? nullptr : logits_.data();
}

}  // namespace pygpt::test
