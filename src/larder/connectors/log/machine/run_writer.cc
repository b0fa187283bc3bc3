#include "larder/connectors/log/machine/run_writer.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "larder/connectors/log/format/rule.h"
#include "larder/connectors/log/machine/record_transfers.h"

namespace larder::log_store {
namespace {

/// Besides those of the value: a header and padding.
constexpr std::size_t kVectorsMore = 2;

}  // namespace

bool RunWriter::is_behind_run(Location location) const noexcept {
  const std::uint64_t end = std::uint64_t{last_->location.grain} * state_.grain_bytes() +
                            record_bytes(last_->value_bytes, state_.grain_bytes(), last_->kind());
  return last_->location.segment == location.segment &&
         end == std::uint64_t{location.grain} * state_.grain_bytes();
}

bool RunWriter::has_room(std::uint64_t bytes, std::size_t vectors) const noexcept {
  return bytes_ + bytes <= state_.options.coalesce_bytes && vectors_ + vectors <= io::kBuffersMax;
}

bool RunWriter::can_join(const StoreTask& task, Location location) const noexcept {
  return last_ != nullptr && last_->is_packed && is_behind_run(location) &&
         has_room(round_up(task.value_bytes, state_.grain_bytes()),
                  task.value.size() + kVectorsMore) &&
         payload_bytes_ + kPackKeyOverhead + task.key.size() <= payload_max(state_.grain_bytes());
}

void RunWriter::add(StoreTask& task) noexcept {
  const std::uint64_t bytes = record_bytes(task.value_bytes, state_.grain_bytes(), task.kind());
  const std::size_t vectors = task.value.size() + kVectorsMore;
  if (!task.is_packed) fill_record_header(state_, task);
  const bool begins = task.is_packed
                          ? task.begins_pack
                          : last_ == nullptr || last_->is_packed || !is_behind_run(task.location) ||
                                !has_room(bytes, vectors);
  if (begins) flush();
  (last_ == nullptr ? first_ : last_->next_in_write) = &task;
  last_ = &task;
  bytes_ += bytes + (task.begins_pack ? state_.grain_bytes() : 0);
  vectors_ += vectors;
  if (task.is_packed) payload_bytes_ += kPackKeyOverhead + task.key.size();
}

void RunWriter::flush() noexcept {
  StoreTask* const first = first_;
  first_ = last_ = nullptr;
  bytes_ = 0;
  vectors_ = 0;
  payload_bytes_ = 0;
  if (first != nullptr && !submit(*first)) waiting_.push(*first);
}

void RunWriter::fill_pack_header(StoreTask& first) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  std::span<std::byte> const payload = first.header.span().subspan(kRecordHeaderFixedBytes);
  std::size_t payload_bytes = 0;
  std::uint64_t value_bytes = 0;
  for (const StoreTask* task = &first; task != nullptr; task = task->next_in_write) {
    encode_packed_value(packed_value_of(*task), payload.subspan(payload_bytes));
    payload_bytes += kPackKeyOverhead + task->key.size();
    value_bytes += round_up(task->value_bytes, grain);
  }
  const RecordHeader header{.kind = RecordKind::kPack,
                            .offset = std::uint64_t{first.location.grain - 1} * grain,
                            .value_bytes = value_bytes,
                            .wall_seconds = state_.clock.wall_seconds(),
                            .checksum = {},
                            .payload = payload.first(payload_bytes)};
  encode_record_header(header, state_.identity(first.location.segment), state_.superblock.secret,
                       first.header.span());
}

bool RunWriter::submit(StoreTask& first) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  bool is_direct = true;
  const std::uint64_t pack_header = first.is_packed ? grain : 0;
  std::uint64_t bytes = pack_header;
  for (const StoreTask* task = &first; task != nullptr; task = task->next_in_write) {
    is_direct = is_direct && task->is_direct;
    bytes += record_bytes(task->value_bytes, grain, task->kind());
  }
  Transfer* const transfer =
      acquire_record_write(state_, first.location.segment,
                           std::uint64_t{first.location.grain} * grain - pack_header, *this, first);
  if (transfer == nullptr) return false;
  if (!is_direct) {
    transfer->staged = state_.staging.allocate(bytes);
    if (transfer->staged.empty()) {
      state_.transfers.release(*transfer);
      return false;
    }
    transfer->vectors.push_back({.iov_base = transfer->staged.data(), .iov_len = bytes});
  }
  if (first.is_packed) fill_pack_header(first);
  std::span<std::byte> out = transfer->staged;
  for (StoreTask* task = &first; task != nullptr; task = task->next_in_write) {
    task->transfers_in_flight = 1;
    task->header_submitted = true;
    const bool has_header = task == &first || !task->is_packed;
    if (is_direct) {
      if (has_header)
        transfer->vectors.push_back({.iov_base = task->header.data(), .iov_len = grain});
      append_range(transfer->vectors, task->value, 0, task->value_bytes);
      append_padding(state_, *transfer, task->value_bytes);
      continue;
    }
    if (has_header) {
      std::memcpy(out.data(), task->header.data(), grain);
      out = out.subspan(grain);
    }
    copy_from_slices(out.first(task->value_bytes), task->value, 0);
    const std::uint64_t end = round_up(task->value_bytes, grain);
    std::ranges::fill(out.first(end).subspan(task->value_bytes), std::byte{0});
    out = out.subspan(end);
    state_.counters.bytes_staged_total.add(task->value_bytes);
  }
  state_.transfers.submit(*transfer);
  return true;
}

void RunWriter::on_transfer(Transfer& transfer) noexcept {
  const Error error = transfer.succeeded() ? Error{} : errors_.note_failed_write(transfer);
  const std::uint64_t bytes_done = transfer.request.bytes_done;
  StoreTask* task = static_cast<StoreTask*>(transfer.task);
  release_record_write(state_, transfer);
  std::uint64_t end = task->is_packed ? state_.grain_bytes() : 0;
  while (task != nullptr) {
    StoreTask* const next = task->next_in_write;
    const std::uint64_t begin = end;
    end += record_bytes(task->value_bytes, state_.grain_bytes(), task->kind());
    task->transfers_in_flight = 0;
    if ((is_broken(Rule::kPrefixOfRun) ? begin : end) > bytes_done) task->error = error;
    publisher_.settle(*task);
    task = next;
  }
}

void RunWriter::fail(StoreTask& first, const Error& error) noexcept {
  StoreTask* task = &first;
  while (task != nullptr) {
    StoreTask* const next = task->next_in_write;
    task->error = error;
    publisher_.settle(*task);
    task = next;
  }
}

}  // namespace larder::log_store
