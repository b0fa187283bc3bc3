#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/connector/connector.h"

namespace larder {

/// Batches by deadline, the earliest first, where any of them can be taken out: a binary heap whose
/// positions are kept in the batches (Batch::connector_place).
///
/// Has room for `batches_max` from the start, and for more after make_room(). The caller
/// synchronises. Cost: O(log n) to add and remove.
class DeadlineHeap {
 public:
  explicit DeadlineHeap(std::size_t batches_max) { batches_.reserve(batches_max); }

  /// Room for one more than there are; false where the process has no memory for it.
  bool make_room() noexcept;
  bool empty() const noexcept { return batches_.empty(); }
  Batch& first() const noexcept { return *batches_.front(); }
  void add(Batch& batch) noexcept;
  void remove(Batch& batch) noexcept;

 private:
  void place(std::size_t index, Batch& batch) noexcept;
  void move_up(std::size_t index) noexcept;
  void move_down(std::size_t index) noexcept;

  std::vector<Batch*> batches_;
};

}  // namespace larder
