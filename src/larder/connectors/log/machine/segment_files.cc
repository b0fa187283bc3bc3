#include "larder/connectors/log/machine/segment_files.h"

#include <cerrno>

#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {
namespace {

/// A directory that could not be synced, and a file that could not be removed, are not tried again
/// at once.
constexpr std::uint64_t kAgainNs = 100'000'000;

}  // namespace

SegmentFiles::Next SegmentFiles::next() noexcept {
  Next next;
  while (settle()) {
    std::optional<std::uint32_t> segment = state_.segments.next_free();
    next.waits_for_copies = segment && state_.segments.waits_for_its_copies(*segment);
    if (!segment || next.waits_for_copies) {
      if (!grow()) return next;
      segment = state_.segments.next_free();  // The new one.
    }
    if (has_blocks_of_its_own(*segment)) {
      looked_at_.reset();
      next.segment = segment;
      return next;
    }
    if (to_remove_.empty()) return next;  // Otherwise it is made again.
  }
  return next;
}

void SegmentFiles::start(FileCall::Kind kind, std::uint32_t segment) noexcept {
  call_.kind = kind;
  call_.name = segment_file_name(segment);
  call_.bytes = state_.segments.geometry().segment_bytes;
  call_.min_free_bytes = state_.options.min_free_bytes;
  call_.tag = segment;
  call_.sink = this;
  state_.file_calls->submit(call_);
}

/// True when removals are durable, so that the next segment may be overwritten (L9) or removed: a
/// power cut may bring back the earlier of two files and not the later one.
bool SegmentFiles::settle() noexcept {
  while (!call_.is_busy()) {
    const std::uint64_t now_ns = state_.clock.now_ns();
    if (owes_directory_sync_ && !is_broken(Rule::kSyncRemovals)) {
      if (now_ns < sync_directory_at_ns_) return false;
      start(FileCall::Kind::kSyncDirectory, 0);
      continue;
    }
    if (to_remove_.empty()) return true;
    if (now_ns < remove_at_ns_) return false;
    const std::uint32_t segment = to_remove_.front();
    to_remove_.pop_front();
    start(FileCall::Kind::kRemove, segment);
  }
  return false;
}

/// Adds a segment to the file system. True when it is there, and the next free one.
bool SegmentFiles::grow() noexcept {
  const auto segment = may_grow_ ? state_.segments.next_absent() : std::nullopt;
  if (!segment) return false;
  state_.segments.set_has_file(*segment, true);  // It counts before it has blocks.
  start(FileCall::Kind::kMake, *segment);
  return state_.segments.at(*segment).state() == SegmentState::kFree;
}

/// False while it is unknown, or while the segment is made again because overwriting it would take
/// new blocks: free space for the new file is checked first, with min_free, and allocated.
bool SegmentFiles::has_blocks_of_its_own(std::uint32_t segment) noexcept {
  if (!state_.directory.facts().may_share_blocks) return true;
  if (looked_at_ != segment) {
    is_shared_ = false;
    start(FileCall::Kind::kLookForCopies, segment);  // It may be answered at once.
  }
  return looked_at_ == segment && !is_shared_;
}

void SegmentFiles::on_looked_for_copies(std::uint32_t number, bool is_shared) noexcept {
  if (state_.segments.next_free() != number) return;
  looked_at_ = number;
  is_shared_ = is_shared;
  state_.health.set_condition(
      "copies", is_shared ? "the segments share their blocks with a copy of the store (cp "
                            "--reflink, a snapshot): each is made anew before it is overwritten, "
                            "as far as min_free allows"
                          : "");
  // Without room for another it stays as it is, so that nothing is evicted for it.
  if (!is_shared || !may_grow_) return;
  is_shared_ = false;
  looked_at_.reset();
  remove(number);
}

void SegmentFiles::set_growth(bool may_grow) noexcept {
  may_grow_ = may_grow;
  if (is_shared_) looked_at_.reset();  // There is room now, or the copy is gone.
}

void SegmentFiles::remove(std::uint32_t segment) noexcept {
  state_.segments.begin_removal(segment);
  // Closed first: the last close of a file that was removed frees its blocks, which may take long.
  state_.directory.close(state_.segments.at(segment).file);
  to_remove_.push_back(segment);
}

void SegmentFiles::make_anew(std::uint32_t segment) noexcept {
  remove(segment);
  settle();
}

void SegmentFiles::give_back() noexcept {
  const auto segment = state_.segments.next_free();
  if (!segment || call_.is_busy() || state_.segments.waits_for_its_copies(*segment)) return;
  make_anew(*segment);
}

void SegmentFiles::on_file_call(FileCall& call) noexcept {
  switch (call.kind) {
    case FileCall::Kind::kMake:
      return on_made(call.tag, call.status);
    case FileCall::Kind::kRemove:
      return on_removed(call.tag, call.status);
    case FileCall::Kind::kLookForCopies:
      return on_looked_for_copies(call.tag, call.is_shared);
    default:
      return on_directory_synced(call.status);
  }
}

void SegmentFiles::on_made(std::uint32_t number, const Status& made) noexcept {
  Status status = made;
  if (status) {
    const auto file = state_.directory.open(segment_file_name(number), io::OpenMode::kExisting);
    if (file) {
      state_.segments.at(number).file = *file;
      looked_at_ = number;  // It is new: no copy of it exists.
      note_growth({});
      return state_.segments.put_back(number);
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
  // No other process makes such files: an earlier failure has left it.
  state_.segments.begin_removal(number);
  to_remove_.push_back(number);
}

void SegmentFiles::note_growth(const std::string& why_not) noexcept {
  has_failed_to_grow_ = !why_not.empty();
  state_.health.set_condition("segment_file", why_not);
}

void SegmentFiles::retry() noexcept {
  if (state_.health.is_down() || !settle() || !has_failed_to_grow_) return;
  // All segments exist by now, or the capacity leaves no room for more.
  if (state_.segments.absent_count() == 0) return note_growth({});
  grow();
}

void SegmentFiles::on_removed(std::uint32_t number, const Status& removed) noexcept {
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
  if (open_whole(number)) {
    owe_directory_sync();  // No power cut has preserved the name of a leftover.
    return state_.segments.end_removal(number, false);
  }
  if (is_broken(Rule::kRemovalBeforeReuse)) {
    return state_.segments.fail(number);
  }
  // Its old records may be intact, and outlive the tombstones for them (L9).
  to_remove_.push_back(number);
  remove_at_ns_ = state_.clock.now_ns() + kAgainNs;
}

/// A file that could not be removed is reused. A failed attempt to make it may have left it.
bool SegmentFiles::open_whole(std::uint32_t number) noexcept {
  const auto file = state_.directory.open(segment_file_name(number), io::OpenMode::kExisting);
  if (!file) return false;
  if (!state_.directory.allocate(*file, state_.segments.geometry().segment_bytes)) {
    state_.directory.close(*file);
    return false;
  }
  state_.segments.at(number).file = *file;
  return true;
}

void SegmentFiles::on_directory_synced(const Status& synced) noexcept {
  if (synced) {
    owes_directory_sync_ = false;
    return state_.health.set_condition("directory", {});
  }
  sync_directory_at_ns_ = state_.clock.now_ns() + kAgainNs;
  state_.health.set_condition(
      "directory", "cannot sync the directory; nothing new is stored until that works: " +
                       synced.error().to_string());
}

}  // namespace larder::log_store
