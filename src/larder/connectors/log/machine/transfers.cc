#include "larder/connectors/log/machine/transfers.h"

#include <algorithm>

#include "larder/base/check.h"

namespace larder::log_store {

Transfers::Transfers(io::TransferQueue& queue, const Clock& clock, std::uint32_t depth)
    : queue_(queue), clock_(clock), depth_(depth) {}

Transfer* Transfers::acquire() noexcept {
  return available() == 0 ? nullptr : acquire_internal();
}

Transfer* Transfers::acquire_internal() noexcept {
  if (free_.empty()) {
    all_.push_back(std::make_unique<Transfer>());
    free_.push_back(all_.back().get());
  }
  Transfer* const transfer = free_.back();
  free_.pop_back();
  ++in_use_;
  transfer->vectors.clear();
  transfer->request = {};
  transfer->sink = nullptr;
  transfer->task = nullptr;
  transfer->purpose = 0;
  transfer->from = transfer->to = 0;
  transfer->staged = {};
  transfer->has_arrived = false;
  return transfer;
}

void Transfers::List::append(Transfer& transfer) noexcept {
  transfer.earlier = newest;
  transfer.later = nullptr;
  (newest == nullptr ? oldest : newest->later) = &transfer;
  newest = &transfer;
}

void Transfers::List::remove(Transfer& transfer) noexcept {
  (transfer.earlier == nullptr ? oldest : transfer.earlier->later) = transfer.later;
  (transfer.later == nullptr ? newest : transfer.later->earlier) = transfer.earlier;
}

void Transfers::submit(Transfer& transfer) noexcept {
  transfer.bytes = 0;
  for (const iovec& vector : transfer.vectors) transfer.bytes += vector.iov_len;
  transfer.request.buffers = transfer.vectors;
  transfer.request.user_data = &transfer;
  transfer.submitted_ns = clock_.now_ns();
  list_of(transfer).append(transfer);
  ++in_flight_;
  bytes_in_flight_ += transfer.bytes;
  queue_.submit(transfer.request);
}

void Transfers::release(Transfer& transfer) noexcept {
  LARDER_CHECK(in_use_ > 0 && transfer.staged.empty());
  --in_use_;
  free_.push_back(&transfer);
}

void Transfers::reap() noexcept {
  reaped_count_ = queue_.reap(reaped_);
  has_reaped_ = true;
}

void Transfers::poll() noexcept {
  if (!has_reaped_) reap();
  has_reaped_ = false;
  for (std::size_t i = 0; i < reaped_count_; ++i) {
    Transfer& transfer = *static_cast<Transfer*>(reaped_[i]->user_data);
    list_of(transfer).remove(transfer);
    --in_flight_;
    bytes_in_flight_ -= transfer.bytes;
    transfer.sink->on_transfer(transfer);
  }
}

void append_range(std::vector<iovec>& vectors, std::span<const Slice> slices, std::uint64_t from,
                  std::uint64_t to) {
  for_each_piece(slices, from, to, [&](std::span<std::byte> piece) {
    vectors.push_back({.iov_base = piece.data(), .iov_len = piece.size()});
  });
}

bool is_aligned(std::span<const Slice> slices, std::uint64_t bytes,
                io::Alignment alignment) noexcept {
  std::uint64_t at = 0;
  for (const Slice& slice : slices) {
    if (at >= bytes) break;
    const std::uint64_t used = std::min<std::uint64_t>(slice.bytes, bytes - at);
    if (used % alignment.offset != 0 ||
        reinterpret_cast<std::uintptr_t>(slice.data) % alignment.memory != 0) {
      return false;
    }
    at += slice.bytes;
  }
  return true;
}

}  // namespace larder::log_store
