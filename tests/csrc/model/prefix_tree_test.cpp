#include "model/prefix_tree.h"

#include "check.h"

namespace pygpt::test {
namespace {

using Ids = std::vector<int32_t>;

Ids tokens(int64_t count, int32_t first = 0) {
  Ids made;
  for (int64_t i = 0; i < count; ++i) made.push_back(first + static_cast<int32_t>(i % 50));
  return made;
}

/// Keeps the whole pages of `text`, as a sequence does that has read it; the pages, held by it.
Ids read(PrefixTree& tree, PagePool& pool, const Ids& text) {
  Ids pages = tree.find(text);
  for (const int32_t page : pages) pool.share(page);
  for (size_t i = pages.size(); (i + 1) * kPageRows <= text.size(); ++i) {
    const int32_t page = pool.take();
    const auto own = std::span(text).subspan(i * kPageRows, kPageRows);
    expect_equal(tree.keep(i > 0 ? pages[i - 1] : PrefixTree::kRoot, own, page), page);
    pages.push_back(page);
  }
  return pages;
}

void let_go(PagePool& pool, const Ids& pages) {
  for (const int32_t page : pages) pool.give_back(page);
}

void finding() {
  PagePool pool(10);
  PrefixTree tree(pool);
  const Ids pages = read(tree, pool, tokens(70));
  expect_equal(pages.size(), 2u);
  expect_equal(tree.find(tokens(70)), pages);
  expect_equal(tree.find(tokens(64)), pages);
  expect_equal(tree.find(tokens(63)), Ids{pages[0]});
  expect_equal(tree.find(tokens(31)), Ids{});
  Ids other = tokens(64);
  other[40] = 7777;
  expect_equal(tree.find(other), Ids{pages[0]}, "another token in the second page");
  other[0] = 7777;
  expect_equal(tree.find(other), Ids{}, "in the first");
  expect_equal(tree.find(Ids(other.begin() + 32, other.end())), Ids{}, "a page stands behind what it was read behind");
}
const Test finding_test{"a page is found by all tokens up to its end", finding};

void twice() {
  PagePool pool(10);
  PrefixTree tree(pool);
  const Ids pages = read(tree, pool, tokens(32));
  const int32_t again = pool.take();
  expect_equal(tree.keep(PrefixTree::kRoot, tokens(32), again), pages[0], "the one that is known");
  expect_equal(pool.holders(again), 1, "the other is not kept");
  expect_equal(tree.size(), 1);
}
const Test twice_test{"two pages of the same tokens are kept once", twice};

void tails() {
  PagePool pool(10);
  PrefixTree tree(pool);
  const Ids pages = read(tree, pool, tokens(64));
  const int32_t partial = pool.take();
  Ids begun = tokens(5);
  begun.push_back(900);
  tree.keep(PrefixTree::kRoot, begun, partial);
  const auto tail = [&](int32_t parent, const Ids& wanted) {
    const auto found = tree.find_tail(parent, wanted);
    return std::pair(found.page, found.count);
  };
  expect(tail(PrefixTree::kRoot, tokens(20)) == std::pair(pages[0], int64_t{20}), "the beginning of a whole page");
  expect(tail(PrefixTree::kRoot, begun) == std::pair(partial, int64_t{6}), "a page that is not whole");
  begun.push_back(3);
  expect(tail(PrefixTree::kRoot, begun) == std::pair(partial, int64_t{6}), "as far as it goes");
  expect(tail(pages[0], tokens(9, 32)) == std::pair(pages[1], int64_t{9}), "behind a page");
  expect(tail(pages[1], tokens(9, 14)) == std::pair(PrefixTree::kRoot, int64_t{0}), "behind the last");
  expect(tail(PrefixTree::kRoot, {600, 1}) == std::pair(PrefixTree::kRoot, int64_t{0}), "nothing in common");
  expect(tail(PrefixTree::kRoot, {}) == std::pair(PrefixTree::kRoot, int64_t{0}), "nothing asked");
}
const Test tails_test{"the page with most of the next tokens is found", tails};

void dropping() {
  PagePool pool(6);
  PrefixTree tree(pool);
  const Ids old = read(tree, pool, tokens(64, 100));
  const Ids recent = read(tree, pool, tokens(64, 200));
  expect_equal(tree.idle(), 0, "all are held");
  let_go(pool, old);
  let_go(pool, recent);
  expect_equal(tree.idle(), 4);
  expect_equal(pool.available(), 2, "what is kept is not free");
  static_cast<void>(tree.find(tokens(64, 100)));  // the old ones are wanted again
  tree.drop(1);
  expect_equal(tree.find(tokens(64, 200)), Ids{recent[0]}, "the end of what was wanted longest ago goes first");
  static_cast<void>(tree.find(tokens(64, 100)));
  tree.drop(1);
  expect_equal(tree.find(tokens(64, 200)), Ids{});
  expect_equal(tree.find(tokens(64, 100)), old);
  const Ids held = read(tree, pool, tokens(96, 100));
  expect_equal(tree.idle(), 0);
  let_go(pool, held);
  tree.drop(3);
  expect(tree.size() == 0 && pool.available() == 6, "and all can be dropped");
}
const Test dropping_test{"of the pages that nobody holds, those wanted longest ago are dropped first", dropping};

void random_work() {
  uint32_t state = 5;
  const auto random = [&](int32_t below) {
    return static_cast<int32_t>((state = state * 1664525u + 1013904223u) >> 16) % below;
  };
  PagePool pool(12);
  PrefixTree tree(pool);
  std::vector<Ids> running;
  for (int round = 0; round < 5000; ++round) {
    if (!running.empty() && random(2) == 0) {
      const auto chosen = running.begin() + random(static_cast<int32_t>(running.size()));
      let_go(pool, *chosen);
      running.erase(chosen);
      continue;
    }
    Ids text;
    for (int i = random(4); i >= 0; --i) {
      const Ids page(kPageRows, random(3));
      text.insert(text.end(), page.begin(), page.end());
    }
    const int64_t missing = std::ssize(text) / kPageRows - std::ssize(tree.find(text));
    if (missing > pool.available() + 0) {
      if (missing - pool.available() > tree.idle()) continue;
      tree.drop(missing - pool.available());
      if (std::ssize(text) / kPageRows - std::ssize(tree.find(text)) > pool.available()) continue;  // dropped its own
    }
    running.push_back(read(tree, pool, text));
  }
  for (const Ids& pages : running) let_go(pool, pages);
  expect_equal(tree.idle(), tree.size(), "nobody holds a page");
  tree.drop(tree.size());
  expect_equal(pool.available(), 12, "no page is lost");
}
const Test random_test{"random readers lose no page and find only what they have read", random_work};

}  // namespace
}  // namespace pygpt::test
