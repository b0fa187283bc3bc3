#include "larder/connectors/log/machine/segment_io.h"

#include <algorithm>
#include <cerrno>

namespace larder::log_store {

void SegmentIo::write(std::uint64_t offset) noexcept {
  std::span<std::byte> rest = buffer_.span();
  // The sum first, so that no completion can find the count at zero in between.
  in_flight_ = static_cast<std::uint32_t>((rest.size() + state_.options.io_bytes - 1) /
                                          state_.options.io_bytes);
  while (!rest.empty()) {
    const std::size_t bytes = std::min<std::size_t>(rest.size(), state_.options.io_bytes);
    Transfer* const transfer = state_.transfers.acquire_internal();
    transfer->request.operation = io::Operation::kWrite;
    transfer->request.file = state_.segments.at(segment_).file;
    transfer->request.offset = offset;
    transfer->vectors.push_back({.iov_base = rest.data(), .iov_len = bytes});
    transfer->sink = this;
    state_.transfers.submit(*transfer);
    rest = rest.subspan(bytes);
    offset += bytes;
  }
}

void SegmentIo::sync() noexcept {
  Transfer* const transfer = state_.transfers.acquire_internal();
  transfer->request.operation = io::Operation::kSync;
  transfer->request.file = state_.segments.at(segment_).file;
  transfer->sink = this;
  in_flight_ = 1;
  state_.counters.syncs_total.add();
  state_.transfers.submit(*transfer);
}

void SegmentIo::on_transfer(Transfer& transfer) noexcept {
  if (!transfer.succeeded()) {
    failed_ = true;
    const int sys_errno = transfer.request.sys_errno;
    if (transfer.request.operation == io::Operation::kSync)
      state_.counters.sync_failures_total.add();
    errors_.note("writing or syncing a segment", sys_errno != 0 ? sys_errno : EIO);
  }
  state_.transfers.release(transfer);
  if (--in_flight_ > 0) return;
  sink_.on_segment_io(*this);
}

}  // namespace larder::log_store
