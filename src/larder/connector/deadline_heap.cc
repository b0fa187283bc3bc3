#include "larder/connector/deadline_heap.h"

#include <new>

#include "larder/base/check.h"

namespace larder {

bool DeadlineHeap::make_room() noexcept {
  if (heap_.size() < heap_.capacity()) return true;
  try {
    heap_.reserve(2 * heap_.capacity() + 1);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void DeadlineHeap::add(Batch& batch) noexcept {
  LARDER_CHECK(heap_.size() < heap_.capacity());
  heap_.add(batch);
}

}  // namespace larder
