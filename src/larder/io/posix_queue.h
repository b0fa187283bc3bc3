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
/// file and gives it to the queue. The queue owns it until all its I/O has completed, because a
/// lock must last as long as the kernel has I/O.
///
/// Threads: the one that drives the queue. Cost: add() and close() system calls, the rest none.
class PosixQueue : public TransferQueue {
 public:
  struct OpenFile {
    std::string name;
    LockedFile file;  ///< The lock is not taken yet.
  };

  /// kResourceExhausted when the limit of open files is reached.
  Status check_room() const;
  Result<FileId> add(OpenFile&& file);
  /// The file must be open.
  OpenFile& file(FileId file) noexcept;
  int fd_of(FileId id) noexcept { return file(id).file.fd.get(); }
  /// A locked file stays open while requests to other files are in flight, because the lock must
  /// last as long as they do.
  void close(FileId file) noexcept;

  /// Taken and dropped with the first file's lock: a restore or an rsync may replace that file
  /// while it is open, and the new one has no lock. Not held where directories cannot be locked
  /// (NFS).
  LockedFile& directory_lock() noexcept { return directory_lock_; }

 protected:
  explicit PosixQueue(std::size_t files_max) : files_max_(files_max) {}

  // A request belongs to its file from submit() until reap() returned it.
  void note_submitted(FileId file) noexcept;
  void note_returned(std::span<Request* const> requests) noexcept;

 private:
  /// Tells the transfers that a file was opened or closed.
  virtual Status attach(FileId /*file*/, int /*fd*/) { return {}; }
  virtual void detach(FileId /*file*/) noexcept {}
  void close_now(FileId file) noexcept;

  struct Slot {
    OpenFile open;  // A slot without a descriptor is free.
    std::uint64_t in_flight = 0;
  };

  const std::size_t files_max_;
  LockedFile directory_lock_;
  std::vector<Slot> slots_;
  std::vector<FileId> retired_;  // Closed by their user, and still open.
  std::uint64_t in_flight_ = 0;
};

}  // namespace larder::io
