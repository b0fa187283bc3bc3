#include "larder/io/file_lock.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "larder/base/fork_guard.h"
#include "larder/base/mutex.h"

namespace larder::io {
namespace {

constexpr const char* kWhere = "io";

struct Held {
  int fd = -1;
  ::dev_t device = 0;
  ::ino_t inode = 0;
  ::pid_t owner = 0;  ///< Not valid in a child of fork(): the parent has the lock.
};

/// One for the process, as the locks are. Only used under a NoFork, so that a child never finds the
/// mutex locked.
struct HeldLocks {
  Mutex mutex;
  std::vector<Held> held LARDER_GUARDED_BY(mutex);

  static HeldLocks& instance() {
    static auto* const locks = new HeldLocks;  // A thread may outlive main().
    return *locks;
  }
};

void forget(int fd) noexcept {
  const NoFork no_fork;
  HeldLocks& locks = HeldLocks::instance();
  const MutexLock lock{locks.mutex};
  std::erase_if(locks.held, [&](const Held& held) { return held.fd == fd; });
}

}  // namespace

Result<FileLock> FileLock::try_take(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return Error::from_errno(errno, kWhere, "looking at a file");
  const Held wanted{fd, status.st_dev, status.st_ino, ::getpid()};
  const NoFork no_fork;
  HeldLocks& locks = HeldLocks::instance();
  const MutexLock lock{locks.mutex};
  const bool is_ours = std::ranges::any_of(locks.held, [&](const Held& held) {
    return held.device == wanted.device && held.inode == wanted.inode && held.owner == wanted.owner;
  });
  if (is_ours) {
    return Error::from_errno(EDEADLK, kWhere, "locking a file: this process has it locked already");
  }
  int result = 0;
  do {
    result = ::flock(fd, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) {
    return Error{ErrorCode::kUnavailable, kWhere, "another owner holds the lock"};
  }
  if (result != 0) return Error::from_errno(errno, kWhere, "locking a file");
  locks.held.push_back(wanted);
  return FileLock{fd};
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  if (this == &other) return *this;
  release();
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}

void FileLock::retire() noexcept {
  if (fd_ >= 0) forget(fd_);
}

void FileLock::release() noexcept {
  if (fd_ < 0) return;
  forget(fd_);
  ::flock(std::exchange(fd_, -1), LOCK_UN);
}

}  // namespace larder::io
