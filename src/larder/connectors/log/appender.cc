#include "larder/connectors/log/appender.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/result.h"
#include "larder/connectors/log/rule.h"

namespace larder::log_store {
namespace {

constexpr std::uint32_t kPiecesInFlightMax = 8;

}  // namespace

// --- Places -------------------------------------------------------------------------------------

Error Appender::refusal() const noexcept {
  const char* what = "no free segment; the store was refused";
  if (state_.is_frozen) {
    what = "the superblock could not be written for lack of space; the store was refused";
  } else if (lacks_space_ || is_shared_) {
    what = "the file system has no space to overwrite a segment; the store was refused";
  }
  return Error{ErrorCode::kResourceExhausted, "log", what};
}

Admission Appender::make_room(std::uint64_t bytes, std::uint64_t entries,
                              std::uint64_t key_bytes) noexcept {
  // Each try would use up a place, and in time evict what is there for nothing.
  if (lacks_space_ || state_.is_frozen) return Admission::kRefused;
  if (head_) {
    const Segment& head = state_.segments.at(*head_);
    const std::uint64_t end = head.append_offset + bytes +
                              head.table->bytes_with(entries, key_bytes, state_.grain_bytes());
    if (end <= state_.segments.geometry().segment_bytes) return Admission::kStarted;
    seal_head();
  }
  if (!ready_) {
    prepare_next();
    const bool waits_for_file = file_call_.is_busy() && !are_files_stalled_;
    const bool waits_for_sync = (is_preparing_ || waits_for_copies_) && !are_syncs_stalled_;
    const bool waits = waits_for_sync || waits_for_file || is_broken(Rule::kNeverWaitForReclaim);
    return waits ? Admission::kWait : Admission::kRefused;
  }
  head_ = ready_;
  ready_.reset();
  state_.segments.begin_appending(*head_);
  return Admission::kStarted;
}

Location Appender::allocate(std::uint64_t bytes, std::uint64_t entries,
                            std::uint64_t key_bytes) noexcept {
  Segment& head = state_.segments.at(*head_);
  const Location location{
      .segment = *head_,
      .grain = static_cast<std::uint32_t>(head.append_offset / state_.grain_bytes())};
  head.append_offset += bytes;
  ++head.writes_in_flight;
  head.table->reserve(entries, key_bytes);
  return location;
}

// --- Records ------------------------------------------------------------------------------------

bool Appender::is_long(const StoreTask& task) const noexcept {
  return record_bytes(task.value_bytes, state_.grain_bytes()) > state_.options.io_bytes;
}

Admission Appender::start_store(StoreTask& task) noexcept {
  const std::uint64_t bytes = record_bytes(task.value_bytes, state_.grain_bytes());
  const Admission admission = make_room(bytes, 1, task.key.size());
  if (admission != Admission::kStarted) return admission;
  if (task.header.size() == 0) {
    auto header = AlignedBuffer::create(state_.grain_bytes(), state_.grain_bytes());
    if (!header) return Admission::kRefused;
    task.header = std::move(*header);
  }
  task.error = {};
  task.was_published = false;
  task.is_waiting = task.header_submitted = false;
  task.submitted = 0;
  task.transfers_in_flight = 0;
  task.next_in_write = nullptr;
  task.location = allocate(bytes, 1, task.key.size());
  state_.guard.enter(task.fingerprint);
  if (!task.source)
    state_.guard.note_store(task.fingerprint, state_.segments.place_of(task.location));
  ++tasks_in_flight_;
  begin_record(task);
  return Admission::kStarted;
}

void Appender::begin_record(StoreTask& task) noexcept {
  if (is_broken(Rule::kPublishWhenComplete)) {
    state_.publish(task.fingerprint, {.location = task.location,
                                      .value_bytes = static_cast<std::uint32_t>(task.value_bytes)});
  }
  task.is_direct = is_aligned(task.value, task.value_bytes, state_.alignment);
  task.is_hashed = task.source.has_value();  // A move carries its checksum over (L8).
  if (!task.is_hashed) {
    task.hash.reset();
    task.hash_memory.clear();
    append_range(task.hash_memory, task.value, 0, task.value_bytes);
    if (task.value_bytes < kHashInlineBytesMax) {
      for (const iovec& part : task.hash_memory) {
        task.hash.update({static_cast<const std::byte*>(part.iov_base), part.iov_len});
      }
      task.checksum = task.hash.digest();
      task.is_hashed = true;
    } else {
      task.hash_job = {.memory = task.hash_memory,
                       .state = &task.hash,
                       .user_data = &task,
                       .tag = kHashOfStoreTask};
      state_.hash_pool->submit(task.hash_job);
    }
  }
  write(task);
}

void Appender::on_hashed(StoreTask& task) noexcept {
  task.checksum = task.hash.digest();
  task.is_hashed = true;
  write(task);
}

/// Goes on with whatever the record is ready for.
void Appender::write(StoreTask& task) noexcept {
  if (!is_long(task)) {
    if (task.is_hashed) gather(task);
    return;
  }
  if (task.is_waiting) return;
  if (!submit_pieces(task)) wait(task);
  if (task.transfers_in_flight == 0 && task.is_hashed && !task.is_waiting) settle(task);
}

void Appender::wait(StoreTask& task) noexcept {
  task.is_waiting = true;
  waiting_.push_back(&task);
}

void Appender::fill_header(StoreTask& task) noexcept {
  const RecordHeader header{.kind = RecordKind::kValue,
                            .offset = std::uint64_t{task.location.grain} * state_.grain_bytes(),
                            .value_bytes = task.value_bytes,
                            .wall_seconds = state_.clock.wall_seconds(),
                            .checksum = task.checksum,
                            .payload = task.key};
  encode_record_header(header, state_.identity(task.location.segment), state_.superblock.secret,
                       task.header.span());
}

/// Joins the run of neighbours that is written together, or ends it and begins the next.
void Appender::gather(StoreTask& task) noexcept {
  fill_header(task);
  const std::uint64_t bytes = record_bytes(task.value_bytes, state_.grain_bytes());
  const std::size_t vectors = task.value.size() + 2;
  if (run_last_ != nullptr) {
    const std::uint64_t run_end = std::uint64_t{run_last_->location.grain} * state_.grain_bytes() +
                                  record_bytes(run_last_->value_bytes, state_.grain_bytes());
    const bool is_neighbour = run_last_->location.segment == task.location.segment &&
                              run_end == std::uint64_t{task.location.grain} * state_.grain_bytes();
    if (!is_neighbour || run_bytes_ + bytes > state_.options.coalesce_bytes ||
        run_vectors_ + vectors > io::kBuffersMax) {
      flush_run();
    }
  }
  (run_last_ == nullptr ? run_first_ : run_last_->next_in_write) = &task;
  run_last_ = &task;
  run_bytes_ += bytes;
  run_vectors_ += vectors;
}

void Appender::flush_run() noexcept {
  StoreTask* const first = run_first_;
  run_first_ = run_last_ = nullptr;
  run_bytes_ = 0;
  run_vectors_ = 0;
  if (first != nullptr && !submit_run(first)) wait(*first);
}

Transfer* Appender::acquire_write(std::uint32_t segment, std::uint64_t offset, Purpose purpose,
                                  void* task) noexcept {
  // Tombstones do not wait: a later delete would join them at a place before what came meanwhile.
  Transfer* const transfer =
      purpose == kTombstones ? state_.transfers.acquire_internal() : state_.transfers.acquire();
  if (transfer == nullptr) return nullptr;
  transfer->request.operation = io::Operation::kWrite;
  transfer->request.file = state_.segments.at(segment).file;
  transfer->request.offset = offset;
  transfer->sink = this;
  transfer->task = task;
  transfer->purpose = purpose;
  return transfer;
}

void Appender::append_padding(Transfer& transfer, std::uint64_t value_bytes) {
  const std::uint32_t grain = state_.grain_bytes();
  const std::uint64_t padding = round_up(value_bytes, grain) - value_bytes;
  if (padding == 0) return;
  transfer.vectors.push_back({.iov_base = state_.zeros.data(), .iov_len = padding});
}

/// One write for a chain of neighbours; through staging memory when one of them misses the
/// alignment.
bool Appender::submit_run(StoreTask* first) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  bool is_direct = true;
  std::uint64_t bytes = 0;
  for (const StoreTask* task = first; task != nullptr; task = task->next_in_write) {
    is_direct = is_direct && task->is_direct;
    bytes += record_bytes(task->value_bytes, grain);
  }
  Transfer* const transfer = acquire_write(
      first->location.segment, std::uint64_t{first->location.grain} * grain, kRun, first);
  if (transfer == nullptr) return false;
  if (!is_direct) {
    transfer->staged = state_.staging.allocate(bytes);
    if (transfer->staged.empty()) {
      state_.transfers.release(*transfer);
      return false;
    }
    transfer->vectors.push_back({.iov_base = transfer->staged.data(), .iov_len = bytes});
  }
  std::span<std::byte> out = transfer->staged;
  for (StoreTask* task = first; task != nullptr; task = task->next_in_write) {
    task->transfers_in_flight = 1;
    task->header_submitted = true;
    if (is_direct) {
      transfer->vectors.push_back({.iov_base = task->header.data(), .iov_len = grain});
      append_range(transfer->vectors, task->value, 0, task->value_bytes);
      append_padding(*transfer, task->value_bytes);
      continue;
    }
    std::memcpy(out.data(), task->header.data(), grain);
    copy_from_slices(out.subspan(grain, task->value_bytes), task->value, 0);
    const std::uint64_t end = record_bytes(task->value_bytes, grain);
    std::ranges::fill(out.subspan(grain + task->value_bytes, end - grain - task->value_bytes),
                      std::byte{0});
    out = out.subspan(end);
    state_.counters.bytes_staged_total.add(task->value_bytes);
  }
  state_.transfers.submit(*transfer);
  return true;
}

