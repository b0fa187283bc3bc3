#pragma once

#include <cstdint>

#include "larder/connectors/log/machine/appender.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/superblock_file.h"

namespace larder::log_store {

/// One owner's time with a store, as the superblock tells of it: the open count is raised before
/// anything else is written (L2), and the store is marked clean after everything else was.
///
/// Invariant: what a checkpoint says is believed once, by the next owner, and only when its session
///   was the last one and ended well.
/// Threads: the path's one. begin(), adopt_head() and end() block.
class Session {
 public:
  Session(PathState& state, SuperblockFile& superblock_file, Appender& appender)
      : state_(state), superblock_file_(superblock_file), appender_(appender) {}

  /// `newest`: the greatest open count that the segments tell of. One above the superblock's means
  /// that the superblock is older than they are, a backup of itself alone: generations that
  /// followed from it would be older than those on the disk, and what is stored now would be
  /// outranked by what was stored before.
  SetupStatus begin(std::uint64_t newest);
  /// Goes on in the segment that a clean close left open, unless to write to it would take new
  /// blocks. Its checkpoint goes first: an older superblock, of just that close, would believe it
  /// again, and what is appended behind it would be lost, or overwritten under the same places.
  void adopt_head(std::uint32_t segment);
  /// Writes what makes the next open fast, and marks the store clean.
  Status end() noexcept;

 private:
  void freeze(const Error& why);
  Status write_checkpoint(std::uint32_t number, TableBuilder& table) noexcept;

  PathState& state_;
  SuperblockFile& superblock_file_;
  Appender& appender_;
};

}  // namespace larder::log_store
