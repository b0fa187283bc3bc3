// What a path does because time passes: deadlines, cancellation, stalls, disk space, and its end.
#include <algorithm>

#include "larder/base/check.h"
#include "larder/connectors/log/path.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kSpaceCheckEveryNs = 1'000'000'000;
constexpr std::size_t kShunnedMax = 65536;
/// Free segments that are kept when the file system runs low.
constexpr std::uint32_t kFreeKept = 2;

constexpr Error kDeadlineError{ErrorCode::kDeadlineExceeded, "log",
                               "the deadline passed in the queue"};
constexpr Error kCancelledError{ErrorCode::kCancelled, "log", "cancelled"};
constexpr Error kStoppedError{ErrorCode::kCancelled, "log", "the store was stopped"};

}  // namespace

std::uint64_t LogPath::next_timer_ns() const noexcept {
  std::uint64_t next_ns = std::min(next_deadline_ns_, next_space_check_ns_);
  if (const std::uint64_t oldest_ns = state_.transfers.oldest_submitted_ns(); oldest_ns != kNever) {
    const std::uint64_t stalled_ns = oldest_ns + state_.options.stall_ns;
    // Once it has stalled, watching for more is the probe's business.
    if (!state_.health.is_down()) next_ns = std::min(next_ns, stalled_ns);
  }
  if (!probe_.is_busy()) next_ns = std::min(next_ns, state_.health.next_probe_ns());
  if (!forgive_at_ns_.empty()) next_ns = std::min(next_ns, forgive_at_ns_.front().first);
  return next_ns;
}

// --- Deadlines and cancellation -----------------------------------------------------------------

/// Fails the items of a queued batch that nobody has begun. The batch has left its queue.
void LogPath::fail_rest(Batch& batch, const Error& error) noexcept {
  const std::uint64_t now_ns = state_.clock.now_ns();
  const std::size_t first = cursor(batch);
  // One more reference, so that the batch is still ours while we walk over it.
  batch.connector_pending.fetch_add(1, std::memory_order_relaxed);
  for (Item& item : batch.items.subspan(first)) {
    if (error.code() == ErrorCode::kDeadlineExceeded) {
      state_.counters.deadlines_total.add();
      if (batch.op == Op::kGet) shun(item.key, now_ns);
    } else {
      state_.counters.cancelled_total.add();
    }
    end_item(batch, item, Outcome::kFailed, error);
  }
  const std::uint32_t before = batch.connector_pending.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & ~kCancelBit) == 1) sink_.on_batch(batch);
}

void LogPath::end_queued(bool (*is_due)(const Batch&, std::uint64_t), std::uint64_t now_ns,
                         const Error& error) noexcept {
  for (Queue& queue : queues_) {
    Batch* previous = nullptr;
    for (Batch* batch = queue.head; batch != nullptr;) {
      Batch* const next = batch->connector_next;
      if (!is_due(*batch, now_ns)) {
        previous = batch;
      } else {
        (previous == nullptr ? queue.head : previous->connector_next) = next;
        if (queue.tail == batch) queue.tail = previous;
        --batches_queued_;
        fail_rest(*batch, error);
      }
      batch = next;
    }
  }
}

void LogPath::expire(std::uint64_t now_ns) noexcept {
  if (has_cancelled_.exchange(false, std::memory_order_acquire)) {
    end_queued(
        [](const Batch& batch, std::uint64_t) {
          return (batch.connector_pending.load(std::memory_order_acquire) & kCancelBit) != 0;
        },
        now_ns, kCancelledError);
  }
  if (now_ns >= next_deadline_ns_) {
    end_queued([](const Batch& batch, std::uint64_t now) { return now >= batch.deadline_ns; },
               now_ns, kDeadlineError);
    next_deadline_ns_ = kNever;
    for (const Queue& queue : queues_) {
      for (const Batch* batch = queue.head; batch != nullptr; batch = batch->connector_next) {
        next_deadline_ns_ = std::min(next_deadline_ns_, batch->deadline_ns);
      }
    }
  }
  forgive(now_ns);
}

/// C6: the value may be well, but who asked for it must not ask again at once.
void LogPath::shun(std::span<const std::byte> key, std::uint64_t now_ns) noexcept {
  if (key.empty() || key.size() > kKeyBytesMax) return;
  const Fingerprint fingerprint = state_.fingerprint(key);
  const auto entry = state_.index.find(fingerprint);
  if (!entry) return;
  if (forgive_at_ns_.size() >= kShunnedMax) {
    state_.forget_failed(fingerprint, entry->location, key);  // A miss too, and for longer.
    return;
  }
  const std::uint64_t until_ns = now_ns + state_.options.miss_after_failure_ns;
  state_.index.set_shunned(fingerprint, true);
  shunned_until_ns_[fingerprint] = until_ns;
  forgive_at_ns_.emplace_back(until_ns, fingerprint);
}