/// The pieces of a long record, and its header once the checksum is known. False when something is
/// left that lacks a transfer or staging memory.
bool Appender::submit_pieces(StoreTask& task) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  const std::uint64_t record_at = std::uint64_t{task.location.grain} * grain;
  const bool is_well = task.error.code() == ErrorCode::kNone;
  while (is_well && task.submitted < task.value_bytes) {
    if (task.transfers_in_flight == kPiecesInFlightMax) return true;  // A completion goes on.
    const std::uint64_t from = task.submitted;
    const std::uint64_t to =
        std::min<std::uint64_t>(task.value_bytes, from + state_.options.io_bytes);
    Transfer* const transfer =
        acquire_write(task.location.segment, record_at + grain + from, kPiece, &task);
    if (transfer == nullptr) return false;
    if (task.is_direct) {
      append_range(transfer->vectors, task.value, from, to);
      append_padding(*transfer, to - from);
    } else {
      transfer->staged = state_.staging.allocate(round_up(to - from, grain));
      if (transfer->staged.empty()) {
        state_.transfers.release(*transfer);
        return false;
      }
      copy_from_slices(transfer->staged.first(to - from), task.value, from);
      std::ranges::fill(transfer->staged.subspan(to - from), std::byte{0});
      transfer->vectors.push_back(
          {.iov_base = transfer->staged.data(), .iov_len = transfer->staged.size()});
      state_.counters.bytes_staged_total.add(to - from);
    }
    task.submitted = to;
    ++task.transfers_in_flight;
    state_.transfers.submit(*transfer);
  }
  if (is_well && task.is_hashed && !task.header_submitted) {
    Transfer* const transfer = acquire_write(task.location.segment, record_at, kPiece, &task);
    if (transfer == nullptr) return false;
    fill_header(task);
    transfer->vectors.push_back({.iov_base = task.header.data(), .iov_len = grain});
    task.header_submitted = true;
    ++task.transfers_in_flight;
    state_.transfers.submit(*transfer);
  }
  return true;
}

