#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "larder/base/fork_guard.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::cache {

/// A file of a tmpfs that other processes map by its name: like shm_open()'s, with an owner.
///
/// Life: the file is made without a name, locked (flock), sized, marked with its owner's pid in a
///   page behind its `bytes`, and only then linked under its name, so no process ever finds an
///   incomplete or unlocked file. The destructor unlinks it. The lock ends with the owner, however
///   it dies; the name then stays.
/// A name that exists: refused if its owner has the lock (it is alive), or if the file is not one
/// of
///   these, is a link, or belongs to another user. Otherwise its owner is dead: the file is
///   unlinked under its own lock, so of two processes that find it only one does.
/// Owns the descriptor and the name. Threads: one.
class SegmentFile {
 public:
  /// The file has mode 0600 and reads as zeros; no page is touched but the mark's.
  static SetupResult<SegmentFile> create(const std::string& directory, std::string_view name,
                                         std::uint64_t bytes, const NoFork& no_fork);
  /// In shm_open()'s form; the text says why it cannot be used.
  static SetupStatus check_name(std::string_view name);

  ~SegmentFile();
  SegmentFile(SegmentFile&& other) noexcept;
  SegmentFile& operator=(SegmentFile&&) = delete;
  SegmentFile(const SegmentFile&) = delete;
  SegmentFile& operator=(const SegmentFile&) = delete;

  int fd() const noexcept { return fd_.get(); }
  /// Without a leading slash.
  const std::string& name() const noexcept { return name_; }
  bool has_replaced_stale() const noexcept { return has_replaced_stale_; }
  /// The size limit of its file system, full or not.
  std::uint64_t file_system_bytes() const noexcept { return file_system_bytes_; }

 private:
  SegmentFile(std::string directory, std::string name) noexcept;
  SetupStatus make(std::uint64_t bytes);
  SetupStatus link();

  std::string name_;
  std::string path_;
  std::string directory_;
  UniqueFd fd_;
  ForkGuard guard_;
  std::uint64_t file_system_bytes_ = 0;
  bool is_linked_ = false;
  bool has_replaced_stale_ = false;
};

}  // namespace larder::cache