void LogPath::forgive(std::uint64_t now_ns) noexcept {
  while (!forgive_at_ns_.empty() && forgive_at_ns_.front().first <= now_ns) {
    const auto [until_ns, fingerprint] = forgive_at_ns_.front();
    forgive_at_ns_.pop_front();
    const auto at = shunned_until_ns_.find(fingerprint);
    if (at == shunned_until_ns_.end() || at->second != until_ns) continue;  // Shunned again since.
    shunned_until_ns_.erase(at);
    state_.index.set_shunned(fingerprint, false);
  }
}

// --- The disk -----------------------------------------------------------------------------------

void LogPath::watch_stalls(std::uint64_t now_ns) noexcept {
  const std::uint64_t oldest_ns = state_.transfers.oldest_submitted_ns();
  const bool is_stalled = oldest_ns != kNever && now_ns >= oldest_ns + state_.options.stall_ns;
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
  if (grain_.size() == 0) {
    auto grain = AlignedBuffer::create(kSuperblockCopyStride, kGrainBytesMax);
    if (!grain) return;
    grain_ = std::move(*grain);
  }
  is_busy_ = true;
  Transfer* const transfer = state_.transfers.acquire_internal();
  transfer->request.operation = io::Operation::kRead;
  transfer->request.file = file;
  transfer->request.offset = 0;
  transfer->vectors.push_back({.iov_base = grain_.data(), .iov_len = grain_.size()});
  transfer->sink = this;
  state_.transfers.submit(*transfer);
}

void LogPath::Probe::on_transfer(Transfer& transfer) noexcept {
  is_busy_ = false;
  const bool succeeded = transfer.succeeded();
  state_.transfers.release(transfer);
  state_.health.note_probe(state_.clock.now_ns(), succeeded);
}

/// `min_free` is the file system's floor: below it nothing grows, and free segments are given back.
void LogPath::watch_space(std::uint64_t now_ns) noexcept {
  if (now_ns < next_space_check_ns_) return;
  next_space_check_ns_ = now_ns + kSpaceCheckEveryNs;
  const auto space = state_.device.space();
  if (!space) return;
  const std::uint64_t segment_bytes = state_.segments.geometry().segment_bytes;
  const std::uint64_t min_free = state_.options.min_free_bytes;
  const bool may_grow = space->free_bytes >= min_free + segment_bytes;
  appender_.set_growth(may_grow);
  if (may_grow || state_.segments.absent_count() == 0) {
    state_.health.set_condition("growth", {});
  } else {
    state_.health.set_condition(
        "growth",
        "the file system is too full to grow the store to its capacity: free "
        "some space, or lower capacity or min_free");
  }
  if (space->free_bytes >= min_free || state_.segments.free_count() <= kFreeKept) return;
  const std::uint32_t number = *state_.segments.next_free();
  if (state_.segments.waits_for_its_copies(number)) return;
  state_.segments.give_back(number);
  state_.device.close(state_.segments.at(number).file);
  state_.device.remove(segment_file_name(number)).ignore("the next open finds it");
  appender_.owe_directory_sync();
  state_.counters.segments_given_back_total.add();
}

void LogPath::publish_gauges() noexcept {
  PathCounters& counters = state_.counters;
  counters.queued_batches.set(batches_queued_);
  counters.transfers_in_flight.set(state_.transfers.in_flight());
  const std::uint64_t files = state_.segments.files_count();
  counters.segments_free.set(appender_.free_segments());
  counters.segments_used.set(files - std::min<std::uint64_t>(files, state_.segments.free_count()));
  counters.bytes_on_disk.set(files * state_.segments.geometry().segment_bytes +
                             kSuperblockFileBytes);
  counters.bytes_live.set(state_.segments.live_bytes());
}

// --- The end ------------------------------------------------------------------------------------

void LogPath::begin_stop() noexcept {
  reclaimer_.stop();
  scanner_.stop();
  end_queued([](const Batch&, std::uint64_t) { return true; }, state_.clock.now_ns(),
             kStoppedError);
}

bool LogPath::is_idle() const noexcept {
  return batches_queued_ == 0 && loads_.in_flight() == 0 && appender_.in_flight() == 0 &&
         appender_.is_quiet() && reclaimer_.is_quiet() && scanner_.is_quiet() &&
         !probe_.is_busy() && state_.transfers.in_flight() == 0;
}

Status LogPath::write_checkpoint(std::uint32_t number, TableBuilder& table) noexcept {
  BlockingIo io{state_.device, state_.clock};
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
  return superblock_file_->write(state_.superblock);
}

}  // namespace larder::log_store