/// A file system without room for what is overwritten (its blocks are shared with a copy, or it
/// always allocates) is not a bad disk: it serves loads, and stores wait for room.
void Appender::note_io_error(const char* what, int sys_errno) noexcept {
  if (!is_lack_of_space(sys_errno)) {
    state_.counters.io_errors_total.add();
    return state_.health.note_io_error(state_.clock.now_ns(), what, sys_errno);
  }
  state_.counters.no_space_total.add();
  lacks_space_ = says_it_lacks_space_ = true;
  state_.health.set_condition(
      "space",
      "the file system has no room to overwrite a segment (" + errno_text(sys_errno) +
          "): stores are refused, loads go on. Free some space, or remove copies and snapshots "
          "that share the store's blocks");
}

Error Appender::error_of_write(const Transfer& transfer) noexcept {
  return transfer.request.sys_errno != 0
             ? Error::from_errno(transfer.request.sys_errno, "log", "writing a record")
             : Error{ErrorCode::kIo, "log", "a write ended early"};
}

void Appender::note_write_error(const Transfer& transfer) noexcept {
  note_io_error("writing a record",
                transfer.request.sys_errno != 0 ? transfer.request.sys_errno : EIO);
}

/// L4: exactly the records that are not wholly inside the transferred prefix have failed.
void Appender::on_run_written(Transfer& transfer) noexcept {
  const Error error = transfer.succeeded() ? Error{} : error_of_write(transfer);
  if (!transfer.succeeded()) note_write_error(transfer);
  const std::uint64_t bytes_done = transfer.request.bytes_done;
  StoreTask* task = static_cast<StoreTask*>(transfer.task);
  state_.staging.release(transfer.staged);
  transfer.staged = {};
  state_.transfers.release(transfer);
  std::uint64_t end = 0;
  while (task != nullptr) {
    StoreTask* const next = task->next_in_write;
    const std::uint64_t begin = end;
    end += record_bytes(task->value_bytes, state_.grain_bytes());
    task->transfers_in_flight = 0;
    if ((is_broken(Rule::kPrefixOfRun) ? begin : end) > bytes_done) task->error = error;
    settle(*task);
    task = next;
  }
}

