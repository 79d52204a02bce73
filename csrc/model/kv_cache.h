#pragma once
// The keys and values of what a sequence has read so far, in pages of 32 positions.
// Pages are numbers here; where their bytes lie is the backend's affair.

#include <cstdint>
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

/// Which pages are free. It answers before it changes anything.
class PagePool {
 public:
  explicit PagePool(int64_t capacity);

  int64_t capacity() const noexcept { return capacity_; }
  int64_t available() const noexcept { return static_cast<int64_t>(free_.size()); }

  /// A free page. Precondition: available() > 0.
  int32_t take();
  void give_back(int32_t page) { free_.push_back(page); }

 private:
  int64_t capacity_;
  std::vector<int32_t> free_;  // taken from the back: lowest numbers first, so that few pages are ever touched
};

/// The pages of one sequence.
class KvCache {
 public:
  const std::vector<int32_t>& pages() const noexcept { return pages_; }

  /// Takes `pages` more from the pool. Precondition: that many are available.
  void grow(int64_t pages, PagePool& pool);

  /// Keeps the pages of the first `positions`, gives the others back.
  void truncate(int64_t positions, PagePool& pool);

 private:
  std::vector<int32_t> pages_;
};

}  // namespace pygpt
