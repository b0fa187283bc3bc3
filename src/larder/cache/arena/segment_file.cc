#include "larder/cache/arena/segment_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <optional>
#include <utility>

#include "larder/base/key_text.h"

namespace larder::cache {
namespace {

constexpr std::uint64_t kMarkBytes = 4096;
constexpr std::size_t kNameBytesMax = 255;
constexpr int kAttempts = 16;  ///< Other processes may replace the same stale name meanwhile.

/// Stands in the file's last kMarkBytes.
struct Mark {
  std::array<char, 16> magic = {'l', 'a', 'r', 'd', 'e', 'r', ' ',
                                'a', 'r', 'e', 'n', 'a', ' ', '1'};
  std::uint64_t pid = 0;
};

SetupError error_of(ErrorCode code, const std::string& path, const std::string& text) {
  return SetupError{code, "shared memory '" + printable(path) + "' " + text};
}

SetupError errno_of(const std::string& path, const std::string& text, int sys_errno) {
  return error_of(Error::from_errno(sys_errno, "", "").code(), path,
                  text + ": " + errno_text(sys_errno));
}

std::optional<Mark> read_mark(int fd, const struct ::stat& found) {
  const auto bytes = static_cast<std::uint64_t>(found.st_size);
  if (found.st_size <= 0 || bytes < kMarkBytes) return std::nullopt;
  Mark mark;
  const ::ssize_t got = ::pread(fd, &mark, sizeof mark, static_cast<::off_t>(bytes - kMarkBytes));
  if (got != ::ssize_t{sizeof mark} || mark.magic != Mark{}.magic) return std::nullopt;
  return mark;
}

bool is_same_file(const std::string& path, const struct ::stat& file) noexcept {
  struct ::stat named{};
  return ::lstat(path.c_str(), &named) == 0 && named.st_ino == file.st_ino &&
         named.st_dev == file.st_dev;
}

/// True: the name was free, or is now; false: another process has changed it meanwhile.
SetupResult<bool> remove_stale(const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)};
  if (!fd && errno == ENOENT) return false;
  if (!fd && errno == ELOOP) {
    return error_of(ErrorCode::kUnavailable, path,
                    "is a symbolic link; remove it, or choose another name");
  }
  if (!fd) return errno_of(path, "exists and cannot be opened", errno);
  struct ::stat found{};
  if (::fstat(fd.get(), &found) != 0) return errno_of(path, "cannot be looked at", errno);
  if (S_ISREG(found.st_mode) && found.st_uid != ::geteuid()) {
    return error_of(ErrorCode::kUnavailable, path,
                    "belongs to user " + std::to_string(found.st_uid) + "; choose another name");
  }
  const std::optional<Mark> mark =
      S_ISREG(found.st_mode) ? read_mark(fd.get(), found) : std::nullopt;
  if (!mark) {
    return error_of(ErrorCode::kUnavailable, path,
                    "exists and was not made by larder; remove it if no process uses it, or choose "
                    "another name");
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_of(path, "cannot be locked", errno);
    return error_of(ErrorCode::kUnavailable, path,
                    "is in use by process " + std::to_string(mark->pid) +
                        "; stop that process, or choose another name");
  }
  // The name leads to this file as long as its lock is held here: every process that unlinks it
  // locks it.
  if (!is_same_file(path, found)) return false;
  if (::unlink(path.c_str()) != 0) {
    return errno_of(path, "was left behind by a process that has ended, and cannot be removed",
                    errno);
  }
  return true;
}

}  // namespace

SetupStatus SegmentFile::check_name(std::string_view name) {
  std::string_view rest = name;
  if (rest.starts_with('/')) rest.remove_prefix(1);
  const bool is_legal =
      !rest.empty() && rest.size() <= kNameBytesMax && rest != "." && rest != ".." &&
      std::ranges::none_of(rest, [](char c) { return c == '/' || (c >= 0 && c < ' '); });
  if (is_legal) return {};
  return SetupError{ErrorCode::kInvalidArgument,
                    "'" + printable(name) +
                        "' is no name for shared memory; use 1 to 255 bytes without a slash, for "
                        "example 'larder_l1'"};
}

SetupResult<SegmentFile> SegmentFile::create(const std::string& directory, std::string_view name,
                                             std::uint64_t bytes, const NoFork& /*no_fork*/) {
  LARDER_TRY(check_name(name));
  if (name.starts_with('/')) name.remove_prefix(1);
  SegmentFile file{directory, std::string{name}};
  LARDER_TRY(file.make(bytes));
  LARDER_TRY(file.link());
  return file;
}

SegmentFile::SegmentFile(std::string directory, std::string name) noexcept
    : name_(std::move(name)), path_(directory + "/" + name_), directory_(std::move(directory)) {}

SegmentFile::SegmentFile(SegmentFile&& other) noexcept
    : name_(std::move(other.name_)),
      path_(std::move(other.path_)),
      directory_(std::move(other.directory_)),
      fd_(std::move(other.fd_)),
      guard_(std::move(other.guard_)),
      file_system_bytes_(other.file_system_bytes_),
      is_linked_(std::exchange(other.is_linked_, false)),
      has_replaced_stale_(other.has_replaced_stale_) {}

SegmentFile::~SegmentFile() {
  if (is_linked_) ::unlink(path_.c_str());
  guard_ = {};
}

/// The whole file, locked and without a name.
SetupStatus SegmentFile::make(std::uint64_t bytes) {
  constexpr std::uint64_t kBytesMax = std::numeric_limits<::off_t>::max() - 2 * kMarkBytes;
  if (bytes > kBytesMax) return error_of(ErrorCode::kInvalidArgument, path_, "is too large");
  fd_.reset(::open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd_) return errno_of(path_, "cannot be made", errno);
  guard_ = ForkGuard{fd_.get()};
  struct ::statfs system{};
  if (::fstatfs(fd_.get(), &system) != 0) return errno_of(path_, "cannot be made", errno);
  if (static_cast<unsigned long>(system.f_type) != TMPFS_MAGIC) {
    return error_of(ErrorCode::kInvalidArgument, path_,
                    "would lie on a disk; use a directory on a tmpfs, such as /dev/shm");
  }
  file_system_bytes_ =
      static_cast<std::uint64_t>(system.f_blocks) * static_cast<std::uint64_t>(system.f_bsize);
  if (::fchmod(fd_.get(), 0600) != 0 || ::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno_of(path_, "cannot be made", errno);
  }
  const std::uint64_t mark_at = (bytes + kMarkBytes - 1) / kMarkBytes * kMarkBytes;
  if (::ftruncate(fd_.get(), static_cast<::off_t>(mark_at + kMarkBytes)) != 0) {
    return errno_of(path_, "cannot be given its size", errno);
  }
  Mark mark;
  mark.pid = static_cast<std::uint64_t>(::getpid());
  if (::pwrite(fd_.get(), &mark, sizeof mark, static_cast<::off_t>(mark_at)) !=
      ::ssize_t{sizeof mark}) {
    return errno_of(path_, "cannot be written; is its file system full?", errno);
  }
  return {};
}

SetupStatus SegmentFile::link() {
  const std::string nameless = "/proc/self/fd/" + std::to_string(fd_.get());
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (::linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      is_linked_ = true;
      return {};
    }
    if (errno != EEXIST) return errno_of(path_, "cannot be made", errno);
    LARDER_ASSIGN(const bool is_removed, remove_stale(path_));
    has_replaced_stale_ |= is_removed;
  }
  return error_of(ErrorCode::kUnavailable, path_,
                  "is made and removed by other processes all the time; choose another name");
}

}  // namespace larder::cache
