#pragma once

#include <cstddef>

#include "larder/base/indexed_heap.h"
#include "larder/connector/connector.h"

namespace larder {

/// Batches by deadline, the earliest first, where any of them can be taken out: their places are
/// kept in the batches (Batch::connector_place).
///
/// Has room for `batches_max` from the start, and for more after make_room(). The caller
/// synchronises. Cost: O(log n) to add and remove.
class DeadlineHeap {
 public:
  explicit DeadlineHeap(std::size_t batches_max) { heap_.reserve(batches_max); }

  /// Room for one more than there are; false where the process has no memory for it.
  bool make_room() noexcept;
  bool empty() const noexcept { return heap_.empty(); }
  Batch& first() const noexcept { return heap_.first(); }
  void add(Batch& batch) noexcept;
  void remove(Batch& batch) noexcept { heap_.remove(batch); }

 private:
  struct Order {
    static bool is_before(const Batch& a, const Batch& b) noexcept {
      return a.deadline_ns < b.deadline_ns;
    }
    static std::size_t place(const Batch& batch) noexcept { return batch.connector_place; }
    static void set_place(Batch& batch, std::size_t place) noexcept {
      batch.connector_place = static_cast<std::uint32_t>(place);
    }
  };

  IndexedHeap<Batch, Order> heap_;
};

}  // namespace larder
