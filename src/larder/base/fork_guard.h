#pragma once

#include <cstddef>

namespace larder {

/// While one lives, fork() waits, so that a child gets no half-made state, such as a descriptor
/// that no ForkGuard knows yet. fork() waits for one second at most, so that an open that hangs
/// does not block the process.
/// Threads: any. Cost: an uncontended reader's lock.
class NoFork {
 public:
  NoFork() noexcept;
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

/// Keeps a descriptor from the children of this process. fork() copies every descriptor, and the
/// copies keep what belongs to the open file: its lock, a ring with all its files, the blocks of a
/// file that was removed. They do so for as long as the child lives, also when the parent was
/// killed. In a child the descriptor leads to /dev/null instead, so its number stays the owner's.
///
/// Descriptor and guard are made under one NoFork. Does not own the descriptor; destroy the guard
/// before the descriptor is closed. exec(), and calls that do not run fork()'s handlers (vfork(),
/// clone()), need O_CLOEXEC as usual.
/// Threads: one; different guards any. Cost: a short lock at both ends.
class ForkGuard {
 public:
  ForkGuard() noexcept = default;
  explicit ForkGuard(int fd);
  ~ForkGuard();
  ForkGuard(ForkGuard&& other) noexcept;
  ForkGuard& operator=(ForkGuard&& other) noexcept;
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace larder
