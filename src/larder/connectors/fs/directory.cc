#include "larder/connectors/fs/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "larder/base/result.h"
#include "larder/connectors/fs/file_name.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";
constexpr int kOpenFolder = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
constexpr unsigned kShardsPerLevel = 256;
constexpr std::uint64_t kLookEveryNs = 1'000'000'000;

SetupError cannot(const std::string& doing, const std::string& path, int sys_errno) {
  return SetupError{Error::from_errno(sys_errno, "", "").code(),
                    "fs: " + doing + " '" + path + "': " + errno_text(sys_errno)};
}

std::string parent_of(const std::string& path) {
  std::filesystem::path cleaned = std::filesystem::path{path}.lexically_normal();
  if (!cleaned.has_filename()) cleaned = cleaned.parent_path();  // A trailing slash.
  const std::string parent = cleaned.parent_path().string();
  return parent.empty() ? "." : parent;
}

dev_t device_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? status.st_dev : 0;
}

/// Gives a folder that was just made the rights that the umask took away. Without permission to
/// change them it keeps those that it has.
void give_mode(int fd, mode_t mode) noexcept {
  struct stat status{};
  if (::fstat(fd, &status) != 0 || (status.st_mode & 0777) == mode) return;
  ::fchmod(fd, mode | (status.st_mode & S_ISGID));  // Permissions that it inherited.
}

/// Opens a folder below `parent_fd`, and makes it if need be.
Result<UniqueFd> folder_below(int parent_fd, const char* name, mode_t mode, bool make) {
  UniqueFd fd{::openat(parent_fd, name, kOpenFolder)};
  if (fd || !make || errno != ENOENT) {
    if (!fd) return Error::from_errno(errno, kWhere, "opening a folder");
    return fd;
  }
  const bool is_made = ::mkdirat(parent_fd, name, mode) == 0;
  if (!is_made && errno != EEXIST) return Error::from_errno(errno, kWhere, "making a folder");
  fd.reset(::openat(parent_fd, name, kOpenFolder));
  if (!fd) return Error::from_errno(errno, kWhere, "opening a folder");
  if (is_made) give_mode(fd.get(), mode);
  return fd;
}

}  // namespace

SetupResult<std::shared_ptr<const Directory>> Directory::open(const FsOptions& options) {
  const std::string& path = options.base_path;
  std::shared_ptr<Directory> directory{new Directory};
  // The path itself may lead over links: it is the operator's.
  directory->base_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory->base_) return cannot("opening the directory", path, errno);
  struct stat status{};
  if (::fstat(directory->base_.get(), &status) != 0) return cannot("looking at", path, errno);
  directory->device_ = status.st_dev;
  directory->inode_ = status.st_ino;
  if (!options.temporary_folder.empty()) {
    int parent = directory->base_.get();
    for (const auto& part : std::filesystem::path{options.temporary_folder}) {
      if (part.empty() || part == ".") continue;
      auto folder = folder_below(parent, part.c_str(), options.directory_mode(), true);
      if (!folder) {
        return cannot("opening the temporary folder", path + "/" + options.temporary_folder,
                      folder.error().sys_errno());
      }
      directory->temporary_ = std::move(*folder);
      parent = directory->temporary_.get();
    }
    if (::fstat(parent, &status) != 0 || status.st_dev != directory->device_) {
      return SetupError{ErrorCode::kInvalidArgument,
                        "fs: relative_tmp_dir '" + options.temporary_folder +
                            "' is on another file system than base_path '" + path +
                            "'; files cannot be renamed from one to the other: choose a folder on "
                            "the same one"};
    }
  }
  auto names = probe_name_rules(directory->base_.get());
  if (!names) {
    return SetupError{names.error().code(), "fs: finding out how '" + path +
                                                "' takes names: " + names.error().to_string()};
  }
  directory->names_ = *names;
  return std::shared_ptr<const Directory>{std::move(directory)};
}

