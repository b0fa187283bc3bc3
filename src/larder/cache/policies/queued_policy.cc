#include "larder/cache/policies/queued_policy.h"

#include "larder/base/check.h"

namespace larder::cache {

QueuedPolicy::QueuedPolicy(const PolicyOptions& options, std::size_t queues)
    : records_(options.records != nullptr ? options.records : make_column_records()),
      queues_(queues, ColumnOrder{*records_}) {}

/// The records may outlive it.
QueuedPolicy::~QueuedPolicy() {
  if (columns_ == 0 || records_.use_count() == 1) return;
  for (std::size_t column = 0; column < records_->size(); ++column) {
    ColumnRecord& left = (*records_)[static_cast<ColumnId>(column)];
    if (left.owner == this) left = {};
  }
}

void QueuedPolicy::insert(ColumnId column, std::uint64_t fingerprint, std::uint64_t bytes,
                          std::uint64_t stamp) {
  ColumnRecord& inserted = records_->make(column);
  LARDER_CHECK(inserted.owner == nullptr);
  inserted = {.fingerprint = fingerprint, .bytes = bytes, .stamp = stamp, .owner = this};
  ++columns_;
  bytes_ += bytes;
  for (ColumnOrder& order : queues_) order.reserve(columns_);
  inserted.queue = enter(column, inserted);
  queues_[inserted.queue].push(column);
  on_changed();
}

void QueuedPolicy::resize(ColumnId column, std::uint64_t bytes) {
  ColumnRecord& resized = own(column);
  queues_[resized.queue].resize(column, bytes);
  bytes_ += bytes - resized.bytes;
  resized.bytes = bytes;
  on_changed();
}

void QueuedPolicy::touch(ColumnId column, std::uint64_t stamp) {
  ColumnRecord& touched = own(column);
  touched.stamp = stamp;
  if (const Queue to = use(column, touched); to != kStay) move(column, to);
  on_changed();
}

void QueuedPolicy::hide(ColumnId column) {
  ColumnRecord& hidden = own(column);
  LARDER_CHECK(!hidden.is_hidden);
  queues_[hidden.queue].hide(column);
  hidden.is_hidden = true;
}

void QueuedPolicy::show(ColumnId column) {
  ColumnRecord& shown = own(column);
  LARDER_CHECK(shown.is_hidden);
  shown.is_hidden = false;
  queues_[shown.queue].show(column);
}

void QueuedPolicy::cool(ColumnId column) {
  ColumnRecord& cooled = own(column);
  cooled.uses = 0;
  if (cooled.queue != kCooled) {
    on_leaving(column, cooled);
    on_deleted(cooled);
  }
  move(column, kCooled);
  on_changed();
}

void QueuedPolicy::erase(ColumnId column, Removal why) {
  ColumnRecord& erased = own(column);
  if (erased.queue != kCooled) on_leaving(column, erased);
  queues_[erased.queue].remove(column);
  --columns_;
  bytes_ -= erased.bytes;
  if (erased.queue != kCooled) {
    why == Removal::kEvicted ? on_evicted(erased) : on_deleted(erased);
  }
  erased = {};
  on_changed();
}

std::size_t QueuedPolicy::coldest(std::span<ColumnId> out) {
  const std::size_t cooled = list(kCooled, out);
  return cooled + choose(out.subspan(cooled));
}

std::uint64_t QueuedPolicy::coldest_stamp() {
  ColumnId column = 0;
  if (coldest({&column, 1}) == 0) return kNoVictim;
  const ColumnRecord& coldest = record(column);
  return coldest.queue == kCooled ? 0 : stamp_of_coldest(coldest);
}

std::uint64_t QueuedPolicy::steps() const noexcept {
  std::uint64_t steps = 0;
  for (const ColumnOrder& order : queues_) steps += order.steps();
  return steps;
}

void QueuedPolicy::move(ColumnId column, Queue to) noexcept {
  ColumnRecord& moved = record(column);
  queues_[moved.queue].remove(column);
  moved.queue = to;
  queues_[to].push(column);
}

std::size_t QueuedPolicy::list(Queue queue, std::span<ColumnId> out) const noexcept {
  const ColumnOrder& order = queues_[queue];
  std::size_t count = 0;
  Place place = 0;
  while (count < out.size() && (place = order.visible_from(place)) != ColumnOrder::kEnd) {
    out[count++] = order.at(place++);
  }
  return count;
}

ColumnRecord& QueuedPolicy::own(ColumnId column) noexcept {
  LARDER_CHECK(column < records_->size());
  ColumnRecord& found = (*records_)[column];
  LARDER_CHECK(found.owner == this);
  return found;
}

}  // namespace larder::cache
