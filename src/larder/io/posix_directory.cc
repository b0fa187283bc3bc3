#include "larder/io/posix_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <limits>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "larder/base/clock.h"
#include "larder/io/direct_io.h"
#include "larder/io/file_name.h"

namespace larder::io {

namespace {

constexpr const char* kWhere = "io";
constexpr std::uint64_t kLockPollNs = 5'000'000;
constexpr mode_t kFileMode = 0600;
constexpr std::uint64_t kStatBlockBytes = 512;  // Unit of st_blocks, whatever the file system.

FileInfo info_of(std::string name, const struct stat& status) {
  return {std::move(name), static_cast<std::uint64_t>(status.st_size),
          static_cast<std::uint64_t>(status.st_blocks) * kStatBlockBytes, S_ISREG(status.st_mode),
          static_cast<std::uint64_t>(status.st_ino)};
}

Error last_error(const char* what) noexcept {
  return Error::from_errno(errno, kWhere, what);
}

Error read_only(const char* what) noexcept {
  return Error::from_errno(EROFS, kWhere, what);
}

Status allocate_fd(int fd, std::uint64_t bytes) noexcept {
  if (bytes == 0) return {};
  if (bytes > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    return Error::from_errno(EFBIG, kWhere, "allocating a file");
  }
  int result = 0;
  do {
    result = ::fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return {};
  if (errno == EOPNOTSUPP) {
    return Error::from_errno(EOPNOTSUPP, kWhere, "allocating a file: no fallocate() here");
  }
  return last_error("allocating a file");
}

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

/// Sets `direct` and `alignment`, or `why_not_direct`.
SetupStatus decide_direct(const DeviceOptions& options, OpenedDirectory& opened) {
  DirectoryFacts& facts = opened.facts;
  struct statfs status{};
  if (::fstatfs(opened.fd.get(), &status) == 0) {
    facts.file_system = file_system_name(static_cast<std::uint32_t>(status.f_type));
    constexpr std::array<std::string_view, 4> kThatShare = {"xfs", "btrfs", "bcachefs", "ocfs2"};
    facts.may_share_blocks = std::ranges::find(kThatShare, facts.file_system) != kThatShare.end();
  }
  if (options.direct == DirectIo::kNever || options.read_only) return {};
  const DirectIoSupport support = probe_direct_io(opened.fd.get());
  if (support.is_supported) {
    facts.direct = true;
    facts.alignment = support.alignment;
    return {};
  }
  opened.why_not_direct = "no direct I/O in '" + options.directory + "' (" + facts.file_system +
                          "): " + support.why_not;
  if (options.direct != DirectIo::kRequired) return {};
  return SetupError{ErrorCode::kInvalidArgument,
                    opened.why_not_direct +
                        "; use a local file system such as ext4 or xfs, or allow buffered I/O"};
}

}  // namespace

SetupResult<OpenedDirectory> open_directory(const DeviceOptions& options) {
  OpenedDirectory opened;
  {
    const NoFork no_fork;
    opened.fd.reset(::open(options.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!opened.fd) {
      const int sys_errno = errno;
      return SetupError{
          Error::from_errno(sys_errno, kWhere, "").code(),
          "cannot open the directory '" + options.directory + "': " + errno_text(sys_errno)};
    }
    opened.guard = ForkGuard{opened.fd.get()};
  }
  LARDER_TRY(decide_direct(options, opened));
  return opened;
}

Result<std::vector<FileInfo>> PosixDirectory::list() {
  // Uses a descriptor of its own, because the position in the directory belongs to the open file
  // description.
  UniqueFd fd{::openat(opened_.fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) return last_error("opening the directory to list it");
  const std::unique_ptr<DIR, CloseDirectory> directory{::fdopendir(fd.get())};
  if (directory == nullptr) return last_error("listing the directory");
  static_cast<void>(fd.release());
  std::vector<FileInfo> infos;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(directory.get());
    if (entry == nullptr) break;
    const std::string name{static_cast<const char*>(entry->d_name)};
    if (!is_plain_file_name(name)) continue;
    struct stat status{};
    if (::fstatat(opened_.fd.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
      infos.push_back(info_of(name, status));
    } else if (errno != ENOENT) {  // Otherwise it was removed meanwhile.
      return last_error("looking at a file of the directory");
    }
  }
  if (errno != 0) return last_error("listing the directory");
  std::sort(infos.begin(), infos.end(),
            [](const FileInfo& a, const FileInfo& b) { return a.name < b.name; });
  return infos;
}

Result<FileId> PosixDirectory::open(std::string_view name, OpenMode mode) {
  if (!is_plain_file_name(name)) {
    return Error{ErrorCode::kInvalidArgument, kWhere, "opening a file: not a plain name"};
  }
  LARDER_TRY(queue_.check_room());
  if (is_read_only_ && mode == OpenMode::kCreate) return read_only("creating a file");
  const bool only_reads = is_read_only_ || mode == OpenMode::kReadOnly;
  const int flags = (only_reads ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                    (facts().direct ? O_DIRECT : 0) |
                    (mode == OpenMode::kCreate ? O_CREAT | O_EXCL : 0);
  PosixQueue::OpenFile opened{.name = std::string{name}, .file = {}};
  UniqueFd& fd = opened.file.fd;
  {
    const NoFork no_fork;
    fd.reset(::openat(opened_.fd.get(), opened.name.c_str(), flags, kFileMode));
    if (fd) opened.file.guard = ForkGuard{fd.get()};
  }
  if (!fd) return last_error(mode == OpenMode::kCreate ? "creating a file" : "opening a file");
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return last_error("looking at a file");
  if (!S_ISREG(status.st_mode)) {
    return Error::from_errno(EINVAL, kWhere, "opening a file: not a regular file");
  }
  // Non-blocking was for the open alone, which would wait on a FIFO.
  if (::fcntl(fd.get(), F_SETFL, flags & O_DIRECT) != 0) return last_error("opening a file");
  auto file = queue_.add(std::move(opened));
  if (!file && mode == OpenMode::kCreate) remove(name).ignore("the first error counts");
  return file;
}

Result<FileInfo> PosixDirectory::info(FileId file) {
  struct stat status{};
  if (::fstat(queue_.fd_of(file), &status) != 0) return last_error("looking at a file");
  return info_of(queue_.file(file).name, status);
}

Result<FileInfo> PosixDirectory::look_for(std::string_view name) {
  const std::string file_name{name};
  struct stat status{};
  if (::fstatat(opened_.fd.get(), file_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return last_error("looking for a file");
  }
  return info_of(file_name, status);
}

Status PosixDirectory::allocate(FileId file, std::uint64_t bytes) {
  if (is_read_only_) return read_only("allocating a file");
  return allocate_fd(queue_.fd_of(file), bytes);
}

Status PosixDirectory::make(std::string_view name, std::uint64_t bytes) {
  if (!is_plain_file_name(name)) {
    return Error{ErrorCode::kInvalidArgument, kWhere, "creating a file: not a plain name"};
  }
  if (is_read_only_) return read_only("creating a file");
  const std::string file_name{name};
  constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  const UniqueFd fd{::openat(opened_.fd.get(), file_name.c_str(), kFlags, kFileMode)};
  if (!fd) return last_error("creating a file");
  Status made = allocate_fd(fd.get(), bytes);
  if (made) made = sync_directory();
  if (!made) ::unlinkat(opened_.fd.get(), file_name.c_str(), 0);
  return made;
}

Status PosixDirectory::remove(std::string_view name) {
  if (!is_plain_file_name(name)) {
    return Error{ErrorCode::kInvalidArgument, kWhere, "removing a file: not a plain name"};
  }
  if (is_read_only_) return read_only("removing a file");
  if (::unlinkat(opened_.fd.get(), std::string{name}.c_str(), 0) != 0)
    return last_error("removing a file");
  return {};
}

Status PosixDirectory::sync_directory() {
  if (::fsync(opened_.fd.get()) != 0) return last_error("syncing the directory");
  return {};
}

Result<Space> PosixDirectory::space() {
  struct statvfs status{};
  if (::fstatvfs(opened_.fd.get(), &status) != 0) return last_error("asking for the free space");
  const std::uint64_t unit = status.f_frsize;
  return Space{status.f_blocks * unit, status.f_bavail * unit};
}

Result<bool> PosixDirectory::shares_blocks(std::string_view name) {
  if (!facts().may_share_blocks) return false;
  const UniqueFd fd{::openat(opened_.fd.get(), std::string{name}.c_str(),
                             O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!fd) return last_error("opening a file");
  constexpr std::uint32_t kExtents = 128;  // At once.
  constexpr std::size_t kMapBytes = sizeof(fiemap) + kExtents * sizeof(fiemap_extent);
  std::vector<std::uint64_t> memory(kMapBytes / sizeof(std::uint64_t));
  for (std::uint64_t from = 0;;) {
    auto* const map = ::new (memory.data()) fiemap{};
    map->fm_start = from;
    map->fm_length = FIEMAP_MAX_OFFSET - from;
    map->fm_extent_count = kExtents;
    if (::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0) return last_error("mapping a file");
    const auto extents = std::span{map->fm_extents, map->fm_mapped_extents};
    if (extents.empty()) return false;
    for (const fiemap_extent& extent : extents) {
      if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0) return true;
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return false;
    }
    from = extents.back().fe_logical + extents.back().fe_length;
  }
}

/// The directory by a descriptor of its own, which a lock can keep open.
Result<LockedFile> PosixDirectory::open_itself() const {
  LockedFile itself;
  const NoFork no_fork;
  itself.fd.reset(::openat(opened_.fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!itself.fd) return last_error("opening the directory to lock it");
  itself.guard = ForkGuard{itself.fd.get()};
  return itself;
}

Status PosixDirectory::lock(FileId file, std::uint64_t deadline_ns) {
  PosixQueue::OpenFile& opened = queue_.file(file);
  LockedFile& directory = queue_.directory_lock();
  if (!directory.fd) {
    LARDER_ASSIGN(directory, open_itself());
  }
  const Clock& clock = RealClock::instance();
  for (;;) {
    auto lock = FileLock::try_take(opened.file.fd.get());
    if (lock && !directory.lock) {
      auto of_directory = FileLock::try_take(directory.fd.get());
      if (of_directory) directory.lock = std::move(*of_directory);
      const int failed = of_directory ? 0 : of_directory.error().sys_errno();
      const bool is_taken =
          !of_directory &&
          (of_directory.error().code() == ErrorCode::kUnavailable || failed == EDEADLK);
      if (is_taken) lock = of_directory.error();
    }
    if (lock) {
      opened.file.lock = std::move(*lock);
      return {};
    }
    const std::uint64_t now_ns = clock.now_ns();
    if (lock.error().code() != ErrorCode::kUnavailable || now_ns >= deadline_ns) {
      return lock.error();
    }
    std::this_thread::sleep_for(
        std::chrono::nanoseconds{std::min(deadline_ns - now_ns, kLockPollNs)});
  }
}

}  // namespace larder::io
