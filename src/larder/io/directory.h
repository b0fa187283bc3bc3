#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/io/transfer_queue.h"

namespace larder::io {

enum class OpenMode : std::uint8_t {
  kExisting = 1,  ///< kIo with ENOENT when it is not there.
  kCreate,        ///< The file must not exist (EEXIST). Made 0600.
  kReadOnly,      ///< Like kExisting, where only reading is permitted. A write ends with EBADF.
};

struct FileInfo {
  std::string name;
  std::uint64_t bytes = 0;            ///< Length.
  std::uint64_t allocated_bytes = 0;  ///< Blocks that it occupies, in bytes.
  bool is_regular = true;
  std::uint64_t inode = 0;  ///< Tells a file from another one of its name; 0: not known.
};

struct Space {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  ///< For this user.
};

/// Facts found when the directory was opened. It does not change.
struct DirectoryFacts {
  bool direct = false;
  Alignment alignment;            ///< The strictest alignment of the directory's file system.
  std::string file_system;        ///< "ext4", "xfs", "tmpfs", ... or a magic number in hex.
  bool may_share_blocks = false;  ///< Whether its files can be copied by reflink or snapshot.
};

/// The control plane of a device: the names of one directory, and which of its files are open in
/// its TransferQueue. Calls may block for as long as the file system takes; they are for opening a
/// store and for the rare growth of one. Names are plain file names, without a slash.
///
/// Threads: open(), close(), info(), allocate() and lock() belong to the thread that drives the
///   queue. facts() is for any thread, and so is the rest where the directory is one of the
///   operating system.
/// Ownership: the queue has the open files, so the directory must go no later than it is last used,
///   and may go before or after the queue.
class Directory {
 public:
  Directory() = default;
  virtual ~Directory() = default;
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  virtual const DirectoryFacts& facts() const noexcept = 0;

  virtual Result<std::vector<FileInfo>> list() = 0;
  /// Facts about the file that has this name now, open or not; kIo with ENOENT when there is none.
  virtual Result<FileInfo> look_for(std::string_view name);
  /// Creates a file that must not exist, allocates it and makes its name durable; leaves no file
  /// open, and none behind when it fails.
  virtual Status make(std::string_view name, std::uint64_t bytes);
  virtual Status remove(std::string_view name) = 0;
  /// Makes created and removed names durable.
  virtual Status sync_directory() = 0;
  virtual Result<Space> space() = 0;
  /// Whether blocks of the file belong to another one as well (a reflink copy, a snapshot).
  /// Overwriting such a block takes a new one, and can fail with ENOSPC.
  virtual Result<bool> shares_blocks(std::string_view /*name*/) { return false; }

  virtual Result<FileId> open(std::string_view name, OpenMode mode) = 0;
  /// No request to the file is in flight.
  virtual void close(FileId file) noexcept = 0;
  virtual Result<FileInfo> info(FileId file) = 0;
  /// Reserves blocks for [0, bytes) and makes the file at least that long: later writes there
  /// cannot meet ENOSPC and do not extend the file.
  virtual Status allocate(FileId file, std::uint64_t bytes) = 0;
  /// Takes an exclusive lock on the file, trying until `deadline_ns`; kUnavailable when another
  /// owner still has it. Fails at once with EDEADLK when this process holds the lock through
  /// another open file that it still uses: it would wait for itself. The lock is held until the
  /// file is closed AND the kernel has completed all of the queue's I/O, also when the process is
  /// killed. No child of fork() has a share in it.
  virtual Status lock(FileId file, std::uint64_t deadline_ns) = 0;
};

}  // namespace larder::io
