#pragma once
// The keys and values of what a sequence has read so far, in pages of 32 positions.
// Pages are numbers here; where their bytes lie is the backend's affair.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/table.h"
#include "model/config.h"

namespace pygpt {

/// Bytes of a page and what lies where in it: for each layer and head of k and v, k as [head_dim][32], then v as
/// [32][padded head_dim], each followed by its scales where the type has them.
struct PageLayout {
  PageLayout(const ModelConfig& config, int type);

  int64_t k_offset(int64_t layer, int64_t head) const { return (layer * n_kv_head + head) * (k_bytes + v_bytes); }
  int64_t v_offset(int64_t layer, int64_t head) const { return k_offset(layer, head) + k_bytes; }

  int type;  // an id of KvTypes
  int64_t n_kv_head;
  int64_t k_bytes;  // of one layer and head
  int64_t v_bytes;
  int64_t page_bytes;
};

/// Pages that `positions` need.
constexpr int64_t pages_for(int64_t positions) { return ceil_div(positions, kPageRows); }

/// Which pages are free, and how many hold each of the others. It answers before it changes anything.
class PagePool {
 public:
  explicit PagePool(int64_t capacity);

  int64_t capacity() const noexcept { return capacity_; }
  int64_t available() const noexcept { return static_cast<int64_t>(free_.size()); }

  /// A free page. Precondition: available() > 0.
  int32_t take();

  /// One more holds a page that somebody holds.
  void share(int32_t page) noexcept { ++holders_[static_cast<size_t>(page)]; }

  /// One fewer; a page that nobody holds is free.
  void give_back(int32_t page) noexcept;

  int32_t holders(int32_t page) const noexcept { return holders_[static_cast<size_t>(page)]; }

 private:
  int64_t capacity_;
  std::vector<int32_t> holders_;  // by page
  std::vector<int32_t> free_;     // taken from the back: lowest numbers first, so that few pages are ever touched
};

/// The pages of one sequence.
class KvCache {
 public:
  const std::vector<int32_t>& pages() const noexcept { return pages_; }

  /// Takes `pages` more from the pool. Precondition: that many are available.
  void grow(int64_t pages, PagePool& pool);

  /// Puts pages that others hold behind its own, and holds them too.
  void share(std::span<const int32_t> pages, PagePool& pool);

  /// Holds `page` in the place of its page number `place`.
  void replace(int64_t place, int32_t page, PagePool& pool) noexcept;

  /// Keeps the pages of the first `positions`, gives the others back.
  void truncate(int64_t positions, PagePool& pool) noexcept;

 private:
  std::vector<int32_t> pages_;
};

}  // namespace pygpt
