#include "larder/base/fork_guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <new>
#include <set>
#include <shared_mutex>
#include <utility>

#include "larder/base/mutex.h"

namespace larder {
namespace {

constexpr std::chrono::seconds kForkWaits{1};

// fork() knows the process only, so what its handlers use cannot belong to a store. Never
// destroyed, because a thread may outlive main().
class Guarded {
 public:
  static Guarded& instance() {
    static auto* const guarded = [] {
      auto* const made = new Guarded;
      ::pthread_atfork([] { instance().before_fork(); }, [] { instance().after_fork(); },
                       [] { instance().in_child(); });
      return made;
    }();
    return *guarded;
  }

  void forbid_fork() noexcept { fork_.lock_shared(); }
  void allow_fork() noexcept { fork_.unlock_shared(); }
  void add(int fd) LARDER_EXCLUDES(fds_mutex_) {
    const MutexLock lock{fds_mutex_};
    fds_.insert(fd);
  }
  void remove(int fd) noexcept LARDER_EXCLUDES(fds_mutex_) {
    const MutexLock lock{fds_mutex_};
    fds_.erase(fd);
  }

 private:
  void before_fork() noexcept LARDER_NO_THREAD_SAFETY_ANALYSIS {
    const bool has_fork = fork_.try_lock_for(kForkWaits);
    fds_mutex_.lock();
    has_fork_ = has_fork;
  }
  void after_fork() noexcept LARDER_NO_THREAD_SAFETY_ANALYSIS {
    const bool has_fork = has_fork_;
    fds_mutex_.unlock();
    if (has_fork) fork_.unlock();
  }
  /// The only thread there is. System calls that a signal handler may make, and nothing else.
  void in_child() noexcept LARDER_NO_THREAD_SAFETY_ANALYSIS {
    const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int fd : fds_) {
      if (nothing < 0 || ::dup3(nothing, fd, O_CLOEXEC) < 0) ::close(fd);
    }
    if (nothing >= 0) ::close(nothing);
    // Constructed anew and not unlocked, because the threads that held them as readers do not exist
    // here.
    ::new (&fds_mutex_) Mutex;
    ::new (&fork_) std::shared_timed_mutex;
  }

  std::shared_timed_mutex fork_;
  Mutex fds_mutex_;
  bool has_fork_ LARDER_GUARDED_BY(fds_mutex_) = false;  ///< For the forking thread.
  std::set<int> fds_ LARDER_GUARDED_BY(fds_mutex_);
};

}  // namespace

NoFork::NoFork() noexcept {
  Guarded::instance().forbid_fork();
}

NoFork::~NoFork() {
  Guarded::instance().allow_fork();
}

ForkGuard::ForkGuard(int fd) : fd_(fd) {
  Guarded::instance().add(fd);
}

ForkGuard::~ForkGuard() {
  if (fd_ >= 0) Guarded::instance().remove(fd_);
}

ForkGuard::ForkGuard(ForkGuard&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

ForkGuard& ForkGuard::operator=(ForkGuard&& other) noexcept {
  if (this == &other) return *this;
  if (fd_ >= 0) Guarded::instance().remove(fd_);
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}

}  // namespace larder
