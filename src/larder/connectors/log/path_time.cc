// What a path does because time passes: stalls, disk space, and its end.
#include <algorithm>
#include <cstring>

#include "larder/base/check.h"
#include "larder/connectors/log/file_names.h"
#include "larder/connectors/log/path.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kSpaceCheckEveryNs = 1'000'000'000;
/// Free segments that are kept when the file system runs low.
constexpr std::uint32_t kFreeKept = 2;

}  // namespace

std::uint64_t LogPath::next_timer_ns() const noexcept {
  std::uint64_t next_ns = std::min(state_.intake.next_deadline_ns(), next_space_check_ns_);
  if (const std::uint64_t oldest_ns = state_.transfers.oldest_submitted_ns(); oldest_ns != kNever) {
    const std::uint64_t stalled_ns =
        std::max(oldest_ns + state_.options.stall_ns, no_stall_before_ns_);
    // Once it has stalled, watching for more is the probe's business.
    if (!state_.health.is_down()) next_ns = std::min(next_ns, stalled_ns);
  }
  if (!are_files_stalled_ && !state_.file_calls->is_quiet()) {
    next_ns = std::min(next_ns, state_.file_calls->oldest_submitted_ns() + state_.options.stall_ns);
  }
  if (!probe_.is_busy()) next_ns = std::min(next_ns, state_.health.next_probe_ns());
  return next_ns;
}

// --- The disk -----------------------------------------------------------------------------------

/// Down answers at once: loads and lookups are misses, stores and deletes are refused.
void LogPath::tell_intake() noexcept {
  const bool is_down = state_.health.is_down();
  if (is_down != state_.intake.is_down()) state_.intake.set_down(is_down);
}

void LogPath::note_unblocked() noexcept {
  state_.counters.stalls_total.add();
  state_.health.note_unblocked(state_.clock.now_ns());
}

void LogPath::watch_stalls(std::uint64_t now_ns) noexcept {
  const std::uint64_t stall_ns = state_.options.stall_ns;
  // A process that was stopped, or starved: what was in flight gets its whole time once more.
  const bool has_overslept = next_turn_ns_ != kNever && now_ns > next_turn_ns_ + stall_ns / 2;
  if (has_overslept) no_stall_before_ns_ = now_ns + stall_ns;
  const std::uint64_t oldest_ns = state_.transfers.oldest_submitted_ns();
  const bool is_stalled =
      oldest_ns != kNever && now_ns >= oldest_ns + stall_ns && now_ns >= no_stall_before_ns_;
  if (is_stalled && !state_.health.is_down()) {
    state_.counters.stalls_total.add();
    state_.health.note_stall(now_ns, now_ns - oldest_ns);
  }
  if (state_.health.is_down()) {
    loads_.fail_waiting();
    appender_.fail_waiting();
  }
  if (now_ns < state_.health.next_probe_ns() || probe_.is_busy()) return;
  if (is_stalled) {
    state_.health.note_probe(now_ns, false);  // What stalls has to end first.
  } else {
    probe_.start(superblock_file_->file());
  }
}

void LogPath::Probe::start(io::FileId file) noexcept {
  if (memory_.size() == 0) {
    auto memory = AlignedBuffer::create(kSuperblockCopyStride, kGrainBytesMax);
    if (!memory) return;
    memory_ = std::move(*memory);
  }
  file_ = file;
  is_busy_ = true;
  const std::string& note = state_.options.owner_note;
  std::ranges::fill(memory_.span(), std::byte{0});
  std::memcpy(memory_.data(), note.data(), std::min(note.size(), kOwnerNoteBytesMax));
  submit(io::Operation::kWrite, kOwnerNoteOffset);
}

void LogPath::Probe::submit(io::Operation operation, std::uint64_t offset) noexcept {
  Transfer* const transfer = state_.transfers.acquire_internal();
  transfer->request.operation = operation;
  transfer->request.file = file_;
  transfer->request.offset = offset;
  transfer->vectors.push_back({.iov_base = memory_.data(), .iov_len = memory_.size()});
  transfer->sink = this;
  state_.transfers.submit(*transfer);
}

void LogPath::Probe::on_transfer(Transfer& transfer) noexcept {
  const bool succeeded = transfer.succeeded();
  const bool was_write = transfer.request.operation == io::Operation::kWrite;
  // A full file system says nothing about reads.
  const int sys_errno = transfer.request.sys_errno;
  const bool is_full = was_write && is_lack_of_space(sys_errno);
  state_.transfers.release(transfer);
  if ((succeeded || is_full) && was_write) return submit(io::Operation::kRead, 0);
  is_busy_ = false;
  state_.health.note_probe(state_.clock.now_ns(), succeeded);
}

/// The file system's own calls, and syncs, have no deadline, but no new segment waits for them.
void LogPath::watch_files(std::uint64_t now_ns) noexcept {
  const std::uint64_t sync_ns = state_.transfers.oldest_sync_submitted_ns();
  if ((sync_ns != kNever && now_ns >= sync_ns + state_.options.stall_ns) != are_syncs_stalled_) {
    are_syncs_stalled_ = !are_syncs_stalled_;
    appender_.set_syncs_stalled(are_syncs_stalled_);
    state_.health.set_condition("syncs", are_syncs_stalled_
                                             ? "a sync has had no answer for longer than stall=; "
                                               "what needs a new segment is refused"
                                             : "");
  }
  const std::uint64_t oldest_ns = state_.file_calls->oldest_submitted_ns();
  const bool is_stalled = oldest_ns != kNever && now_ns >= oldest_ns + state_.options.stall_ns;
  if (is_stalled == are_files_stalled_) return;
  are_files_stalled_ = is_stalled;
  appender_.set_files_stalled(is_stalled);
  state_.health.set_condition("files", is_stalled ? "the file system does not answer (" +
                                                        state_.file_calls->oldest() +
                                                        "); what needs a new segment is refused"
                                                  : "");
}

