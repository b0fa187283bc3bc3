#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/base/fork_guard.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/io/device.h"
#include "larder/io/directory.h"
#include "larder/io/file_lock.h"
#include "larder/io/posix_queue.h"

namespace larder::io {

/// A directory of the operating system that was opened and looked at, before it has a queue.
struct OpenedDirectory {
  UniqueFd fd;
  ForkGuard guard;
  DirectoryFacts facts;
  std::string
      why_not_direct;  ///< Empty, or why the direct I/O that was asked for is not available.
};
SetupResult<OpenedDirectory> open_directory(const DeviceOptions& options);

/// A directory of the operating system, whose files are opened in a PosixQueue.
///
/// Only regular files are opened, and symbolic links are not followed.
/// Ownership: owns the directory's descriptor, and keeps it from children of fork(). Threads: as
/// Directory. Cost: system calls that may block.
class PosixDirectory final : public Directory {
 public:
  /// `queue` outlives the last call.
  PosixDirectory(OpenedDirectory&& opened, bool is_read_only, PosixQueue& queue)
      : opened_(std::move(opened)), is_read_only_(is_read_only), queue_(queue) {}

  const DirectoryFacts& facts() const noexcept override { return opened_.facts; }

  // May be called from any thread: they use the descriptor only.
  Result<std::vector<FileInfo>> list() override;
  Result<FileInfo> look_for(std::string_view name) override;
  Status make(std::string_view name, std::uint64_t bytes) override;
  Status remove(std::string_view name) override;
  Status sync_directory() override;
  Result<Space> space() override;
  Result<bool> shares_blocks(std::string_view name) override;

  Result<FileId> open(std::string_view name, OpenMode mode) override;
  void close(FileId file) noexcept override { queue_.close(file); }
  Result<FileInfo> info(FileId file) override;
  Status allocate(FileId file, std::uint64_t bytes) override;
  Status lock(FileId file, std::uint64_t deadline_ns) override;

 private:
  Result<LockedFile> open_itself() const;

  const OpenedDirectory opened_;
  const bool is_read_only_;
  PosixQueue& queue_;
};

}  // namespace larder::io
