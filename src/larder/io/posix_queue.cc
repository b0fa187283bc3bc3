#include "larder/io/posix_queue.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"

namespace larder::io {

namespace {

/// The lock goes first, the descriptor last.
void release(LockedFile& file) noexcept {
  const LockedFile released = std::move(file);
}

}  // namespace

Status PosixQueue::check_room() const {
  const bool has_room =
      slots_.size() < files_max_ ||
      std::ranges::any_of(slots_, [](const Slot& slot) { return !slot.open.file.fd; });
  if (has_room) return {};
  return Error{ErrorCode::kResourceExhausted, "io", "too many open files"};
}

Result<FileId> PosixQueue::add(OpenFile&& file) {
  LARDER_TRY(check_room());
  auto slot = std::ranges::find_if(slots_, [](const Slot& free) { return !free.open.file.fd; });
  const auto id = static_cast<FileId>(slot - slots_.begin());
  LARDER_TRY(attach(id, file.file.fd.get()));
  if (slot == slots_.end()) slot = slots_.emplace(slots_.end());
  slot->open = std::move(file);
  return id;
}

PosixQueue::OpenFile& PosixQueue::file(FileId file) noexcept {
  LARDER_CHECK(file < slots_.size() && slots_[file].open.file.fd);
  return slots_[file].open;
}

void PosixQueue::close(FileId file) noexcept {
  FileLock& lock = this->file(file).file.lock;
  LARDER_CHECK(slots_[file].in_flight == 0);
  if (!lock || in_flight_ == 0) return close_now(file);
  lock.retire();
  directory_lock_.lock.retire();
  retired_.push_back(file);
}

void PosixQueue::close_now(FileId file) noexcept {
  OpenFile& closed = slots_[file].open;
  detach(file);
  if (closed.file.lock) release(directory_lock_);
  release(closed.file);
}

void PosixQueue::note_submitted(FileId file) noexcept {
  LARDER_CHECK(file < slots_.size() && slots_[file].open.file.fd);
  ++slots_[file].in_flight;
  ++in_flight_;
}

void PosixQueue::note_returned(std::span<Request* const> requests) noexcept {
  for (const Request* const request : requests) --slots_[request->file].in_flight;
  in_flight_ -= requests.size();
  if (in_flight_ != 0) return;
  for (const FileId file : retired_) close_now(file);
  retired_.clear();
}

}  // namespace larder::io
