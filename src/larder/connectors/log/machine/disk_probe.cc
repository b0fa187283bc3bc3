#include "larder/connectors/log/machine/disk_probe.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace larder::log_store {

void DiskProbe::start(io::FileId file) noexcept {
  if (memory_.size() == 0) {
    auto memory = AlignedBuffer::create(kSuperblockCopyStride, kGrainBytesMax);
    if (!memory) return;
    memory_ = std::move(*memory);
  }
  file_ = file;
  is_busy_ = true;
  const std::string& note = state_.options.owner_note;
  std::ranges::fill(memory_.span(), std::byte{0});
  std::memcpy(memory_.data(), note.data(), std::min(note.size(), kOwnerNoteBytesMax));
  submit(io::Operation::kWrite, kOwnerNoteOffset);
}

void DiskProbe::submit(io::Operation operation, std::uint64_t offset) noexcept {
  Transfer* const transfer = state_.transfers.acquire_internal();
  transfer->request.operation = operation;
  transfer->request.file = file_;
  transfer->request.offset = offset;
  transfer->vectors.push_back({.iov_base = memory_.data(), .iov_len = memory_.size()});
  transfer->sink = this;
  state_.transfers.submit(*transfer);
}

void DiskProbe::on_transfer(Transfer& transfer) noexcept {
  const bool succeeded = transfer.succeeded();
  const bool was_write = transfer.request.operation == io::Operation::kWrite;
  // A full file system says nothing about reads.
  const int sys_errno = transfer.request.sys_errno;
  const bool is_full = was_write && is_lack_of_space(sys_errno);
  state_.transfers.release(transfer);
  if ((succeeded || is_full) && was_write) return submit(io::Operation::kRead, 0);
  is_busy_ = false;
  state_.health.note_probe(state_.clock.now_ns(), succeeded);
}

}  // namespace larder::log_store
