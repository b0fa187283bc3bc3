#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/fs/name_rules.h"
#include "larder/connectors/fs/options.h"

namespace larder::fs {

/// The open base directory and its folder for temporary files. Immutable and shared by its users;
/// no path below it can lead elsewhere, and no symbolic link below it is followed.
class Directory {
 public:
  /// Opens both. The base directory must be there; the folder is made where it is missing.
  static SetupResult<std::shared_ptr<const Directory>> open(const FsOptions& options);

  int base_fd() const noexcept { return base_.get(); }
  int temporary_fd() const noexcept { return temporary_ ? temporary_.get() : base_.get(); }
  /// Found out when it was opened.
  const NameRules& names() const noexcept { return names_; }
  bool has_temporary_folder() const noexcept { return static_cast<bool>(temporary_); }
  /// Whether `path` leads to this directory now.
  bool is_at(const std::string& path) const noexcept;
  dev_t device() const noexcept { return device_; }
  ino_t inode() const noexcept { return inode_; }

 private:
  Directory() = default;

  UniqueFd base_;
  UniqueFd temporary_;  ///< Null: temporary files are beside the values.
  dev_t device_ = 0;
  ino_t inode_ = 0;
  NameRules names_;
};

/// The folder in which a name is: the base directory, or one of its shards.
class Folder {
 public:
  /// kIo with ENOENT when there is no such shard, unless it is made.
  static Result<Folder> find(const Directory& directory, std::string_view name,
                             const FsOptions& options, bool make);

  int fd() const noexcept { return shard_ ? shard_.get() : base_fd_; }

 private:
  int base_fd_ = -1;
  UniqueFd shard_;
};

/// The base directory by its path, which may vanish and come back: it is then opened or made again.
///
/// Threads: any. Cost: get() takes a short lock; look_again() makes at most one stat() a second.
class BasePath {
 public:
  static SetupResult<std::unique_ptr<BasePath>> open(const FsOptions& options);

  std::shared_ptr<const Directory> get() const LARDER_EXCLUDES(mutex_);
  /// Call it when a file was not found: true when the path leads to another directory than before,
  /// which is used from now on. Looks at most once a second unless `now`.
  bool look_again(bool now) LARDER_EXCLUDES(mutex_);
  /// Call it when no file could be made: does the same, and makes the directory if its parent
  /// exists on the file system that the directory was on (so that nothing is written below an
  /// unmounted mount point).
  bool restore() LARDER_EXCLUDES(mutex_);
  bool is_missing() const noexcept { return is_missing_.load(std::memory_order_relaxed); }

 private:
  BasePath(const FsOptions& options, std::shared_ptr<const Directory> directory,
           dev_t parent_device)
      : options_(options), parent_device_(parent_device), directory_(std::move(directory)) {}
  bool reopen_locked() LARDER_REQUIRES(mutex_);
  /// For a directory in which no file could be made when it was opened: a full or read-only disk
  /// may have room by now, or hold files that show its rules. True: names are taken differently
  /// now.
  bool try_names_again(const std::shared_ptr<const Directory>& directory) LARDER_EXCLUDES(mutex_);
  void note_missing(bool is_missing) noexcept;

  const FsOptions options_;
  const dev_t parent_device_;
  std::atomic<std::uint64_t> looked_ns_ = 0;
  std::atomic<bool> is_missing_ = false;
  mutable Mutex mutex_;
  std::shared_ptr<const Directory> directory_ LARDER_GUARDED_BY(mutex_);
};

/// Makes `from` of the temporary folder the file `to` of `folder`, in one step.
///
/// Without `replace` an existing file stays: EEXIST. If the file system has no such rename, a hard
/// link does the same; if it has no hard links either, an ordinary rename replaces.
Status publish_file(int temporary_fd, const std::string& from, int folder_fd, const std::string& to,
                    bool replace) noexcept;

struct FolderCloser {
  void operator()(DIR* stream) const noexcept { ::closedir(stream); }
};
/// A listing of one folder, for readdir().
using FolderStream = std::unique_ptr<DIR, FolderCloser>;
Result<FolderStream> open_folder_stream(int parent_fd, const char* name);

/// The names in the base directory, or in all its shards, one after the other. Every name that
/// exists from begin to end is listed at least once. One thread at a time.
class NameWalk {
 public:
  static Result<NameWalk> begin(std::shared_ptr<const Directory> directory, bool has_shards);

  struct Name {
    int folder_fd = -1;  ///< Valid until the next call.
    const char* text = nullptr;
  };
  /// Null text: that was the last. After an error the next call continues where this one failed.
  Result<Name> next();
  const NameRules& rules() const noexcept { return directory_->names(); }

 private:
  /// False: there are no more.
  Result<bool> open_next_shard();

  std::shared_ptr<const Directory> directory_;
  FolderStream stream_;
  bool has_shards_ = false;
  unsigned next_shard_ = 0;
};

}  // namespace larder::fs
