#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/batch.h"

namespace pygpt {

/// A device: its memory, its workers, and the forward pass on it. One class a device; nothing above knows which.
class Backend {
 public:
  struct Info {
    std::string isa;
    std::string kv_dtype;
    int workers;
    int64_t weight_bytes;  // that one token reads
    int64_t page_bytes;
    int64_t page_capacity;
    int32_t max_rows;       // in one batch
    int32_t max_steps = 1;  // of a plan that it can follow
    std::string device = "cpu";
  };

  virtual ~Backend() = default;

  virtual const Info& info() const noexcept = 0;

  /// Called once by the thread that will call run() from then on.
  virtual void enter() noexcept {}

  /// Makes a page ready for its first position: zeroed. Throws OutOfMemory.
  virtual void clear_page(int32_t page) = 0;

  /// Makes a page hold what another holds. Throws OutOfMemory.
  virtual void copy_page(int32_t from, int32_t to) = 0;

  /// Copies a page's info().page_bytes bytes out, or in. Loading throws OutOfMemory.
  virtual void save_page(int32_t page, std::byte* to) const = 0;
  virtual void load_page(int32_t page, const std::byte* from) = 0;

  /// Makes sure that a batch with so many answers can be run. Throws OutOfMemory.
  virtual void reserve_answers(int64_t count) = 0;

  /// Runs every row and answers those that want something. Throws OutOfMemory.
  virtual void run(const Batch& batch, const Plan& plan, Results& results) = 0;
};

}  // namespace pygpt
