#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/io/file_lock.h"
#include "larder/io/transfer_queue.h"

namespace larder::io {

/// A queue over files of the operating system, with the table of open files. A directory opens a
/// file and gives it to the queue, which owns it until nothing needs it: a lock must last as long
/// as the kernel has I/O.
///
/// Threads: the one that drives the queue. Cost: add() and close() system calls, the rest none.
class PosixQueue : public TransferQueue {
 public:
  struct OpenFile {
    std::string name;
    LockedFile file;  ///< Without a lock at first.
  };

  /// kResourceExhausted when as many files are open as may be.
  Status check_room() const;
  Result<FileId> add(OpenFile&& file);
  /// Must be open.
  OpenFile& file(FileId file) noexcept;
  int fd_of(FileId id) noexcept { return file(id).file.fd.get(); }
  /// A file that is locked stays open while requests to other files are in flight: the lock must
  /// last as long as they do.
  void close(FileId file) noexcept;

  /// Taken with the first file's lock, and left with it: that file may be replaced while it is
  /// open, by a restore or an rsync, and its new one has no lock. Not where directories cannot be
  /// locked (NFS).
  LockedFile& directory_lock() noexcept { return directory_lock_; }

 protected:
  explicit PosixQueue(std::size_t files_max) : files_max_(files_max) {}

  // A request belongs to its file from submit() until reap() returned it.
  void note_submitted(FileId file) noexcept;
  void note_returned(std::span<Request* const> requests) noexcept;

 private:
  /// Tells the transfers of a file that is open from now on, or no longer.
  virtual Status attach(FileId /*file*/, int /*fd*/) { return {}; }
  virtual void detach(FileId /*file*/) noexcept {}
  void close_now(FileId file) noexcept;

  struct Slot {
    OpenFile open;  // Without a descriptor the slot is free.
    std::uint64_t in_flight = 0;
  };

  const std::size_t files_max_;
  LockedFile directory_lock_;
  std::vector<Slot> slots_;
  std::vector<FileId> retired_;  // Closed by their user, and still open.
  std::uint64_t in_flight_ = 0;
};

}  // namespace larder::io
