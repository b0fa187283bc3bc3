#pragma once

#include <string>
#include <utility>

#include "larder/base/fork_guard.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::server {

/// A helper process that unlinks the pool's name when the server dies in any way (S20), also by
/// SIGKILL or the OOM killer.
///
/// It waits on a socket whose other end only this process has; when that end closes it unlinks the
/// name, if it is still the same file (device and inode), and exits. It is in a session of its own,
/// ignores the signals by which a terminal or a service manager ends a process, holds no other
/// descriptor, and is named "larder-pool". Until it has unlinked the name it holds the file's lock,
/// as everything that unlinks it must (see cache::SegmentFile).
/// Start it before any other thread exists. Threads: one.
class PoolGuard {
 public:
  static SetupResult<PoolGuard> start();
  /// Closes its end, and waits until the helper has exited. A file that still has its name loses
  /// it.
  ~PoolGuard();
  PoolGuard(PoolGuard&& other) noexcept;
  PoolGuard& operator=(PoolGuard&&) = delete;
  PoolGuard(const PoolGuard&) = delete;
  PoolGuard& operator=(const PoolGuard&) = delete;

  /// For a server that cannot free its memory, and with it the file's lock: it does not wait for
  /// the helper, which removes the name when this process has ended.
  void leave() noexcept;

  /// From now on the file at `path` is removed when this process ends. The last of several calls
  /// counts.
  Status watch(const std::string& path) noexcept;

 private:
  PoolGuard(UniqueFd socket, int pid)
      : socket_(std::move(socket)), fork_guard_(socket_.get()), pid_(pid) {}

  UniqueFd socket_;
  ForkGuard fork_guard_;  ///< A child of the server would keep the helper waiting.
  int pid_ = 0;           ///< 0: moved from.
};

}  // namespace larder::server
