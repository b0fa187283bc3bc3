#pragma once

#include "larder/base/fork_guard.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::io {

/// An exclusive lock (flock) on an open file, for this process: a ForkGuard must keep the
/// descriptor from its children. Does not own the descriptor, which outlives it.
///
/// It is known which files the process has locked, because the kernel tells the process itself and
/// another one apart no more than two others.
/// Threads: one; different locks any. Cost: system calls, none of which waits.
class FileLock {
 public:
  /// Tries once. EDEADLK: this process has the lock already, by another descriptor; kUnavailable:
  /// another owner has it.
  static Result<FileLock> try_take(int fd);

  FileLock() noexcept = default;
  ~FileLock() { release(); }
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  explicit operator bool() const noexcept { return fd_ >= 0; }
  /// The owner no longer uses the file, but the lock has to last a little longer; other users in
  /// this process may wait for it now.
  void retire() noexcept;
  /// Explicitly: a ring may hold on to the open file description a little longer.
  void release() noexcept;

 private:
  explicit FileLock(int fd) noexcept : fd_(fd) {}

  int fd_ = -1;
};

/// A file that this process alone has, until this goes.
struct LockedFile {
  UniqueFd fd;
  ForkGuard guard;
  FileLock lock;
};

}  // namespace larder::io
