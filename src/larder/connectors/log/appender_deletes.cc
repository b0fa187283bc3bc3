// The appender's tombstones: a grain of them at a time, and what each delete answers.
#include <algorithm>
#include <cstring>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/connectors/log/appender.h"
#include "larder/connectors/log/rule.h"

namespace larder::log_store {

Admission Appender::start_delete(DeleteTask& task) noexcept {
  const std::size_t bytes = kTombstoneKeyOverhead + task.key.size();
  const std::uint32_t grain = state_.grain_bytes();
  if (tombstones_ != nullptr) {
    const Segment& segment = state_.segments.at(tombstones_->location.segment);
    const bool has_room =
        tombstones_->payload_bytes + bytes <= tombstone_payload_max(grain) &&
        segment.append_offset + segment.table->bytes_with(1, task.key.size(), grain) <=
            state_.segments.geometry().segment_bytes;
    if (!has_room) flush_tombstones();
  }
  if (tombstones_ == nullptr) {
    const Admission admission = make_room(grain, 1, task.key.size());
    if (admission != Admission::kStarted) return admission;
    auto buffer = AlignedBuffer::create(grain, grain);
    if (!buffer) return Admission::kRefused;
    tombstones_ = std::make_unique<TombstoneGrain>();
    tombstones_->grain = std::move(*buffer);
    tombstones_->location = allocate(grain, 0, 0);
  }
  state_.segments.at(tombstones_->location.segment).table->reserve(1, task.key.size());
  std::byte* const out =
      tombstones_->grain.data() + kRecordHeaderFixedBytes + tombstones_->payload_bytes;
  const auto key_bytes = static_cast<std::uint16_t>(task.key.size());
  std::memcpy(out, &key_bytes, sizeof(key_bytes));
  std::memcpy(out + kTombstoneKeyOverhead, task.key.data(), task.key.size());
  tombstones_->payload_bytes += bytes;
  tombstones_->tasks.push_back(&task);
  task.error = {};
  task.existed = false;
  state_.guard.enter(task.fingerprint);
  task.value_before = state_.guard.last_store(task.fingerprint);
  if (const auto present = state_.index.find(task.fingerprint)) {
    task.value_before = std::max(task.value_before, state_.segments.place_of(present->location));
  }
  ++tasks_in_flight_;
  return Admission::kStarted;
}

void Appender::flush_tombstones() noexcept {
  if (tombstones_ == nullptr) return;
  TombstoneGrain& group = *tombstones_;
  const std::uint64_t offset = std::uint64_t{group.location.grain} * state_.grain_bytes();
  Transfer* const transfer = acquire_write(group.location.segment, offset, kTombstones, &group);
  const RecordHeader header{
      .kind = RecordKind::kTombstones,
      .offset = offset,
      .value_bytes = 0,
      .wall_seconds = state_.clock.wall_seconds(),
      .checksum = {},
      .payload = group.grain.span().subspan(kRecordHeaderFixedBytes, group.payload_bytes)};
  encode_record_header(header, state_.identity(group.location.segment), state_.superblock.secret,
                       group.grain.span());
  transfer->vectors.push_back({.iov_base = group.grain.data(), .iov_len = group.grain.size()});
  tombstones_in_flight_.push_back(std::move(tombstones_));
  state_.transfers.submit(*transfer);
}

void Appender::on_tombstones_written(Transfer& transfer) noexcept {
  auto* const in_flight = static_cast<TombstoneGrain*>(transfer.task);
  const auto at =
      std::ranges::find(tombstones_in_flight_, in_flight, &std::unique_ptr<TombstoneGrain>::get);
  LARDER_CHECK(at != tombstones_in_flight_.end());
  const std::unique_ptr<TombstoneGrain> group = std::move(*at);
  tombstones_in_flight_.erase(at);
  const bool succeeded = transfer.succeeded();
  const Error error = succeeded ? Error{} : error_of_write(transfer);
  if (!succeeded) note_write_error(transfer);
  state_.transfers.release(transfer);

  const std::uint32_t segment_number = group->location.segment;
  Segment& segment = state_.segments.at(segment_number);
  const Place place = state_.segments.place_of(group->location);
  for (DeleteTask* const task : group->tasks) {
    if (!succeeded) {
      task->error = error;
      end(*task);
      continue;
    }
    segment.table->add({.fingerprint_low = task->fingerprint.low,
                        .fingerprint_high = task->fingerprint.high,
                        .grain = group->location.grain,
                        .key_bytes = static_cast<std::uint16_t>(task->key.size()),
                        .kind = RecordKind::kTombstones},
                       as_text(task->key));
    ++segment.tombstones;
    const bool was_there = state_.publish_delete(task->fingerprint, place);
    if (was_there) state_.events.note(EventPage::Kind::kRemoved, as_text(task->key), 0);
    // A value that is still on its way, or that something later has replaced meanwhile, was there
    // too, unless another delete has answered for it.
    task->existed = is_broken(Rule::kDeleteAnswersByPlace)
                        ? was_there
                        : task->value_before > state_.guard.last_delete(task->fingerprint);
    state_.guard.note_delete(task->fingerprint, place);
    if (task->wants_sync && segment.sync_failed) {
      task->error = Error{ErrorCode::kIo, "log", "an earlier sync of the segment failed"};
    }
    if (!task->wants_sync || segment.sync_failed) {
      end(*task);
      continue;
    }
    SyncGroup& sync_group = group_of(segment_number);
    sync_group.waiting_deletes.push_back(task);
    sync_group.is_due = true;
    ++tasks_waiting_for_sync_;
  }
  settle_write(segment_number);
}

void Appender::end(DeleteTask& task) noexcept {
  state_.guard.leave(task.fingerprint);
  --tasks_in_flight_;
  task.sink->on_delete(task);
}

}  // namespace larder::log_store
