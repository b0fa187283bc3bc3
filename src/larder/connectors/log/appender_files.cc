// The appender's files: segments are made as they are needed and removed where space runs short, by
// way of FileCalls, because such calls have no deadline.
#include <cerrno>

#include "larder/connectors/log/appender.h"
#include "larder/connectors/log/rule.h"

namespace larder::log_store {
namespace {

/// A directory that could not be synced is not tried again at once.
constexpr std::uint64_t kSyncAgainNs = 100'000'000;

}  // namespace

void Appender::start_file_call(FileCall::Kind kind, std::uint32_t segment) noexcept {
  file_call_.kind = kind;
  file_call_.name = segment_file_name(segment);
  file_call_.bytes = state_.segments.geometry().segment_bytes;
  file_call_.min_free_bytes = state_.options.min_free_bytes;
  file_call_.tag = segment;
  file_call_.sink = this;
  state_.file_calls->submit(file_call_);
}

/// True when what was removed is gone for good, so that the next segment may be overwritten (L9).
bool Appender::settle_files() noexcept {
  while (!file_call_.is_busy() && !to_remove_.empty()) {
    const std::uint32_t segment = to_remove_.front();
    to_remove_.pop_front();
    start_file_call(FileCall::Kind::kRemove, segment);
  }
  const bool owes_sync = owes_directory_sync_ && !is_broken(Rule::kSyncRemovals);
  if (!owes_sync) return !file_call_.is_busy();
  if (!file_call_.is_busy() && state_.clock.now_ns() >= sync_directory_at_ns_) {
    start_file_call(FileCall::Kind::kSyncDirectory, 0);
  }
  return !file_call_.is_busy() && !owes_directory_sync_;
}

/// Adds a segment to the file system. True when it is there, and the next free one.
bool Appender::grow() noexcept {
  const auto segment = may_grow_ ? state_.segments.next_absent() : std::nullopt;
  if (!segment) return false;
  state_.segments.set_has_file(*segment, true);  // It counts before it has blocks.
  start_file_call(FileCall::Kind::kMake, *segment);
  return state_.segments.at(*segment).state == SegmentState::kFree;
}

void Appender::remove_file(std::uint32_t segment) noexcept {
  state_.segments.begin_removal(segment);
  // Closed first: the last close of a file that was removed frees its blocks, which may take long.
  state_.device.close(state_.segments.at(segment).file);
  to_remove_.push_back(segment);
}

void Appender::give_back() noexcept {
  const auto segment = state_.segments.next_free();
  if (!segment || file_call_.is_busy() || state_.segments.waits_for_its_copies(*segment)) return;
  remove_file(*segment);
  settle_files();
}

void Appender::on_file_call(FileCall& call) noexcept {
  switch (call.kind) {
    case FileCall::Kind::kMake:
      return on_made(call.tag, call.status);
    case FileCall::Kind::kRemove:
      return on_removed(call.tag, call.status);
    default:
      return on_directory_synced(call.status);
  }
}

void Appender::on_made(std::uint32_t number, const Status& made) noexcept {
  Status status = made;
  if (status) {
    const auto file = state_.device.open(segment_file_name(number), io::OpenMode::kExisting);
    if (file) {
      state_.segments.at(number).file = *file;
      note_growth({});
      return state_.segments.push_free(number, true);
    }
    status = file.error();
  }
  may_grow_ = false;  // LogPath looks again later.
  if (status.error().code() == ErrorCode::kResourceExhausted && status.error().sys_errno() == 0) {
    note_growth({});
    return state_.segments.set_has_file(number, false);  // min_free; LogPath says so.
  }
  note_growth("cannot add a segment file: " + status.error().to_string());
  if (status.error().sys_errno() != EEXIST) return state_.segments.set_has_file(number, false);
  // Nobody but this path makes such files: it is what an earlier failure has left.
  state_.segments.begin_removal(number);
  to_remove_.push_back(number);
}

void Appender::note_growth(const std::string& why_not) noexcept {
  has_failed_to_grow_ = !why_not.empty();
  state_.health.set_condition("segment_file", why_not);
}

void Appender::retry_files() noexcept {
  if (state_.health.is_down() || !settle_files() || !has_failed_to_grow_) return;
  // All segments are there by now, or the capacity leaves no room for more.
  if (state_.segments.absent_count() == 0) return note_growth({});
  grow();
}

void Appender::on_removed(std::uint32_t number, const Status& removed) noexcept {
  const std::string name = segment_file_name(number);
  if (removed || removed.error().sys_errno() == ENOENT) {
    state_.health.set_condition("removal", {});
    state_.segments.end_removal(number, true);
    state_.counters.segments_given_back_total.add();
    owe_directory_sync();
    return;
  }
  state_.health.set_condition(
      "removal", "cannot remove " + name + ", which is kept: " + removed.error().to_string());
  const auto file = state_.device.open(name, io::OpenMode::kExisting);
  Segment& segment = state_.segments.at(number);
  if (file) {
    segment.file = *file;
    return state_.segments.end_removal(number, false);
  }
  segment.state = SegmentState::kFailed;
  state_.counters.segments_failed.add();
  state_.health.note_flaw(name + " cannot be opened again: " + file.error().to_string());
}

void Appender::on_directory_synced(const Status& synced) noexcept {
  if (synced) {
    owes_directory_sync_ = false;
    return state_.health.set_condition("directory", {});
  }
  sync_directory_at_ns_ = state_.clock.now_ns() + kSyncAgainNs;
  state_.health.set_condition(
      "directory", "cannot sync the directory; nothing new is stored until that works: " +
                       synced.error().to_string());
}

}  // namespace larder::log_store