void Appender::on_piece_written(Transfer& transfer) noexcept {
  StoreTask& task = *static_cast<StoreTask*>(transfer.task);
  if (!transfer.succeeded()) {
    note_write_error(transfer);
    if (task.error.code() == ErrorCode::kNone) task.error = error_of_write(transfer);
  }
  state_.staging.release(transfer.staged);
  transfer.staged = {};
  state_.transfers.release(transfer);
  --task.transfers_in_flight;
  write(task);
}

/// All its writes have ended, or it failed and has none in flight.
void Appender::settle(StoreTask& task) noexcept {
  const bool succeeded = task.error.code() == ErrorCode::kNone;
  if (!succeeded && is_broken(Rule::kFailedWriteChangesNothing)) publish(task);
  if (succeeded) {
    publish(task);
    state_.health.note_io_success(state_.clock.now_ns());
    if (says_it_lacks_space_) {
      says_it_lacks_space_ = false;
      state_.health.set_condition("space", {});
    }
  }
  const std::uint32_t segment = task.location.segment;
  if (!succeeded && is_broken(Rule::kFailedRangeIsDead)) {
    Segment& head = state_.segments.at(segment);
    const std::uint64_t begin = std::uint64_t{task.location.grain} * state_.grain_bytes();
    const bool is_last =
        head.append_offset == begin + record_bytes(task.value_bytes, state_.grain_bytes());
    if (is_last) head.append_offset = begin;
  }
  if (task.wants_sync && task.error.code() == ErrorCode::kNone &&
      state_.segments.at(segment).sync_failed && !is_broken(Rule::kFailedSyncLasts)) {
    task.error = Error{ErrorCode::kIo, "log", "an earlier sync of the segment failed"};
  }
  if (task.wants_sync && task.error.code() == ErrorCode::kNone) {
    SyncGroup& group = group_of(segment);
    group.waiting.push_back(&task);
    ++tasks_waiting_for_sync_;
    if (task.sink->on_written(task)) group.is_due = true;
    settle_write(segment);
    return;
  }
  settle_write(segment);
  end(task);
}