bool Directory::is_at(const std::string& path) const noexcept {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

Result<Folder> Folder::find(const Directory& directory, std::string_view name,
                            const FsOptions& options, bool make) {
  Folder folder;
  folder.base_fd_ = directory.base_fd();
  if (!options.has_shards) return folder;
  const std::string shard = shard_of(name);
  const std::string first = shard.substr(0, 2);
  const std::string second = shard.substr(3);
  const mode_t mode = options.directory_mode();
  LARDER_ASSIGN(const UniqueFd outer, folder_below(folder.base_fd_, first.c_str(), mode, make));
  LARDER_ASSIGN(folder.shard_, folder_below(outer.get(), second.c_str(), mode, make));
  return folder;
}

SetupResult<std::unique_ptr<BasePath>> BasePath::open(const FsOptions& options) {
  LARDER_ASSIGN(auto directory, Directory::open(options));
  return std::unique_ptr<BasePath>{
      new BasePath{options, std::move(directory), device_of(parent_of(options.base_path))}};
}

std::shared_ptr<const Directory> BasePath::get() const {
  const MutexLock lock{mutex_};
  return directory_;
}

bool BasePath::look_again(bool now) {
  const std::uint64_t now_ns = RealClock::instance().now_ns();
  std::uint64_t looked_ns = looked_ns_.load(std::memory_order_relaxed);
  if (!now && now_ns - looked_ns < kLookEveryNs) return false;
  if (!looked_ns_.compare_exchange_strong(looked_ns, now_ns) && !now) return false;
  std::shared_ptr<const Directory> directory;
  {
    const MutexLock lock{mutex_};
    if (!directory_->is_at(options_.base_path)) return reopen_locked();
    note_missing(false);
    directory = directory_;
  }
  return !directory->names().is_proved && try_names_again(directory);
}

bool BasePath::try_names_again(const std::shared_ptr<const Directory>& directory) {
  // Read without the lock, because every operation reads it.
  const auto names = probe_name_rules(directory->base_fd());
  if (!names || *names == directory->names()) return false;
  const MutexLock lock{mutex_};
  return directory_ == directory && reopen_locked();
}

bool BasePath::restore() {
  const MutexLock lock{mutex_};
  if (!directory_->is_at(options_.base_path)) {
    const std::string parent = parent_of(options_.base_path);
    // A file system mounted at the path itself is on another device than the parent: when it is
    // unmounted, the parent's disk must not be filled in its place.
    const bool was_mount = directory_->device() != parent_device_;
    const mode_t mode = options_.directory_mode();
    if (!was_mount && device_of(parent) == parent_device_ &&
        ::mkdir(options_.base_path.c_str(), mode) == 0) {
      const UniqueFd made{::open(options_.base_path.c_str(), kOpenFolder)};
      if (made) give_mode(made.get(), mode);
    }
  }
  // Also when the directory is the same: its temporary folder may be missing.
  return reopen_locked();
}

bool BasePath::reopen_locked() {
  auto opened = Directory::open(options_);
  note_missing(!opened.has_value());
  if (!opened) return false;
  directory_ = std::move(*opened);
  return true;
}

void BasePath::note_missing(bool is_missing) noexcept {
  if (is_missing_.exchange(is_missing, std::memory_order_relaxed) == is_missing) return;
  log(LogLevel::kWarning, "fs",
      "the directory '" + options_.base_path + (is_missing ? "' is not there" : "' is back"));
}

Status publish_file(int temporary_fd, const std::string& from, int folder_fd, const std::string& to,
                    bool replace) noexcept {
  if (!replace) {
    if (::renameat2(temporary_fd, from.c_str(), folder_fd, to.c_str(), RENAME_NOREPLACE) == 0) {
      return {};
    }
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) {
      return Error::from_errno(errno, kWhere, "publishing a file");
    }
    if (::linkat(temporary_fd, from.c_str(), folder_fd, to.c_str(), 0) == 0) {
      ::unlinkat(temporary_fd, from.c_str(), 0);
      return {};
    }
    if (errno != EPERM && errno != ENOSYS && errno != EOPNOTSUPP && errno != EMLINK) {
      return Error::from_errno(errno, kWhere, "publishing a file");
    }
    if (::faccessat(folder_fd, to.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
      return Error::from_errno(EEXIST, kWhere, "publishing a file");
    }
  }
  if (::renameat(temporary_fd, from.c_str(), folder_fd, to.c_str()) != 0) {
    return Error::from_errno(errno, kWhere, "publishing a file");
  }
  return {};
}

Result<NameWalk> NameWalk::begin(std::shared_ptr<const Directory> directory, bool has_shards) {
  NameWalk walk;
  walk.directory_ = std::move(directory);
  walk.has_shards_ = has_shards;
  if (!has_shards) {
    LARDER_ASSIGN(walk.stream_, open_folder_stream(walk.directory_->base_fd(), "."));
  }
  return walk;
}

Result<FolderStream> open_folder_stream(int parent_fd, const char* name) {
  UniqueFd fd{::openat(parent_fd, name, kOpenFolder)};
  if (!fd) return Error::from_errno(errno, kWhere, "opening a directory");
  FolderStream stream{::fdopendir(fd.get())};
  if (stream == nullptr) return Error::from_errno(errno, kWhere, "reading a directory");
  static_cast<void>(fd.release());  // The stream closes it.
  return stream;
}

Result<bool> NameWalk::open_next_shard() {
  while (has_shards_ && next_shard_ < kShardsPerLevel * kShardsPerLevel) {
    std::array<char, 8> path{};
    std::snprintf(path.data(), path.size(), "%02x", next_shard_ / kShardsPerLevel);
    const UniqueFd outer{::openat(directory_->base_fd(), path.data(), kOpenFolder)};
    if (!outer) {
      const Error error = Error::from_errno(errno, kWhere, "opening a directory");
      if (error.is_retryable()) return error;
      next_shard_ = (next_shard_ / kShardsPerLevel + 1) * kShardsPerLevel;
      continue;
    }
    std::snprintf(path.data(), path.size(), "%02x", next_shard_ % kShardsPerLevel);
    auto opened = open_folder_stream(outer.get(), path.data());
    if (!opened && opened.error().is_retryable()) return opened.error();
    ++next_shard_;
    if (!opened) continue;
    stream_ = std::move(*opened);
    return true;
  }
  return false;
}

Result<NameWalk::Name> NameWalk::next() {
  for (;;) {
    if (stream_ == nullptr) {
      LARDER_ASSIGN(const bool is_open, open_next_shard());
      if (!is_open) return Name{};
    }
    errno = 0;
    const dirent* const entry = ::readdir(stream_.get());
    if (entry != nullptr) return Name{::dirfd(stream_.get()), entry->d_name};
    if (errno != 0) return Error::from_errno(errno, kWhere, "reading a directory");
    stream_ = nullptr;
    if (!has_shards_) return Name{};
  }
}

}  // namespace larder::fs
