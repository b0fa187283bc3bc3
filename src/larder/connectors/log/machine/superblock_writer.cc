#include "larder/connectors/log/machine/superblock_writer.h"

#include <cerrno>
#include <utility>

#include "larder/base/check.h"

namespace larder::log_store {

void SuperblockWriter::start(SuperblockFile& file) noexcept {
  LARDER_CHECK(!is_busy_);
  is_busy_ = true;
  file_ = &file;
  copies_left_ = 2;
  file.begin_copies();
  if (memory_.size() == 0) {
    auto memory = AlignedBuffer::create(state_.grain_bytes(), state_.grain_bytes());
    if (!memory) return end(memory.error());
    memory_ = std::move(*memory);
  }
  write_copy();
}

void SuperblockWriter::write_copy() noexcept {
  ++state_.superblock.sequence;
  encode_superblock(state_.superblock, memory_.span());
  submit(io::Operation::kWrite);
}

void SuperblockWriter::submit(io::Operation operation) noexcept {
  Transfer* const transfer = state_.transfers.acquire_internal();
  transfer->request.operation = operation;
  transfer->request.file = file_->file();
  transfer->request.offset = file_->next_copy();
  if (operation == io::Operation::kWrite) {
    transfer->vectors.push_back({.iov_base = memory_.data(), .iov_len = memory_.size()});
  }
  transfer->sink = this;
  state_.transfers.submit(*transfer);
}

void SuperblockWriter::on_transfer(Transfer& transfer) noexcept {
  const bool succeeded = transfer.succeeded();
  const int sys_errno = transfer.request.sys_errno;
  const bool was_write = transfer.request.operation == io::Operation::kWrite;
  state_.transfers.release(transfer);
  if (!succeeded) {
    return end(
        Error::from_errno(sys_errno == 0 ? EIO : sys_errno, "log", "writing the superblock"));
  }
  if (was_write) return submit(io::Operation::kSync);
  file_->note_durable();
  if (--copies_left_ == 0) return end({});
  write_copy();
}

void SuperblockWriter::end(const Status& status) noexcept {
  is_busy_ = false;
  outcome_ = status;
}

std::optional<Status> SuperblockWriter::take() noexcept {
  return std::exchange(outcome_, std::nullopt);
}

}  // namespace larder::log_store
