#include "larder/connectors/log/machine/tombstones.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "larder/base/check.h"

namespace larder::log_store {

bool Tombstones::has_room(const DeleteTask& task) const noexcept {
  return grain_ != nullptr &&
         grain_->payload_bytes + kTombstoneKeyOverhead + task.key.size() <=
             payload_max(state_.grain_bytes()) &&
         head_.has_room(0, 1, task.key.size());
}

bool Tombstones::begin() noexcept {
  LARDER_CHECK(grain_ == nullptr);
  const std::uint32_t grain = state_.grain_bytes();
  auto buffer = AlignedBuffer::create(grain, grain);
  if (!buffer) return false;
  grain_ = std::make_unique<Grain>();
  grain_->memory = std::move(*buffer);
  grain_->location = head_.allocate(grain, 0, 0);
  return true;
}

void Tombstones::add(DeleteTask& task) noexcept {
  head_.reserve(1, task.key.size());
  std::byte* const out = grain_->memory.data() + kRecordHeaderFixedBytes + grain_->payload_bytes;
  const auto key_bytes = static_cast<std::uint16_t>(task.key.size());
  std::memcpy(out, &key_bytes, sizeof(key_bytes));
  std::memcpy(out + kTombstoneKeyOverhead, task.key.data(), task.key.size());
  grain_->payload_bytes += kTombstoneKeyOverhead + task.key.size();
  grain_->tasks.push_back(&task);
  task.error = {};
  task.existed = false;
  tasks_.begin(task.fingerprint);
  task.value_before = state_.guard.last_store(task.fingerprint);
  if (const auto present = state_.index.find(task.fingerprint)) {
    task.value_before = std::max(task.value_before, state_.segments.place_of(present->location));
  }
}

void Tombstones::flush() noexcept {
  if (grain_ == nullptr) return;
  Grain& grain = *grain_;
  const std::uint64_t offset = std::uint64_t{grain.location.grain} * state_.grain_bytes();
  // It does not wait for a transfer: a later delete would join it at a place before records that
  // arrived meanwhile.
  Transfer* const transfer = state_.transfers.acquire_internal();
  transfer->request.operation = io::Operation::kWrite;
  transfer->request.file = state_.segments.at(grain.location.segment).file;
  transfer->request.offset = offset;
  transfer->sink = this;
  transfer->task = &grain;
  const RecordHeader header{
      .kind = RecordKind::kTombstones,
      .offset = offset,
      .value_bytes = 0,
      .wall_seconds = state_.clock.wall_seconds(),
      .checksum = {},
      .payload = grain.memory.span().subspan(kRecordHeaderFixedBytes, grain.payload_bytes)};
  encode_record_header(header, state_.identity(grain.location.segment), state_.superblock.secret,
                       grain.memory.span());
  transfer->vectors.push_back({.iov_base = grain.memory.data(), .iov_len = grain.memory.size()});
  in_flight_.push_back(std::move(grain_));
  state_.transfers.submit(*transfer);
}

void Tombstones::on_transfer(Transfer& transfer) noexcept {
  const auto at = std::ranges::find(in_flight_, static_cast<Grain*>(transfer.task),
                                    &std::unique_ptr<Grain>::get);
  LARDER_CHECK(at != in_flight_.end());
  const std::unique_ptr<Grain> grain = std::move(*at);
  in_flight_.erase(at);
  const Error error = transfer.succeeded() ? Error{} : errors_.note_failed_write(transfer);
  state_.transfers.release(transfer);
  publisher_.settle(grain->tasks, grain->location, error);
}

void Tombstones::fail(const Error& error) noexcept {
  const std::unique_ptr<Grain> grain = std::move(grain_);
  if (grain != nullptr) publisher_.settle(grain->tasks, grain->location, error);
}

}  // namespace larder::log_store