/// A session that began on a full file system begins in earnest once its open count is raised.
void LogPath::thaw(bool may_try) noexcept {
  if (!state_.is_frozen) return;
  if (const auto written = superblock_writer_.take()) {
    if (!*written) return;  // Again later.
    state_.is_frozen = false;
    appender_.begin_generations(state_.superblock.open_count);
    return state_.health.set_condition("superblock", {});
  }
  if (may_try && !superblock_writer_.is_busy()) superblock_writer_.start(*superblock_file_);
}

void LogPath::watch_space(std::uint64_t now_ns) noexcept {
  const bool is_due = now_ns >= next_space_check_ns_;
  thaw(is_due && !is_stopping_);
  if (!is_due) return;
  next_space_check_ns_ = now_ns + kSpaceCheckEveryNs;
  if (look_call_.is_busy()) return;
  look_call_.kind = FileCall::Kind::kLook;
  look_call_.name = kSuperblockFileName;
  look_call_.sink = this;
  state_.file_calls->submit(look_call_);
}

void LogPath::on_file_call(FileCall& call) noexcept {
  const bool is_another = call.inode != 0 && call.inode != superblock_inode_;
  const bool is_lost = call.is_missing || is_another;
  state_.health.set_condition(
      "removed", is_lost ? "the store's files were removed, or others put in their place: what it "
                           "has is served on and lost when it is closed; stop it and open it anew"
                         : "");
  if (call.status) apply_space(call.space, !is_lost);
}

/// `min_free` is the file system's floor: below it nothing grows, and free segments are given back.
void LogPath::apply_space(const io::Space& space, bool may_add_files) noexcept {
  const std::uint64_t segment_bytes = state_.segments.geometry().segment_bytes;
  const std::uint64_t min_free = state_.options.min_free_bytes;
  const bool may_grow = space.free_bytes >= min_free + segment_bytes;
  if (state_.is_frozen) return;
  appender_.set_growth(may_grow && may_add_files);
  if (may_grow || state_.segments.absent_count() == 0) {
    state_.health.set_condition("growth", {});
  } else {
    state_.health.set_condition(
        "growth",
        "the file system is too full to grow the store to its capacity: free "
        "some space, or lower capacity or min_free");
  }
  if (space.free_bytes < min_free && state_.segments.free_count() > kFreeKept) {
    return appender_.give_back();
  }
  if (may_add_files) appender_.retry_files();
}

void LogPath::publish_gauges() noexcept {
  PathCounters& counters = state_.counters;
  counters.transfers_in_flight.set(state_.transfers.in_flight());
  const std::uint64_t files = state_.segments.files_count();
  counters.segments_free.set(appender_.free_segments());
  counters.segments_used.set(files - std::min<std::uint64_t>(files, state_.segments.free_count()));
  counters.segments_sealing.set(appender_.sealing());
  counters.segments_reclaiming.set(reclaimer_.is_reclaiming() ? 1 : 0);
  counters.bytes_on_disk.set(files * state_.segments.geometry().segment_bytes +
                             kSuperblockFileBytes);
  counters.bytes_live.set(state_.segments.live_bytes());
}

// --- The end ------------------------------------------------------------------------------------

void LogPath::begin_stop() noexcept {
  is_stopping_ = true;
  reclaimer_.stop();
  scanner_.stop();
}

bool LogPath::is_idle() const noexcept {
  return loads_.in_flight() == 0 && appender_.in_flight() == 0 && appender_.is_quiet() &&
         reclaimer_.is_quiet() && scanner_.is_quiet() && !superblock_writer_.is_busy() &&
         !probe_.is_busy() && state_.file_calls->is_quiet() && state_.transfers.in_flight() == 0;
}

Status LogPath::write_checkpoint(std::uint32_t number, TableBuilder& table) noexcept {
  BlockingIo io{state_.queue, state_.clock};
  const Segment& segment = state_.segments.at(number);
  const Geometry& geometry = state_.segments.geometry();
  LARDER_TRY(io.sync(segment.file));
  LARDER_ASSIGN(
      const AlignedBuffer bytes,
      table.encode(TableKind::kCheckpoint, state_.identity(number), state_.superblock.open_count,
                   segment.append_offset, geometry, state_.superblock.secret));
  LARDER_TRY(io.write(segment.file, geometry.segment_bytes - bytes.size(), bytes.span()));
  return io.sync(segment.file);
}

Status LogPath::close() noexcept {
  LARDER_CHECK(is_idle());
  if (state_.is_frozen) return {};  // Nothing was written: what the superblock says is still true.
  if (const auto head = appender_.head()) {
    Segment& segment = state_.segments.at(*head);
    if (segment.sync_failed) return Error{ErrorCode::kIo, "log", "a sync had failed"};
    LARDER_TRY(write_checkpoint(*head, *segment.table));
  }
  if (const auto ready = appender_.ready()) {
    TableBuilder empty;
    state_.segments.at(*ready).append_offset = state_.grain_bytes();
    LARDER_TRY(write_checkpoint(*ready, empty));
  }
  state_.superblock.is_clean = true;
  state_.superblock.segment_files = state_.segments.whole_files_count();
  return superblock_file_->write(state_.superblock);
}

}  // namespace larder::log_store
