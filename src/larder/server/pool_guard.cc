#include "larder/server/pool_guard.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <utility>

namespace larder::server {
namespace {

/// The server's message to its helper.
struct WatchedFile {
  ::dev_t device = 0;
  ::ino_t inode = 0;
  std::array<char, 4096> path{};  ///< With its end.
};

constexpr char kReady = '+';  ///< The helper's first message.

// --- In the helper: system calls only, as the fork may have copied any lock. --------------------

bool is_it(const struct ::stat& found, const WatchedFile& file) noexcept {
  return found.st_dev == file.device && found.st_ino == file.inode;
}

void unlink_watched(const WatchedFile& file) noexcept {
  const int fd = ::open(file.path.data(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  struct ::stat found{};
  if (fd < 0 || ::fstat(fd, &found) != 0 || !is_it(found, file)) return;
  // The server had the lock, and may lose it some time after the socket. A server that starts now
  // takes it to replace the name, which is another file's when that has been done.
  while (::flock(fd, LOCK_EX) != 0 && errno == EINTR) {
  }
  if (::lstat(file.path.data(), &found) == 0 && is_it(found, file)) ::unlink(file.path.data());
}

void leave_the_servers_world() noexcept {
  ::setsid();
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGPIPE}) {
    ::signal(number, SIG_IGN);
  }
  ::prctl(PR_SET_NAME, "larder-pool");
  if (::chdir("/") != 0) return;  // It then only holds on to a directory.
}

[[noreturn]] void run_helper(int socket) noexcept {
  leave_the_servers_world();
  if (::dup2(socket, 0) != 0) ::_exit(1);
  ::close_range(1, ~0U, 0);
  if (::send(0, &kReady, 1, MSG_NOSIGNAL) != 1) ::_exit(1);
  WatchedFile file;
  for (;;) {
    WatchedFile next;
    const ::ssize_t got = ::recv(0, &next, sizeof next, 0);
    if (got == ::ssize_t{sizeof next}) {
      file = next;
    } else if (got >= 0 || errno != EINTR) {
      break;
    }
  }
  if (file.path[0] != '\0') unlink_watched(file);
  ::_exit(0);
}

bool is_there(int socket) noexcept {
  char word = 0;
  ::ssize_t got = 0;
  do {
    got = ::recv(socket, &word, 1, 0);
  } while (got < 0 && errno == EINTR);
  return got == 1 && word == kReady;
}

SetupError errno_of(const char* what) {
  return SetupError{Error::from_errno(errno, "", "").code(),
                    std::string{"the helper that removes the shared memory's name when the server "
                                "dies cannot be started ("} +
                        what + ": " + errno_text(errno) +
                        "); --shm-name \"\" does without shared memory"};
}

}  // namespace

SetupResult<PoolGuard> PoolGuard::start() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return errno_of("socketpair");
  }
  UniqueFd ours{ends[0]};
  UniqueFd helpers{ends[1]};
  const ::pid_t pid = ::fork();
  if (pid < 0) return errno_of("fork");
  if (pid == 0) run_helper(helpers.get());
  PoolGuard guard{std::move(ours), pid};
  helpers.reset();
  // From its message on no signal to this process's group reaches it.
  if (!is_there(guard.socket_.get())) return errno_of("it ended at once");
  return guard;
}

PoolGuard::~PoolGuard() {
  if (pid_ == 0) return;
  fork_guard_ = {};
  socket_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void PoolGuard::leave() noexcept {
  (void)socket_.release();  // The socket closes when the process ends.
  pid_ = 0;
}

PoolGuard::PoolGuard(PoolGuard&& other) noexcept
    : socket_(std::move(other.socket_)),
      fork_guard_(std::move(other.fork_guard_)),
      pid_(std::exchange(other.pid_, 0)) {}

Status PoolGuard::watch(const std::string& path) noexcept {
  WatchedFile file;
  if (path.empty() || path.size() >= file.path.size()) {
    return Error{ErrorCode::kInvalidArgument, "pool guard", "the path is empty or too long"};
  }
  path.copy(file.path.data(), path.size());
  struct ::stat found{};
  if (::lstat(path.c_str(), &found) != 0) {
    return Error::from_errno(errno, "pool guard", "looking at the shared memory's name");
  }
  file.device = found.st_dev;
  file.inode = found.st_ino;
  ::ssize_t sent = 0;
  do {
    sent = ::send(socket_.get(), &file, sizeof file, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent != ::ssize_t{sizeof file}) {
    return Error::from_errno(errno, "pool guard", "telling the helper process of the name");
  }
  return {};
}

}  // namespace larder::server
