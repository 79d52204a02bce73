#include "model/kv_cache.h"

#include <set>
#include <tuple>
#include <vector>

#include "check.h"

namespace pygpt::test {
namespace {

void pool() {
  PagePool pool(5);
  std::vector<int32_t> taken;
  for (int i = 0; i < 5; ++i) {
    expect_equal(pool.available(), 5 - i);
    taken.push_back(pool.take());
  }
  expect_equal(taken, (std::vector<int32_t>{0, 1, 2, 3, 4}), "lowest first: few pages are ever touched");
  expect_throws<Error>([&] { pool.take(); }, "an empty pool");
  pool.give_back(3);
  pool.give_back(1);
  expect_equal(pool.take(), 1);
  expect_equal(pool.take(), 3);
  expect_equal(pool.available(), 0);
  expect_equal(pool.capacity(), 5);
}
const Test pool_test{"a pool hands out each page once, and again when it was given back", pool};

void truncate() {
  for (int64_t positions = 0; positions <= 4 * kPageRows; ++positions) {
    PagePool pool(4);
    KvCache cache;
    cache.grow(1, pool);
    cache.grow(3, pool);
    cache.truncate(positions, pool);
    int64_t kept = 0;
    while (kept * kPageRows < positions) ++kept;
    expect_equal(std::ssize(cache.pages()), kept, join(positions, " positions"));
    expect_equal(pool.available(), 4 - kept);
    std::set<int32_t> all(cache.pages().begin(), cache.pages().end());
    while (pool.available() > 0) all.insert(pool.take());
    expect_equal(all.size(), 4u, "no page is lost and none is there twice");
  }
}
const Test truncate_test{"truncating keeps the pages of the first positions and gives back the rest", truncate};

/// Marks every element of every layer and head: k [head_dim][32], v [32][padded head_dim], each with its scales behind
/// it where the type has them; none shared, all on cache lines.
void layout() {
  constexpr std::tuple<const char*, int, int> kTypes[] = {
      {"f32", 4, 0}, {"f16", 2, 0}, {"bf16", 2, 0}, {"int8", 1, kPageRows * 4}};
  expect_equal(std::ssize(kTypes), std::ssize(KvTypes::kNames));
  for (const auto& [name, element, scales] : kTypes) {
    for (const int64_t head_dim : {1, 5, 16, 17, 80}) {
      ModelConfig config;
      config.n_layer = 2;
      config.n_head = config.n_kv_head = 3;
      config.head_dim = head_dim;
      const PageLayout page(config, KvTypes::find(name).value());
      std::vector<int> owners(static_cast<size_t>(page.page_bytes));
      const auto claim = [&](int64_t offset, int64_t bytes) {
        expect_equal(offset % 64, 0, "on a cache line");
        expect(offset >= 0 && offset + bytes <= page.page_bytes, "inside the page");
        for (int64_t i = offset; i < offset + bytes; ++i)
          expect_equal(++owners[static_cast<size_t>(i)], 1, "one owner");
      };
      for (int64_t layer = 0; layer < 2; ++layer) {
        for (int64_t head = 0; head < 3; ++head) {
          claim(page.k_offset(layer, head), head_dim * kPageRows * element + scales);
          claim(page.v_offset(layer, head), config.padded_head_dim() * kPageRows * element + scales);
        }
      }
    }
  }
}
const Test layout_test{"in a page every layer and head has its own k and v", layout};

}  // namespace
}  // namespace pygpt::test
