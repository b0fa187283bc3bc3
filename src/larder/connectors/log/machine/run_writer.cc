#include "larder/connectors/log/machine/run_writer.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "larder/connectors/log/format/rule.h"
#include "larder/connectors/log/machine/record_transfers.h"

namespace larder::log_store {

bool RunWriter::is_neighbour(const StoreTask& task) const noexcept {
  const std::uint64_t end = std::uint64_t{last_->location.grain} * state_.grain_bytes() +
                            record_bytes(last_->value_bytes, state_.grain_bytes());
  return last_->location.segment == task.location.segment &&
         end == std::uint64_t{task.location.grain} * state_.grain_bytes();
}

void RunWriter::add(StoreTask& task) noexcept {
  fill_record_header(state_, task);
  const std::uint64_t bytes = record_bytes(task.value_bytes, state_.grain_bytes());
  const std::size_t vectors = task.value.size() + 2;
  if (last_ != nullptr && (!is_neighbour(task) || bytes_ + bytes > state_.options.coalesce_bytes ||
                           vectors_ + vectors > io::kBuffersMax)) {
    flush();
  }
  (last_ == nullptr ? first_ : last_->next_in_write) = &task;
  last_ = &task;
  bytes_ += bytes;
  vectors_ += vectors;
}

void RunWriter::flush() noexcept {
  StoreTask* const first = first_;
  first_ = last_ = nullptr;
  bytes_ = 0;
  vectors_ = 0;
  if (first != nullptr && !submit(*first)) waiting_.push(*first);
}

bool RunWriter::submit(StoreTask& first) noexcept {
  const std::uint32_t grain = state_.grain_bytes();
  bool is_direct = true;
  std::uint64_t bytes = 0;
  for (const StoreTask* task = &first; task != nullptr; task = task->next_in_write) {
    is_direct = is_direct && task->is_direct;
    bytes += record_bytes(task->value_bytes, grain);
  }
  Transfer* const transfer = acquire_record_write(
      state_, first.location.segment, std::uint64_t{first.location.grain} * grain, *this, first);
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
  for (StoreTask* task = &first; task != nullptr; task = task->next_in_write) {
    task->transfers_in_flight = 1;
    task->header_submitted = true;
    if (is_direct) {
      transfer->vectors.push_back({.iov_base = task->header.data(), .iov_len = grain});
      append_range(transfer->vectors, task->value, 0, task->value_bytes);
      append_padding(state_, *transfer, task->value_bytes);
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

void RunWriter::on_transfer(Transfer& transfer) noexcept {
  const Error error = transfer.succeeded() ? Error{} : errors_.note_failed_write(transfer);
  const std::uint64_t bytes_done = transfer.request.bytes_done;
  StoreTask* task = static_cast<StoreTask*>(transfer.task);
  release_record_write(state_, transfer);
  std::uint64_t end = 0;
  while (task != nullptr) {
    StoreTask* const next = task->next_in_write;
    const std::uint64_t begin = end;
    end += record_bytes(task->value_bytes, state_.grain_bytes());
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
