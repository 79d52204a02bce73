#include "engine/reuse.h"

#include <algorithm>
#include <new>

#include "base/error.h"

namespace pygpt {
namespace {

int64_t common_beginning(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::ranges::mismatch(a, b).in1 - a.begin();
}

/// What it may be spared: all of its prompt but the last token, whose row chooses.
std::span<const int32_t> skippable(const Sequence& sequence) {
  return sequence.window().first(sequence.window().size() - 1);
}

std::span<const int32_t> read_by(const Sequence& sequence) {
  return sequence.window().first(static_cast<size_t>(sequence.computed()));
}

}  // namespace

Reuse::Reuse(Backend& backend, PagePool& pool, int64_t most_kept)
    : backend_(backend), pool_(pool), most_kept_(most_kept), tree_(pool) {}

bool Reuse::start(Sequence& sequence, Sequences running) {
  share_known(sequence);
  const int64_t missing = pages_for(sequence.positions_needed()) - std::ssize(sequence.cache.pages());
  if (!make_free(missing)) {
    abandon(sequence);
    return false;
  }
  sequence.cache.grow(missing, pool_);
  sequence.skip_to(sequence.kept_pages * kPageRows);
  catch_up(sequence, running);
  return true;
}

void Reuse::catch_up(Sequence& sequence, Sequences running) noexcept {
  if (most_kept_ == 0 || !sequence.may_skip()) return;
  try {
    std::vector<int32_t> known = tree_.find(skippable(sequence));
    take_known(sequence, known);
    copy_tail(sequence, std::move(known), running);
  } catch (const OutOfMemory&) {
    // No memory for a page to copy into: it reads by itself, and meets the same fault when it gets there.
  } catch (const std::bad_alloc&) {
    // It reads by itself.
  }
}

bool Reuse::should_follow(const Sequence& sequence, const Sequence& reader, int64_t rows) const {
  if (most_kept_ == 0 || !sequence.may_skip()) return false;
  const int64_t spared = common_beginning(skippable(sequence), read_by(reader)) - sequence.computed();
  return spared > 1 && 2 * spared >= std::min(rows, sequence.rows_waiting());  // else waiting costs more than it spares
}

void Reuse::keep(Sequence& sequence) noexcept {
  if (most_kept_ == 0 || !sequence.stays_in_place()) return;
  try {
    keep_whole_pages(sequence);
  } catch (const std::bad_alloc&) {
    // Then others do not find them.
  }
}

void Reuse::finish(Sequence& sequence) noexcept {
  if (most_kept_ > 0 && sequence.stays_in_place() && sequence.computed() > 0) {
    try {
      keep_whole_pages(sequence);
      const auto tail = read_by(sequence).subspan(static_cast<size_t>(sequence.kept_pages * kPageRows));
      const auto& pages = sequence.cache.pages();
      const auto last = static_cast<size_t>(sequence.kept_pages);
      if (!tail.empty()) tree_.keep(last > 0 ? pages[last - 1] : PrefixTree::kRoot, tail, pages[last]);
    } catch (const std::bad_alloc&) {
      // Then nobody finds them.
    }
  }
  sequence.cache.truncate(0, pool_);
  if (tree_.size() <= most_kept_) return;
  if (const int64_t excess = tree_.idle() - most_kept_; excess > 0) tree_.drop(excess);
}

std::vector<std::byte> Reuse::save(std::span<const int32_t> tokens) {
  std::vector<int32_t> pages = tree_.find(tokens);
  const auto rest = tokens.subspan(pages.size() * kPageRows);
  if (!rest.empty()) {
    const auto tail = tree_.find_tail(pages.empty() ? PrefixTree::kRoot : pages.back(), rest);
    check(tail.count == std::ssize(rest), "the prefix is not in the cache (any more)");
    pages.push_back(tail.page);
  }
  const auto size = static_cast<size_t>(backend_.info().page_bytes);
  std::vector<std::byte> bytes(pages.size() * size);
  for (size_t i = 0; i < pages.size(); ++i) backend_.save_page(pages[i], bytes.data() + i * size);
  return bytes;
}

void Reuse::load(std::span<const int32_t> tokens, std::span<const std::byte> bytes) {
  const int64_t pages = pages_for(std::ssize(tokens));
  check(std::ssize(bytes) == pages * backend_.info().page_bytes, "the pages have another size");
  check(pages <= most_kept_, "the prefix has ", pages, " pages, the prefix cache keeps ", most_kept_);
  for (int64_t i = 0; i < pages; ++i) {
    const auto end = std::min(tokens.size(), static_cast<size_t>((i + 1) * kPageRows));
    load_page(tokens.first(end), bytes.data() + i * backend_.info().page_bytes);
  }
}

/// The page of the last of `tokens`, behind those of all before.
void Reuse::load_page(std::span<const int32_t> tokens, const std::byte* bytes) {
  const size_t before = (tokens.size() - 1) / kPageRows;
  const auto known = tree_.find(tokens);
  if (known.size() > before) return;
  KvCache held;  // so that making room does not drop what the page stands behind
  held.share(known, pool_);
  try {
    check(known.size() == before && make_free(1), "no page of the cache is free: try again when fewer requests run");
    held.grow(1, pool_);
    const int32_t page = held.pages().back();
    backend_.load_page(page, bytes);
    tree_.keep(before > 0 ? known.back() : PrefixTree::kRoot, tokens.subspan(before * kPageRows), page);
  } catch (...) {
    held.truncate(0, pool_);
    throw;
  }
  held.truncate(0, pool_);
}

bool Reuse::make_free(int64_t pages) {
  const int64_t missing = pages - pool_.available();
  if (missing <= 0) return true;
  if (missing > tree_.idle()) return false;
  tree_.drop(missing);
  return true;
}

/// Known pages stand at the beginning of its cache, if it never writes there: they need not be had twice.
void Reuse::share_known(Sequence& sequence) {
  sequence.kept_pages = sequence.cleared_pages = 0;
  if (most_kept_ == 0 || !sequence.may_skip() || !sequence.stays_in_place()) return;
  const std::vector<int32_t> known = tree_.find(skippable(sequence));
  sequence.cache.share(known, pool_);
  sequence.kept_pages = sequence.cleared_pages = std::ssize(known);
}

/// Whole pages that are known by now, in the place of its own, or copied where it may write there some day.
void Reuse::take_known(Sequence& sequence, const std::vector<int32_t>& known) {
  const int64_t positions = std::ssize(known) * kPageRows;
  if (positions <= sequence.computed()) return;
  if (!sequence.stays_in_place()) return copy_pages(sequence, known, positions);
  for (int64_t i = sequence.kept_pages; i < std::ssize(known); ++i)
    sequence.cache.replace(i, known[static_cast<size_t>(i)], pool_);
  sequence.kept_pages = std::ssize(known);
  sequence.cleared_pages = std::max(sequence.cleared_pages, sequence.kept_pages);
  sequence.skip_to(positions);
}

/// The rest of what can be had: behind the pages `known`, or from the running sequence that has read most of it.
void Reuse::copy_tail(Sequence& sequence, std::vector<int32_t> known, Sequences running) {
  const auto wanted = skippable(sequence);
  const size_t whole = known.size() * kPageRows;
  const auto tail = tree_.find_tail(known.empty() ? PrefixTree::kRoot : known.back(), wanted.subspan(whole));
  int64_t most = static_cast<int64_t>(whole) + tail.count;
  known.push_back(tail.page);
  std::span<const int32_t> from = known;
  for (const auto& other : running) {
    if (other.get() == &sequence) continue;
    const int64_t common = common_beginning(wanted, read_by(*other));
    if (common <= most) continue;
    most = common;
    from = other->cache.pages();
  }
  if (most > sequence.computed() + 1) copy_pages(sequence, from, most);  // one row is not worth the copy
}

/// Copies what is missing of the first `positions`, which `from` holds.
void Reuse::copy_pages(Sequence& sequence, std::span<const int32_t> from, int64_t positions) {
  for (int64_t i = sequence.computed() / kPageRows; i < pages_for(positions); ++i) {
    const auto place = static_cast<size_t>(i);
    backend_.copy_page(from[place], sequence.cache.pages()[place]);
    sequence.cleared_pages = std::max(sequence.cleared_pages, i + 1);
    sequence.skip_to(std::min(positions, (i + 1) * kPageRows));
  }
}

void Reuse::keep_whole_pages(Sequence& sequence) {
  const auto& pages = sequence.cache.pages();
  for (; (sequence.kept_pages + 1) * kPageRows <= sequence.computed(); ++sequence.kept_pages) {
    const auto place = static_cast<size_t>(sequence.kept_pages);
    const auto tokens = sequence.window().subspan(place * kPageRows, kPageRows);
    const int32_t known = tree_.keep(place > 0 ? pages[place - 1] : PrefixTree::kRoot, tokens, pages[place]);
    if (known != pages[place]) sequence.cache.replace(sequence.kept_pages, known, pool_);
  }
}

}  // namespace pygpt
