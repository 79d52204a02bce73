#include "model/prefix_tree.h"

#include <algorithm>

namespace pygpt {

PrefixTree::PrefixTree(PagePool& pool) : pool_(pool), nodes_(static_cast<size_t>(pool.capacity())) {
  idle_.reserve(nodes_.size());
}

std::vector<int32_t> PrefixTree::find(std::span<const int32_t> tokens) {
  std::vector<int32_t> pages;
  int32_t page = kRoot;
  for (; tokens.size() >= kPageRows; tokens = tokens.subspan(kPageRows)) {
    const Children& next = children(page);
    const auto found = next.find(key_of(tokens.first(kPageRows)));
    if (found == next.end()) break;
    page = found->second;
    pages.push_back(page);
  }
  touch(page);
  return pages;
}

PrefixTree::Tail PrefixTree::find_tail(int32_t parent, std::span<const int32_t> tokens) noexcept {
  const Tokens wanted = key_of(tokens.first(std::min<size_t>(tokens.size(), kPageRows)));
  const Children& next = children(parent);
  Tail best;
  const auto look_at = [&](Children::const_iterator child) {
    const auto [end, other] =
        std::ranges::mismatch(child->first, wanted, [](int32_t a, int32_t b) { return a == b && a >= 0; });
    const int64_t count = end - child->first.begin();
    if (count > best.count) best = {child->second, count};
  };
  // In the order of the keys, what has most in common with a key stands beside it.
  const auto behind = next.lower_bound(wanted);
  if (behind != next.end()) look_at(behind);
  if (behind != next.begin()) look_at(std::prev(behind));
  touch(best.page);
  return best;
}

int32_t PrefixTree::keep(int32_t parent, std::span<const int32_t> tokens, int32_t page) {
  auto node = std::make_unique<Node>();
  const auto [self, is_new] = children(parent).emplace(key_of(tokens), page);
  if (is_new) {
    node->parent = parent;
    node->self = self;
    nodes_[static_cast<size_t>(page)] = std::move(node);
    pool_.share(page);
    ++size_;
  }
  touch(self->second);
  return self->second;
}

int64_t PrefixTree::idle() const noexcept {
  if (size_ == 0) return 0;
  int64_t count = 0;
  for (int32_t page = 0; page < std::ssize(nodes_); ++page) count += is_idle(page);
  return count;
}

void PrefixTree::drop(int64_t count) noexcept {
  idle_.clear();
  for (int32_t page = 0; page < std::ssize(nodes_); ++page) {
    if (is_idle(page)) idle_.push_back({nodes_[static_cast<size_t>(page)]->used, page});
  }
  // Who holds a page holds those above it, too: so below an idle page all are idle, and were used before it.
  const auto end = idle_.begin() + static_cast<ptrdiff_t>(count);
  const auto older = [](const Idle& a, const Idle& b) { return a.used < b.used; };
  std::partial_sort(idle_.begin(), end, idle_.end(), older);
  std::for_each(idle_.begin(), end, [this](const Idle& each) { forget(each.page); });
}

PrefixTree::Tokens PrefixTree::key_of(std::span<const int32_t> tokens) noexcept {
  Tokens key;
  key.fill(-1);
  std::ranges::copy(tokens, key.begin());
  return key;
}

const PrefixTree::Children& PrefixTree::children(int32_t page) const noexcept {
  return page == kRoot ? root_ : nodes_[static_cast<size_t>(page)]->children;
}

PrefixTree::Children& PrefixTree::children(int32_t page) noexcept {
  return page == kRoot ? root_ : nodes_[static_cast<size_t>(page)]->children;
}

bool PrefixTree::is_idle(int32_t page) const noexcept {
  return nodes_[static_cast<size_t>(page)] && pool_.holders(page) == 1;
}

/// From the page up, so that what stands above is always used later.
void PrefixTree::touch(int32_t page) noexcept {
  for (; page != kRoot; page = nodes_[static_cast<size_t>(page)]->parent) {
    nodes_[static_cast<size_t>(page)]->used = ++now_;
  }
}

void PrefixTree::forget(int32_t page) noexcept {
  const auto node = std::move(nodes_[static_cast<size_t>(page)]);
  children(node->parent).erase(node->self);
  pool_.give_back(page);
  --size_;
}

}  // namespace pygpt
