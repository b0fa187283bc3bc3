#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/fork_guard.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/io/device.h"
#include "larder/io/file_lock.h"

namespace larder::io {

/// A directory of the operating system and the table of files that a device has open in it: the
/// control plane that the io_uring and the thread device share.
///
/// Direct or buffered is decided once, by open(), for all files. A file that is not a regular one
/// is never opened, and symbolic links are not followed. Ownership: owns every descriptor, and
/// keeps them from children of fork(). Threads: one at a time. Cost: system calls that may block.
class PosixDirectory {
 public:
  static SetupResult<PosixDirectory> open(const DeviceOptions& options);
  PosixDirectory(PosixDirectory&&) noexcept = default;
  PosixDirectory& operator=(PosixDirectory&&) noexcept = default;
  PosixDirectory(const PosixDirectory&) = delete;
  PosixDirectory& operator=(const PosixDirectory&) = delete;
  ~PosixDirectory();

  Result<std::vector<FileInfo>> list();
  Result<FileId> open_file(std::string_view name, OpenMode mode);
  /// False when the file is locked and requests to other files are in flight: the lock must last as
  /// long as they do. Such a file stays open until close_retired() finds nothing in flight.
  bool close(FileId file) noexcept;
  /// Calls before_close(FileId) for each file that close() could not close and now can be.
  template <class BeforeClose>
  void close_retired(BeforeClose before_close) noexcept {
    if (in_flight_ != 0) return;
    for (const FileId file : retired_) {
      before_close(file);
      close_now(file);
    }
    retired_.clear();
  }
  Result<FileInfo> info(FileId file);
  Status allocate(FileId file, std::uint64_t bytes);
  // These six from any thread.
  Result<FileInfo> look_for(std::string_view name) const;
  Status make(std::string_view name, std::uint64_t bytes) const;
  Status remove(std::string_view name) const;
  Status sync_directory() const;
  Result<Space> space() const;
  Result<bool> shares_blocks(std::string_view name) const;
  Status lock(FileId file, std::uint64_t deadline_ns);

  int fd_of(FileId file) const noexcept;
  /// Calls visit(FileId, descriptor) for each file that is open.
  template <class Visit>
  void visit_files(Visit visit) const {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      if (files_[i].fd) visit(static_cast<FileId>(i), files_[i].fd.get());
    }
  }

  // A request belongs to its file from submit() until reap() gave it back.
  void request_begins(FileId file) noexcept;
  void request_ended(FileId file) noexcept;

  /// All but `backend` is filled in.
  const DeviceInfo& device_info() const noexcept { return info_; }

 private:
  struct File {
    UniqueFd fd;  // None: the slot is free.
    std::string name;
    std::uint64_t in_flight = 0;
    ForkGuard guard;
    FileLock lock;
  };

  PosixDirectory(UniqueFd fd, const DeviceOptions& options)
      : fd_(std::move(fd)),
        guard_(fd_.get()),
        files_max_(options.files_max),
        is_read_only_(options.read_only) {}

  SetupStatus decide_direct(const DeviceOptions& options);
  void close_now(FileId file) noexcept;

  UniqueFd fd_;
  ForkGuard guard_;
  /// Taken with the first file's lock: that file may be replaced while it is open, by a restore or
  /// an rsync, and its new one has no lock. Not where directories cannot be locked (NFS).
  FileLock lock_;
  std::size_t files_max_ = 0;
  bool is_read_only_ = false;
  DeviceInfo info_;
  std::vector<File> files_;
  std::vector<FileId> retired_;
  std::uint64_t in_flight_ = 0;
};

}  // namespace larder::io