void Appender::publish(StoreTask& task) noexcept {
  const std::string_view key = as_text(task.key);
  // In the table whether or not the index takes it: recovery decides by place, as the index does.
  state_.segments.at(task.location.segment)
      .table->add({.fingerprint_low = task.fingerprint.low,
                   .fingerprint_high = task.fingerprint.high,
                   .grain = task.location.grain,
                   .value_bytes = static_cast<std::uint32_t>(task.value_bytes),
                   .wall_seconds = static_cast<std::uint32_t>(state_.clock.wall_seconds()),
                   .key_bytes = static_cast<std::uint16_t>(task.key.size()),
                   .kind = RecordKind::kValue},
                  key);
  const IndexEntry entry{.location = task.location,
                         .value_bytes = static_cast<std::uint32_t>(task.value_bytes)};
  if (task.source) {
    const auto present = state_.index.find(task.fingerprint);
    const bool is_current = present && present->location == *task.source;
    if (!is_current && !is_broken(Rule::kMoveOnlyCurrent)) return;
    task.was_published = state_.publish(task.fingerprint, entry) == Published::kYes;
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

void Appender::end(StoreTask& task) noexcept {
  state_.guard.leave(task.fingerprint);
  --tasks_in_flight_;
  task.sink->on_store(task);
}

// --- The round ----------------------------------------------------------------------------------

void Appender::pump() noexcept {
  while (!waiting_.empty()) {
    StoreTask& task = *waiting_.front();
    if (is_long(task) ? !submit_pieces(task) : !submit_run(&task)) break;
    waiting_.pop_front();
    task.is_waiting = false;
    if (is_long(task)) write(task);
  }
}

void Appender::turn() noexcept {
  pump();
  flush_run();
  flush_tombstones();
  start_due_syncs();
  prepare_next();
}

void Appender::fail_waiting() noexcept {
  constexpr Error kDown{ErrorCode::kUnavailable, "log",
                        "the storage does not answer; nothing was changed"};
  std::deque<StoreTask*> waiting;
  waiting.swap(waiting_);
  for (StoreTask* task : waiting) {
    task->is_waiting = false;
    if (is_long(*task)) {
      task->error = kDown;
      write(*task);
      continue;
    }
    while (task != nullptr) {
      StoreTask* const next = task->next_in_write;
      task->error = kDown;
      settle(*task);
      task = next;
    }
  }
  if (tombstones_ == nullptr) return;
  const std::unique_ptr<TombstoneGrain> group = std::move(tombstones_);
  for (DeleteTask* const task : group->tasks) {
    task->error = kDown;
    end(*task);
  }
  settle_write(group->location.segment);
}

void Appender::on_transfer(Transfer& transfer) noexcept {
  switch (transfer.purpose) {
    case kRun:
      return on_run_written(transfer);
    case kPiece:
      return on_piece_written(transfer);
    case kTombstones:
      return on_tombstones_written(transfer);
    case kWork:
      return on_work(transfer);
    case kGroupSync:
      return on_group_synced(transfer);
    default:
      LARDER_CHECK(false);
  }
}

}  // namespace larder::log_store
