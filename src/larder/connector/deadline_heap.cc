#include "larder/connector/deadline_heap.h"

#include <new>

#include "larder/base/check.h"

namespace larder {

void DeadlineHeap::place(std::size_t index, Batch& batch) noexcept {
  batches_[index] = &batch;
  batch.connector_place = static_cast<std::uint32_t>(index);
}

void DeadlineHeap::move_up(std::size_t index) noexcept {
  Batch& batch = *batches_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (batches_[parent]->deadline_ns <= batch.deadline_ns) break;
    place(index, *batches_[parent]);
    index = parent;
  }
  place(index, batch);
}

void DeadlineHeap::move_down(std::size_t index) noexcept {
  Batch& batch = *batches_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= batches_.size()) break;
    if (child + 1 < batches_.size() &&
        batches_[child + 1]->deadline_ns < batches_[child]->deadline_ns) {
      ++child;
    }
    if (batch.deadline_ns <= batches_[child]->deadline_ns) break;
    place(index, *batches_[child]);
    index = child;
  }
  place(index, batch);
}

bool DeadlineHeap::make_room() noexcept {
  if (batches_.size() < batches_.capacity()) return true;
  try {
    batches_.reserve(2 * batches_.capacity() + 1);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void DeadlineHeap::add(Batch& batch) noexcept {
  LARDER_CHECK(batches_.size() < batches_.capacity());
  batches_.push_back(&batch);
  move_up(batches_.size() - 1);
}

void DeadlineHeap::remove(Batch& batch) noexcept {
  const std::size_t index = batch.connector_place;
  LARDER_CHECK(index < batches_.size() && batches_[index] == &batch);
  Batch& last = *batches_.back();
  batches_.pop_back();
  if (&last == &batch) return;
  place(index, last);
  move_up(index);
  move_down(last.connector_place);
}

}  // namespace larder
