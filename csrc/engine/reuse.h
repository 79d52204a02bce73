#pragma once
// Reading nothing twice: what one sequence has read, others with the same beginning share or copy.

#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "engine/sequence.h"
#include "model/prefix_tree.h"

namespace pygpt {

/// Hands out the pages of the cache. A page depends on nothing but the tokens up to its end, so sharing one changes no
/// bit of what is computed from it. Whole pages are shared and never written again; the last page of a prompt is copied
/// when somebody else writes on in it.
class Reuse {
 public:
  using Sequences = std::span<const std::unique_ptr<Sequence>>;

  /// `most_kept`: pages that are kept for later while nobody uses them; 0: nothing is kept or shared.
  Reuse(Backend& backend, PagePool& pool, int64_t most_kept);

  /// Gives a sequence the pages of all that it may ever need, and what others have read. False if they are not free
  /// yet. Pages that are only kept never stand in its way. Throws std::bad_alloc.
  bool start(Sequence& sequence, Sequences running);

  /// Gives a sequence that reads its prompt what others have read meanwhile, as far as there is memory for it.
  void catch_up(Sequence& sequence, Sequences running) noexcept;

  /// Whether a sequence that could run `rows` had better wait for one that reads the same in this step.
  bool should_follow(const Sequence& sequence, const Sequence& reader, int64_t rows) const;

  /// Lets others find the pages that have become whole.
  void keep(Sequence& sequence) noexcept;

  /// Takes the pages back from one that has ended, and keeps what may be wanted again.
  void finish(Sequence& sequence) noexcept;

  /// The bytes of the pages that hold `tokens`, all of which have been read and are known still. Throws Error.
  std::vector<std::byte> save(std::span<const int32_t> tokens);

  /// Keeps pages that were saved from an engine of the same model, type of cache and arithmetic. Throws Error,
  /// OutOfMemory, std::bad_alloc.
  void load(std::span<const int32_t> tokens, std::span<const std::byte> bytes);

  /// Takes the pages back and keeps nothing: a step has failed, and what they hold is not known.
  void abandon(Sequence& sequence) noexcept { sequence.cache.truncate(0, pool_); }

 private:
  bool make_free(int64_t pages);
  void share_known(Sequence& sequence);
  void take_known(Sequence& sequence, const std::vector<int32_t>& known);
  void copy_tail(Sequence& sequence, std::vector<int32_t> known, Sequences running);
  void copy_pages(Sequence& sequence, std::span<const int32_t> from, int64_t positions);
  void keep_whole_pages(Sequence& sequence);
  void load_page(std::span<const int32_t> tokens, const std::byte* bytes);

  Backend& backend_;
  PagePool& pool_;
  int64_t most_kept_;
  PrefixTree tree_;
};

}  // namespace pygpt
