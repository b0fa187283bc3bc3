#include "larder/connectors/log/machine/loads.h"

#include <algorithm>

#include "larder/connector/failed_keys.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

void Loads::start(LoadTask& task) noexcept {
  task.outcome = Outcome::kPending;
  task.error = {};
  const auto entry = state_.index.find(task.fingerprint);
  if (!entry) {
    task.outcome = Outcome::kMiss;
    task.sink->on_load(task);
    return;
  }
  task.value_bytes = entry->value_bytes;
  task.location = entry->location;
  task.is_packed = entry->is_packed;
  task.tag = entry->tag;
  const std::uint64_t room = bytes_of(task.value);
  if (task.value_bytes != room && !(task.allow_shorter && task.value_bytes < room)) {
    task.outcome = Outcome::kFailed;
    task.error = Error{ErrorCode::kSizeMismatch, "log", "the stored value has another size"};
    task.sink->on_load(task);
    return;
  }
  if (!task.is_packed && task.header.size() == 0) {
    auto header = AlignedBuffer::create(state_.grain_bytes(), state_.grain_bytes());
    if (!header) {
      task.outcome = Outcome::kFailed;
      task.error = header.error();
      task.sink->on_load(task);
      return;
    }
    task.header = std::move(*header);
  }
  task.is_direct = is_aligned(task.value, task.value_bytes, state_.alignment);
  task.hashes_inline = task.value_bytes < kHashInlineBytesMax;
  task.is_hashing = false;
  task.submitted = 0;
  task.header_submitted = task.is_packed;
  task.first_piece = task.piece_count = 0;
  task.hash.reset();
  if (!is_broken(Rule::kPinReads)) task.pin = state_.segments.pin(task.location.segment);
  ++in_flight_;
  if (!submit_pieces(task)) {
    task.is_waiting = true;
    waiting_.push_back(&task);
  }
}

void Loads::pump() noexcept {
  while (!waiting_.empty()) {
    LoadTask& task = *waiting_.front();
    if (!submit_pieces(task)) return;
    waiting_.pop_front();
    task.is_waiting = false;
    advance(task);
  }
}

void Loads::fail_waiting() noexcept {
  std::deque<LoadTask*> waiting;
  waiting.swap(waiting_);
  for (LoadTask* const task : waiting) {
    task->is_waiting = false;
    fail(*task, Error{ErrorCode::kUnavailable, "log", "the storage does not answer"});
    advance(*task);
  }
}

/// False when a piece is left that lacks a transfer or staging memory.
bool Loads::submit_pieces(LoadTask& task) noexcept {
  while (task.outcome == Outcome::kPending &&
         (!task.header_submitted || task.submitted < task.value_bytes)) {
    if (task.piece_count == LoadTask::kPiecesInFlightMax) return true;  // advance() continues.
    if (!submit_piece(task)) return false;
  }
  return true;
}

bool Loads::submit_piece(LoadTask& task) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  const std::uint64_t from = task.submitted;
  const std::uint64_t piece_max = state_.options.io_bytes - (task.header_submitted ? 0 : grain);
  const std::uint64_t to = std::min(task.value_bytes, from + piece_max);
  Transfer* const transfer = state_.transfers.acquire();
  if (transfer == nullptr) return false;
  if (!task.is_direct && to > from) {
    transfer->staged = state_.staging.allocate(round_up(to - from, grain));
    if (transfer->staged.empty()) {
      state_.transfers.release(*transfer);
      return false;
    }
    state_.counters.bytes_staged_total.add(to - from);
  }
  transfer->request.operation = io::Operation::kRead;
  transfer->request.file = state_.segments.at(task.location.segment).file;
  transfer->request.offset =
      std::uint64_t{task.location.grain} * grain + (task.is_packed ? 0 : grain) + from;
  if (!task.header_submitted) {
    transfer->request.offset -= grain;
    transfer->vectors.push_back({.iov_base = task.header.data(), .iov_len = grain});
  }
  if (task.is_direct) {
    append_range(transfer->vectors, task.value, from, to);
  } else if (to > from) {
    transfer->vectors.push_back(
        {.iov_base = transfer->staged.data(), .iov_len = round_up(to - from, grain)});
  }
  transfer->sink = this;
  transfer->task = &task;
  transfer->from = from;
  transfer->to = to;
  task.header_submitted = true;
  task.submitted = to;
  task.pieces[(task.first_piece + task.piece_count) % LoadTask::kPiecesInFlightMax] = transfer;
  ++task.piece_count;
  state_.transfers.submit(*transfer);
  return true;
}

void Loads::on_transfer(Transfer& transfer) noexcept {
  transfer.has_arrived = true;
  LoadTask& task = *static_cast<LoadTask*>(transfer.task);
  if (!transfer.succeeded()) {
    const int sys_errno = transfer.request.sys_errno;
    if (sys_errno != 0) {
      state_.counters.io_errors_total.add();
      state_.health.note_io_error(state_.clock.now_ns(), "reading a record", sys_errno);
      fail(task, Error::from_errno(sys_errno, "log", "reading a record"));
    } else {
      fail(task,
           Error{ErrorCode::kCorruption, "log", "a segment file is shorter than its records"});
    }
  }
  advance(task);
}

