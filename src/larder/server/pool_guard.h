#pragma once

#include <string>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::server {

/// A helper process that unlinks the pool's name when the server dies in any way (S20), also by
/// SIGKILL or the OOM killer.
///
/// It waits on a pipe whose other end only this process has; when that end closes it unlinks the
/// name, if it still is the same file (device and inode), and ends. It ignores the terminal's and a
/// service manager's signals, holds no other descriptor, and shows as "larder-pool".
/// Start it before any other thread or lock exists. Threads: one.
class PoolGuard {
 public:
  static SetupResult<PoolGuard> start();
  /// Closes the pipe, and waits until the helper has gone.
  ~PoolGuard();
  PoolGuard(PoolGuard&& other) noexcept;
  PoolGuard& operator=(PoolGuard&&) = delete;
  PoolGuard(const PoolGuard&) = delete;
  PoolGuard& operator=(const PoolGuard&) = delete;

  /// From now on the file at `path` goes with this process.
  Status watch(const std::string& path) noexcept;

 private:
  PoolGuard(UniqueFd pipe, int pid) noexcept : pipe_(std::move(pipe)), pid_(pid) {}

  UniqueFd pipe_;
  int pid_ = 0;  ///< 0: moved from.
};

}  // namespace larder::server
