#include "larder/connectors/log/machine/publisher.h"

#include <string_view>

#include "larder/base/key_text.h"
#include "larder/connectors/log/format/rule.h"
#include "larder/connectors/log/machine/record_transfers.h"

namespace larder::log_store {
namespace {

constexpr Error kEarlierSyncFailed{ErrorCode::kIo, "log", "an earlier sync of the segment failed"};

}  // namespace

void Publisher::settle(StoreTask& task) noexcept {
  const bool succeeded = task.error.code() == ErrorCode::kNone;
  if (succeeded || is_broken(Rule::kFailedWriteChangesNothing)) publish(task);
  if (succeeded) {
    errors_.note_success();
  } else if (is_broken(Rule::kFailedRangeIsDead)) {
    reuse_range(task);
  }
  const std::uint32_t segment = task.location.segment;
  const bool waits_for_sync = task.wants_sync && task.error.code() == ErrorCode::kNone;
  if (waits_for_sync) {
    if (!state_.segments.at(segment).sync_failed || is_broken(Rule::kFailedSyncLasts)) {
      commit_.join(task, segment);
      return sealer_.settle_place(segment);
    }
    task.error = kEarlierSyncFailed;
  }
  sealer_.settle_place(segment);
  tasks_.end(task);
}

void Publisher::publish(StoreTask& task) noexcept {
  const std::string_view key = as_text(task.key);
  const std::uint64_t tag =
      task.is_packed
          ? value_tag(packed_value_of(task), state_.identity(task.location.segment),
                      state_.segments.place_of(task.location).offset, state_.superblock.secret)
          : 0;
  // In the table whether or not the index takes it: recovery decides by place, as the index does.
  state_.segments.at(task.location.segment)
      .table->add({.fingerprint_low = task.fingerprint.low,
                   .fingerprint_high = task.is_packed ? tag : task.fingerprint.high,
                   .grain = task.location.grain,
                   .value_bytes = static_cast<std::uint32_t>(task.value_bytes),
                   .wall_seconds = static_cast<std::uint32_t>(state_.clock.wall_seconds()),
                   .key_bytes = static_cast<std::uint16_t>(task.key.size()),
                   .kind = task.kind()},
                  key);
  IndexEntry entry{.location = task.location,
                   .value_bytes = static_cast<std::uint32_t>(task.value_bytes),
                   .note = task.note,
                   .is_packed = task.is_packed,
                   .tag = tag};
  publish(task, entry, key);
  // It counts at the next open, whatever the index says of it now (L7).
  if (!task.was_published) ++state_.segments.at(task.location.segment).strays;
}

void Publisher::publish(StoreTask& task, IndexEntry& entry, std::string_view key) noexcept {
  if (task.source) {
    const auto present = state_.index.find(task.fingerprint);
    const bool is_current = present && present->location == *task.source;
    if (!is_current && !is_broken(Rule::kMoveOnlyCurrent)) return;
    if (present) entry.note = present->note;
    task.was_published = state_.publish(task.fingerprint, entry, true) == Published::kYes;
    return;
  }
  switch (state_.publish(task.fingerprint, entry)) {
    case Published::kYes:
      task.was_published = true;
      return state_.events.note(EventPage::Kind::kStored, key, task.value_bytes);
    case Published::kOvertaken:
      if (is_broken(Rule::kEventsFollowIndex)) {
        state_.events.note(EventPage::Kind::kStored, key, task.value_bytes);
      }
      return;
    case Published::kIndexFull:
      task.error = Error{ErrorCode::kResourceExhausted, "log", "the index is full (index_bytes)"};
      return;
  }
}

/// The case that L4 forbids.
void Publisher::reuse_range(const StoreTask& task) noexcept {
  Segment& head = state_.segments.at(task.location.segment);
  const std::uint64_t begin = std::uint64_t{task.location.grain} * state_.grain_bytes();
  const bool is_last = head.append_offset ==
                       begin + record_bytes(task.value_bytes, state_.grain_bytes(), task.kind());
  if (is_last) head.append_offset = begin;
}

void Publisher::settle(std::span<DeleteTask* const> tasks, Location location,
                       const Error& error) noexcept {
  for (DeleteTask* const task : tasks) {
    task->error = error;
    if (error.code() != ErrorCode::kNone) {
      tasks_.end(*task);
      continue;
    }
    publish(*task, location);
    const bool has_sync_failed = state_.segments.at(location.segment).sync_failed;
    if (task->wants_sync && !has_sync_failed) {
      commit_.join(*task, location.segment);
      continue;
    }
    if (task->wants_sync) task->error = kEarlierSyncFailed;
    tasks_.end(*task);
  }
  sealer_.settle_place(location.segment);
}

void Publisher::publish(DeleteTask& task, Location location) noexcept {
  const std::string_view key = as_text(task.key);
  const Place place = state_.segments.place_of(location);
  Segment& segment = state_.segments.at(location.segment);
  segment.table->add({.fingerprint_low = task.fingerprint.low,
                      .fingerprint_high = task.fingerprint.high,
                      .grain = location.grain,
                      .key_bytes = static_cast<std::uint16_t>(task.key.size()),
                      .kind = RecordKind::kTombstones},
                     key);
  ++segment.tombstones;
  const bool was_there = state_.publish_delete(task.fingerprint, place);
  if (was_there) state_.events.note(EventPage::Kind::kRemoved, key, 0);
  // A value that is still in flight, or that a later record has replaced meanwhile, existed too,
  // unless another delete has counted it.
  task.existed = is_broken(Rule::kDeleteAnswersByPlace)
                     ? was_there
                     : task.value_before > state_.guard.last_delete(task.fingerprint);
  state_.guard.note_delete(task.fingerprint, place);
}

}  // namespace larder::log_store