void Loads::on_hashed(Transfer& transfer) noexcept {
  LoadTask& task = *static_cast<LoadTask*>(transfer.task);
  task.is_hashing = false;
  pop_front(task);
  advance(task);
}

/// Consumes arrived pieces in order, submits the next ones, and ends the task after the last.
void Loads::advance(LoadTask& task) noexcept {
  while (!task.is_hashing && task.piece_count > 0 && task.pieces[task.first_piece]->has_arrived) {
    if (!hash_front(task, *task.pieces[task.first_piece])) break;
    pop_front(task);
  }
  if (task.is_hashing || task.is_waiting) return;
  if (!submit_pieces(task)) {
    task.is_waiting = true;
    waiting_.push_back(&task);
    return;
  }
  if (task.piece_count == 0) finish(task);
}

/// True when the front piece is done with; false when a hash thread has it.
bool Loads::hash_front(LoadTask& task, Transfer& transfer) noexcept {
  const std::uint64_t bytes = transfer.to - transfer.from;
  if (task.outcome != Outcome::kPending || bytes == 0) return true;
  transfer.vectors.clear();  // The device may have changed it.
  if (task.is_direct) {
    append_range(transfer.vectors, task.value, transfer.from, transfer.to);
  } else {
    copy_to_slices(transfer.staged.first(bytes), task.value, transfer.from);
    transfer.vectors.push_back({.iov_base = transfer.staged.data(), .iov_len = bytes});
  }
  if (task.hashes_inline) {
    for (const iovec& vector : transfer.vectors) {
      task.hash.update({static_cast<const std::byte*>(vector.iov_base), vector.iov_len});
    }
    return true;
  }
  task.is_hashing = true;
  transfer.hash_job = {.memory = transfer.vectors,
                       .state = &task.hash,
                       .user_data = &transfer,
                       .tag = kHashOfTransfer};
  state_.hash_pool->submit(transfer.hash_job);
  return false;
}

void Loads::pop_front(LoadTask& task) noexcept {
  Transfer& transfer = *task.pieces[task.first_piece];
  state_.staging.release(transfer.staged);
  transfer.staged = {};
  state_.transfers.release(transfer);
  task.first_piece = (task.first_piece + 1) % LoadTask::kPiecesInFlightMax;
  --task.piece_count;
}

void Loads::fail(LoadTask& task, const Error& error) noexcept {
  if (task.outcome == Outcome::kFailed) return;  // The first reason counts.
  task.outcome = Outcome::kFailed;
  task.error = error;
}

Error Loads::verify(LoadTask& task) noexcept {
  task.checksum = task.hash.digest();
  if (task.is_packed) return verify_packed(task);
  const auto header = decode_record_header(
      task.header.span(), state_.identity(task.location.segment),
      std::uint64_t{task.location.grain} * state_.grain_bytes(), state_.superblock.secret);
  if (!header) return header.error();
  if (header->kind != RecordKind::kValue || header->value_bytes != task.value_bytes) {
    return Error{ErrorCode::kCorruption, "log", "the record has another length than the index"};
  }
  if (!is_broken(Rule::kVerifyKey) && !std::ranges::equal(header->payload, task.key)) {
    return Error{ErrorCode::kCorruption, "log", "the record holds another key"};
  }
  if (!is_broken(Rule::kVerifyChecksum) && task.checksum != header->checksum) {
    return Error{ErrorCode::kCorruption, "log", "the value fails its checksum"};
  }
  return {};
}

Error Loads::verify_packed(const LoadTask& task) const noexcept {
  const PackedValue value{.key = task.key,
                          .value_bytes = static_cast<std::uint32_t>(task.value_bytes),
                          .checksum = task.checksum};
  const std::uint64_t tag = value_tag(value, state_.identity(task.location.segment),
                                      std::uint64_t{task.location.grain} * state_.grain_bytes(),
                                      state_.superblock.secret);
  if (tag == task.tag || is_broken(Rule::kVerifyKey) || is_broken(Rule::kVerifyChecksum)) return {};
  return Error{ErrorCode::kCorruption, "log", "the value fails its checksum, or is another key's"};
}

void Loads::finish(LoadTask& task) noexcept {
  if (task.outcome == Outcome::kPending) {
    const Error error = verify(task);
    if (error.code() != ErrorCode::kNone) fail(task, error);
  }
  if (task.outcome == Outcome::kFailed) {
    if (task.error.code() == ErrorCode::kCorruption) state_.counters.corruptions_total.add();
    // L5, and C6 with it. Only an entry that still points to the record that was read: a newer
    // record is intact. A record that could not be read may be intact, too: its caller remembers it
    // for a while.
    if (after_failed_get(task.error.code()) == AfterFailedGet::kMissUntilStored &&
        !is_broken(Rule::kForgetFailed)) {
      state_.forget_failed(task.fingerprint, task.location, task.key);
    }
  } else {
    task.outcome = Outcome::kHit;
    state_.health.note_io_success(state_.clock.now_ns());
  }
  task.pin.reset();
  --in_flight_;
  task.sink->on_load(task);
}

}  // namespace larder::log_store
