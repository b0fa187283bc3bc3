#include "larder/connectors/log/machine/piece_writer.h"

#include <algorithm>

#include "larder/connectors/log/machine/record_transfers.h"

namespace larder::log_store {
namespace {

constexpr std::uint32_t kPiecesInFlightMax = 8;

}  // namespace

void PieceWriter::advance(StoreTask& task) noexcept {
  if (task.is_waiting) return;
  if (!submit(task)) waiting_.push(task);
  if (task.transfers_in_flight == 0 && task.is_hashed && !task.is_waiting) publisher_.settle(task);
}

bool PieceWriter::submit(StoreTask& task) noexcept {
  if (task.error.code() != ErrorCode::kNone) return true;
  while (task.submitted < task.value_bytes) {
    if (task.transfers_in_flight == kPiecesInFlightMax) return true;  // A completion continues.
    if (!submit_piece(task)) return false;
  }
  return !task.is_hashed || task.header_submitted || submit_header(task);
}

bool PieceWriter::submit_piece(StoreTask& task) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  const std::uint64_t from = task.submitted;
  const std::uint64_t to =
      std::min<std::uint64_t>(task.value_bytes, from + state_.options.io_bytes);
  const std::uint64_t value_at = std::uint64_t{task.location.grain} * grain + grain;
  Transfer* const transfer =
      acquire_record_write(state_, task.location.segment, value_at + from, *this, task);
  if (transfer == nullptr) return false;
  if (task.is_direct) {
    append_range(transfer->vectors, task.value, from, to);
    append_padding(state_, *transfer, to - from);
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
  return true;
}

bool PieceWriter::submit_header(StoreTask& task) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  Transfer* const transfer = acquire_record_write(
      state_, task.location.segment, std::uint64_t{task.location.grain} * grain, *this, task);
  if (transfer == nullptr) return false;
  fill_record_header(state_, task);
  transfer->vectors.push_back({.iov_base = task.header.data(), .iov_len = grain});
  task.header_submitted = true;
  ++task.transfers_in_flight;
  state_.transfers.submit(*transfer);
  return true;
}

void PieceWriter::on_transfer(Transfer& transfer) noexcept {
  StoreTask& task = *static_cast<StoreTask*>(transfer.task);
  if (!transfer.succeeded()) {
    const Error error = errors_.note_failed_write(transfer);
    if (task.error.code() == ErrorCode::kNone) task.error = error;
  }
  release_record_write(state_, transfer);
  --task.transfers_in_flight;
  advance(task);
}

}  // namespace larder::log_store
