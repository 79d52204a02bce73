#include "model/kv_cache.h"

#include <utility>

#include "base/aligned.h"
#include "base/error.h"

namespace pygpt {

PageLayout::PageLayout(const ModelConfig& config, int type) : type(type), n_kv_head(config.n_kv_head) {
  KvTypes::visit(type, [&]<class Kv>() {
    const auto bytes_of = [](int64_t width) {
      const int64_t scales = Kv::kHasScales ? kPageRows * int64_t{sizeof(float)} : 0;
      return round_up(width * kPageRows * int64_t{sizeof(typename Kv::Element)} + scales, kAlignment);
    };
    k_bytes = bytes_of(config.head_dim);
    v_bytes = bytes_of(config.padded_head_dim());
  });
  page_bytes = config.n_layer * n_kv_head * (k_bytes + v_bytes);  // at most 2^12 * 2^10 * 2^18: no overflow
}

PagePool::PagePool(int64_t capacity) : capacity_(capacity), holders_(static_cast<size_t>(capacity)) {
  for (int64_t page = capacity - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

int32_t PagePool::take() {
  check(!free_.empty(), "no free page");
  const int32_t page = free_.back();
  free_.pop_back();
  holders_[static_cast<size_t>(page)] = 1;
  return page;
}

void PagePool::give_back(int32_t page) noexcept {
  if (--holders_[static_cast<size_t>(page)] == 0) free_.push_back(page);  // it has been there: there is room
}

void KvCache::grow(int64_t pages, PagePool& pool) {
  pages_.reserve(pages_.size() +
                 static_cast<size_t>(pages));  // before a page is taken: none is lost if memory runs out
  for (int64_t i = 0; i < pages; ++i) pages_.push_back(pool.take());
}

void KvCache::share(std::span<const int32_t> pages, PagePool& pool) {
  pages_.insert(pages_.end(), pages.begin(), pages.end());
  for (const int32_t page : pages) pool.share(page);
}

void KvCache::replace(int64_t place, int32_t page, PagePool& pool) noexcept {
  pool.share(page);
  pool.give_back(std::exchange(pages_[static_cast<size_t>(place)], page));
}

void KvCache::truncate(int64_t positions, PagePool& pool) noexcept {
  while (static_cast<int64_t>(pages_.size()) > pages_for(positions)) {
    pool.give_back(pages_.back());
    pages_.pop_back();
  }
}

}  // namespace pygpt
