#pragma once

#include <cstdint>

#include "larder/connectors/log/machine/appender.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/superblock_file.h"
#include "larder/connectors/log/machine/superblock_writer.h"

namespace larder::log_store {

/// Looks at the file system once a second: how much space is free, and whether the store's files
/// are still there. Below `min_free` nothing grows, and free segments are removed. A session that
/// began on a full file system begins in earnest once its open count can be raised.
///
/// Threads: the path's one.
class SpaceWatch final : public FileCallSink {
 public:
  SpaceWatch(PathState& state, Appender& appender, SuperblockFile& superblock_file)
      : state_(state),
        appender_(appender),
        superblock_file_(superblock_file),
        superblock_writer_(state) {}

  /// At open: the file system's size, and the id of the superblock's file (0: unknown).
  void begin(const Result<io::Space>& space, std::uint64_t superblock_inode) noexcept;
  /// Once a turn. With `is_stopping` a frozen path begins nothing new.
  void turn(std::uint64_t now_ns, bool is_stopping) noexcept;
  std::uint64_t next_timer_ns() const noexcept { return next_look_ns_; }
  /// Apart from its call to the file system.
  bool is_quiet() const noexcept { return !superblock_writer_.is_busy(); }

  void on_file_call(FileCall& call) noexcept override;

 private:
  void thaw(bool may_try) noexcept;
  void apply(const io::Space& space, bool may_add_files) noexcept;

  PathState& state_;
  Appender& appender_;
  SuperblockFile& superblock_file_;
  SuperblockWriter superblock_writer_;
  FileCall look_call_;
  std::uint64_t next_look_ns_ = 0;
  std::uint64_t superblock_inode_ = 0;
};

}  // namespace larder::log_store
