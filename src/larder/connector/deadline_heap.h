#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/connector/connector.h"

namespace larder {

/// What TileScheduler keeps in items[0].connector_words of a batch in flight.
struct TileState {
  Batch* previous = nullptr;     ///< In its queue; connector_next is the next.
  std::uint32_t heap_index = 0;  ///< DeadlineHeap's.
  std::uint16_t next_tile = 0;   ///< The first tile that nobody has taken.
  bool is_queued = false;
  bool has_deadline = false;  ///< It is in the heap.

  static TileState load(const Batch& batch) noexcept;
  void store(Batch& batch) const noexcept;
};
static_assert(sizeof(TileState) == sizeof(Item::connector_words));

/// Batches by deadline, the earliest first, where any of them can be taken out: a binary heap whose
/// positions are kept in the batches (TileState::heap_index).
///
/// Never holds more than `batches_max`, for which it has room from the start. The caller
/// synchronises. Cost: O(log n) to add and remove.
class DeadlineHeap {
 public:
  explicit DeadlineHeap(std::size_t batches_max) { batches_.reserve(batches_max); }

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
