// The appender's own I/O: segments from free to ready, from full to sealed, and group commit.
#include <algorithm>
#include <array>

#include "larder/base/check.h"
#include "larder/connectors/log/appender.h"
#include "larder/connectors/log/file_names.h"
#include "larder/connectors/log/rule.h"

namespace larder::log_store {
namespace {

/// A sync starts without waiting for the rest of a batch when this many tasks wait for it.
constexpr std::size_t kSyncGroupMax = 64;

}  // namespace

std::uint32_t Appender::free_segments() const noexcept {
  const bool is_growing = file_call_.is_busy() && file_call_.kind == FileCall::Kind::kMake;
  const std::uint32_t on_the_way =
      (ready_ ? 1U : 0U) + (is_preparing_ ? 1U : 0U) + (is_growing ? 1U : 0U);
  return on_the_way + state_.segments.free_count() +
         (may_grow_ ? state_.segments.absent_count() : 0U);
}

// --- From free to ready (L2) --------------------------------------------------------------------

/// The segment that can be overwritten next; nothing while that has to wait, or there is none.
std::optional<std::uint32_t> Appender::take_free() noexcept {
  while (settle_files()) {
    std::optional<std::uint32_t> next = state_.segments.next_free();
    waits_for_copies_ = next && state_.segments.waits_for_its_copies(*next);
    if (!next || waits_for_copies_) {
      if (!grow()) return std::nullopt;
      next = state_.segments.next_free();  // The new one.
    }
    if (has_blocks_of_its_own(*next)) {
      looked_at_.reset();
      return next;
    }
    if (to_remove_.empty()) return std::nullopt;  // Else it is made anew.
  }
  return std::nullopt;
}

void Appender::prepare_next() noexcept {
  waits_for_copies_ = false;
  if (ready_ || is_preparing_ || state_.is_frozen || state_.health.is_down()) return;
  const auto next = take_free();
  if (!next) return;
  auto buffer = AlignedBuffer::create(state_.grain_bytes(), state_.grain_bytes());
  if (!buffer) return;
  state_.segments.begin_preparing(*next, ++generation_);
  is_preparing_ = true;
  auto work = std::make_unique<SegmentWork>();
  work->segment = *next;
  work->step = Step::kHeaderWrite;
  work->buffer = std::move(*buffer);
  encode_segment_header(state_.identity(*next), state_.clock.wall_seconds(),
                        state_.superblock.secret, work->buffer.span());
  works_.push_back(std::move(work));
  if (!state_.segments.at(*next).has_failed_header || is_broken(Rule::kSettleFailedHeader)) {
    return submit_work(*works_.back(), 0);
  }
  works_.back()->step = Step::kSettle;
  submit_work_sync(*works_.back());
}

void Appender::on_prepared(SegmentWork& work) noexcept {
  Segment& segment = state_.segments.at(work.segment);
  is_preparing_ = false;
  if (work.failed && lacks_space_) {
    // It stays the next one: to take another would evict what that holds, for nothing.
    segment.has_failed_header = true;
    return state_.segments.put_back(work.segment);
  }
  if (work.failed) return give_up(work.segment);
  segment.has_failed_header = false;
  state_.health.set_condition("header", {});
  state_.health.set_condition("removal", {});
  state_.segments.note_ready(work.segment);
  ready_ = work.segment;
}

/// A segment whose header cannot be written may still hold its old records. They must be gone for
/// good before the next segment is overwritten, whose tombstones are for them (L9).
void Appender::give_up(std::uint32_t number) noexcept {
  state_.segments.at(number).has_failed_header = true;
  state_.counters.segments_failed.add();
  state_.health.set_condition("header", segment_file_name(number) +
                                            ": its header could not be written; the file is made "
                                            "anew");
  remove_file(number);
  settle_files();
}

// --- From full to sealed (L11) ------------------------------------------------------------------

void Appender::seal_head() noexcept {
  if (tombstones_ != nullptr && tombstones_->location.segment == *head_) flush_tombstones();
  state_.segments.begin_sealing(*head_);
  ++sealing_;
  const std::uint32_t sealed = *head_;
  head_.reset();
  step_sealing(sealed);
}

/// A place was settled: written and published, or dead.
void Appender::settle_write(std::uint32_t segment_number) noexcept {
  Segment& segment = state_.segments.at(segment_number);
  LARDER_CHECK(segment.writes_in_flight > 0);
  --segment.writes_in_flight;
  if (segment.state() == SegmentState::kSealing) step_sealing(segment_number);
}

void Appender::step_sealing(std::uint32_t segment_number) noexcept {
  Segment& segment = state_.segments.at(segment_number);
  if (segment.writes_in_flight > 0 && !is_broken(Rule::kSealWaitsForWrites)) return;
  if (segment.sync_failed) {  // L13: no table; recovery looks at every grain.
    state_.segments.note_sealed(segment_number);
    --sealing_;
    return;
  }
  auto work = std::make_unique<SegmentWork>();
  work->segment = segment_number;
  work->step = Step::kSync;
  works_.push_back(std::move(work));
  if (is_broken(Rule::kSealSyncsFirst)) return end_work(*works_.back());
  submit_work_sync(*works_.back());
}

void Appender::on_sealed(SegmentWork& work) noexcept {
  state_.segments.note_sealed(work.segment);
  --sealing_;
  state_.counters.segments_sealed_total.add();
  // A segment whose table is not on disk keeps it in memory, for reclaim and scan.
  if (!work.failed) state_.segments.at(work.segment).table.reset();
}

// --- Steps of both ------------------------------------------------------------------------------

/// Writes the work's buffer at `offset`, in transfers of at most `io_bytes`.
void Appender::submit_work(SegmentWork& work, std::uint64_t offset) noexcept {
  std::span<std::byte> rest = work.buffer.span();
  // The sum first, so that no completion can find the count at zero in between.
  work.in_flight = static_cast<std::uint32_t>((rest.size() + state_.options.io_bytes - 1) /
                                              state_.options.io_bytes);
  internal_in_flight_ += work.in_flight;
  while (!rest.empty()) {
    const std::size_t bytes = std::min<std::size_t>(rest.size(), state_.options.io_bytes);
    Transfer* const transfer = state_.transfers.acquire_internal();
    transfer->request.operation = io::Operation::kWrite;
    transfer->request.file = state_.segments.at(work.segment).file;
    transfer->request.offset = offset;
    transfer->vectors.push_back({.iov_base = rest.data(), .iov_len = bytes});
    transfer->sink = this;
    transfer->task = &work;
    transfer->purpose = kWork;
    state_.transfers.submit(*transfer);
    rest = rest.subspan(bytes);
    offset += bytes;
  }
}

void Appender::submit_work_sync(SegmentWork& work) noexcept {
  Transfer* const transfer = state_.transfers.acquire_internal();
  transfer->request.operation = io::Operation::kSync;
  transfer->request.file = state_.segments.at(work.segment).file;
  transfer->sink = this;
  transfer->task = &work;
  transfer->purpose = kWork;
  work.in_flight = 1;
  ++internal_in_flight_;
  state_.counters.syncs_total.add();
  state_.transfers.submit(*transfer);
}

void Appender::on_work(Transfer& transfer) noexcept {
  SegmentWork& work = *static_cast<SegmentWork*>(transfer.task);
  if (!transfer.succeeded()) {
    work.failed = true;
    const int sys_errno = transfer.request.sys_errno != 0 ? transfer.request.sys_errno : EIO;
    if (transfer.request.operation == io::Operation::kSync)
      state_.counters.sync_failures_total.add();
    note_io_error("writing or syncing a segment", sys_errno);
  }
  state_.transfers.release(transfer);
  --internal_in_flight_;
  if (--work.in_flight > 0) return;
  end_work(work);
}

/// All transfers of a step have ended: the next step, or the end.
void Appender::end_work(SegmentWork& work) noexcept {
  Segment& segment = state_.segments.at(work.segment);
  switch (work.step) {
    case Step::kSettle:
      if (work.failed) break;
      work.step = Step::kHeaderWrite;
      return submit_work(work, 0);
    case Step::kHeaderWrite:
      if (work.failed || is_broken(Rule::kSyncHeaderFirst)) break;
      work.step = Step::kHeaderSync;
      return submit_work_sync(work);
    case Step::kSync: {
      // L13. Also when a group's sync failed meanwhile: this one proves nothing then.
      if (work.failed) segment.sync_failed = !is_broken(Rule::kFailedSyncClosesSegment);
      if (segment.sync_failed) {
        work.failed = true;
        break;
      }
      auto table = segment.table->encode(TableKind::kSealed, state_.identity(work.segment),
                                         state_.superblock.open_count, segment.append_offset,
                                         state_.segments.geometry(), state_.superblock.secret);
      if (!table) {
        work.failed = true;
        break;
      }
      work.buffer = std::move(*table);
      work.step = Step::kTableWrite;
      return submit_work(work, state_.segments.geometry().segment_bytes - work.buffer.size());
    }
    case Step::kTableWrite:
      if (work.failed || is_broken(Rule::kSealSyncsTable)) break;
      work.step = Step::kTableSync;
      return submit_work_sync(work);
    case Step::kHeaderSync:
    case Step::kTableSync:
      break;
  }
  if (work.step <= Step::kHeaderSync) {
    on_prepared(work);
  } else {
    on_sealed(work);
  }
  std::erase_if(works_, [&](const auto& owned) { return owned.get() == &work; });
}

// --- Group commit -------------------------------------------------------------------------------

Appender::SyncGroup& Appender::group_of(std::uint32_t segment) {
  for (const auto& group : groups_) {
    if (group->segment == segment) return *group;
  }
  groups_.push_back(std::make_unique<SyncGroup>());
  groups_.back()->segment = segment;
  groups_.back()->pin = state_.segments.pin(segment);
  return *groups_.back();
}

void Appender::start_due_syncs() noexcept {
  // When everything in flight waits for a sync, nothing else will make one due.
  const bool nothing_else = tasks_waiting_for_sync_ == tasks_in_flight_;
  for (const auto& group : groups_) {
    const std::size_t waiting = group->waiting.size() + group->waiting_deletes.size();
    if (group->in_flight || waiting == 0) continue;
    if (!group->is_due && waiting < kSyncGroupMax && !nothing_else) continue;
    Transfer* const transfer = state_.transfers.acquire_internal();
    group->in_flight = true;
    group->is_due = false;
    group->covered.swap(group->waiting);
    group->covered_deletes.swap(group->waiting_deletes);
    transfer->request.operation = io::Operation::kSync;
    transfer->request.file = state_.segments.at(group->segment).file;
    transfer->sink = this;
    transfer->task = group.get();
    transfer->purpose = kGroupSync;
    ++internal_in_flight_;
    state_.counters.syncs_total.add();
    state_.transfers.submit(*transfer);
  }
}

void Appender::on_group_synced(Transfer& transfer) noexcept {
  SyncGroup& group = *static_cast<SyncGroup*>(transfer.task);
  const std::uint32_t segment_number = group.segment;
  Segment& segment = state_.segments.at(segment_number);
  Error error;
  // L13. Those that came meanwhile too, and those whose sync crossed with a failed one of the seal:
  // a sync that succeeds after one that failed proves nothing.
  const bool failed_before = segment.sync_failed && !is_broken(Rule::kFailedSyncLasts);
  if (!transfer.succeeded() || failed_before) {
    const int sys_errno = transfer.succeeded() ? EIO : transfer.request.sys_errno;
    group.covered.insert(group.covered.end(), group.waiting.begin(), group.waiting.end());
    group.waiting.clear();
    group.covered_deletes.insert(group.covered_deletes.end(), group.waiting_deletes.begin(),
                                 group.waiting_deletes.end());
    group.waiting_deletes.clear();
    error = Error::from_errno(sys_errno, "log", "syncing a segment");
    segment.sync_failed = !is_broken(Rule::kFailedSyncClosesSegment);
    state_.counters.sync_failures_total.add();
    if (!is_broken(Rule::kFailedSyncDegrades)) note_io_error("syncing a segment", sys_errno);
    if (head_ == segment_number && segment.sync_failed) seal_head();
  }
  state_.transfers.release(transfer);
  --internal_in_flight_;
  group.in_flight = false;
  std::vector<StoreTask*> stores;
  std::vector<DeleteTask*> deletes;
  stores.swap(group.covered);
  deletes.swap(group.covered_deletes);
  const auto ended = static_cast<std::uint32_t>(stores.size() + deletes.size());
  LARDER_CHECK(tasks_waiting_for_sync_ >= ended);
  tasks_waiting_for_sync_ -= ended;
  if (group.waiting.empty() && group.waiting_deletes.empty()) {
    std::erase_if(groups_, [&](const auto& owned) { return owned.get() == &group; });
  }
  if (is_broken(Rule::kFailedSyncFailsBatches)) error = {};
  for (StoreTask* const task : stores) {
    task->error = error;
    end(*task);
  }
  for (DeleteTask* const task : deletes) {
    task->error = error;
    end(*task);
  }
}

}  // namespace larder::log_store
