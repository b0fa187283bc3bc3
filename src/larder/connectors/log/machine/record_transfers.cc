#include "larder/connectors/log/machine/record_transfers.h"

namespace larder::log_store {

PackedValue packed_value_of(const StoreTask& task) noexcept {
  return {.key = task.key,
          .value_bytes = static_cast<std::uint32_t>(task.value_bytes),
          .checksum = task.checksum};
}

void fill_record_header(const PathState& state, StoreTask& task) noexcept {
  const RecordHeader header{.kind = RecordKind::kValue,
                            .offset = std::uint64_t{task.location.grain} * state.grain_bytes(),
                            .value_bytes = task.value_bytes,
                            .wall_seconds = state.clock.wall_seconds(),
                            .checksum = task.checksum,
                            .payload = task.key};
  encode_record_header(header, state.identity(task.location.segment), state.superblock.secret,
                       task.header.span());
}

Transfer* acquire_record_write(PathState& state, std::uint32_t segment, std::uint64_t offset,
                               TransferSink& sink, StoreTask& task) noexcept {
  Transfer* const transfer = state.transfers.acquire();
  if (transfer == nullptr) return nullptr;
  transfer->request.operation = io::Operation::kWrite;
  transfer->request.file = state.segments.at(segment).file;
  transfer->request.offset = offset;
  transfer->sink = &sink;
  transfer->task = &task;
  return transfer;
}

void append_padding(PathState& state, Transfer& transfer, std::uint64_t value_bytes) {
  const std::uint64_t padding = round_up(value_bytes, state.grain_bytes()) - value_bytes;
  if (padding == 0) return;
  transfer.vectors.push_back({.iov_base = state.zeros.data(), .iov_len = padding});
}

void release_record_write(PathState& state, Transfer& transfer) noexcept {
  state.staging.release(transfer.staged);
  transfer.staged = {};
  state.transfers.release(transfer);
}

}  // namespace larder::log_store
