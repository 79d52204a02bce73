#pragma once
// What sequences have read and others may read again: pages of the KV cache by their tokens.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "model/kv_cache.h"

namespace pygpt {

/// A tree of pages. A page's path from the root spells the tokens of all positions up to its own, and nothing else
/// decides what the page holds. The tree holds each page once; of those that nobody else holds, it drops first what was
/// wanted longest ago.
class PrefixTree {
 public:
  static constexpr int32_t kRoot = -1;

  /// A page whose first `count` positions hold the tokens that were asked for.
  struct Tail {
    int32_t page = kRoot;
    int64_t count = 0;
  };

  explicit PrefixTree(PagePool& pool);

  /// The pages of the longest known beginning of `tokens` in whole pages. Throws std::bad_alloc.
  std::vector<int32_t> find(std::span<const int32_t> tokens);

  /// The page behind `parent` that has most of the first of `tokens`.
  Tail find_tail(int32_t parent, std::span<const int32_t> tokens) noexcept;

  /// Keeps a page with up to kPageRows tokens behind `parent`; a page with fewer can be found as a tail only. The page
  /// that is known for these tokens: this one, or another that was kept before. Throws std::bad_alloc.
  int32_t keep(int32_t parent, std::span<const int32_t> tokens, int32_t page);

  int64_t size() const noexcept { return size_; }

  /// Pages that nobody but the tree holds.
  int64_t idle() const noexcept;

  /// Drops idle pages. Precondition: there are that many.
  void drop(int64_t count) noexcept;

 private:
  using Tokens = std::array<int32_t, kPageRows>;  // filled up with -1, which is no token
  using Children = std::map<Tokens, int32_t>;

  struct Node {
    int32_t parent = kRoot;
    Children children;
    Children::iterator self;  // among the parent's children
    uint64_t used = 0;        // when it was last wanted: later than all pages below it
  };

  struct Idle {
    uint64_t used;
    int32_t page;
  };

  static Tokens key_of(std::span<const int32_t> tokens) noexcept;
  const Children& children(int32_t page) const noexcept;
  Children& children(int32_t page) noexcept;
  bool is_idle(int32_t page) const noexcept;
  void touch(int32_t page) noexcept;
  void forget(int32_t page) noexcept;

  PagePool& pool_;
  Children root_;
  std::vector<std::unique_ptr<Node>> nodes_;  // by page
  std::vector<Idle> idle_;                    // room for all, so that dropping needs no memory
  int64_t size_ = 0;
  uint64_t now_ = 0;
};

}  // namespace pygpt
