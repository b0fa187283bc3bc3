#pragma once

#include <cstdint>

#include "larder/connectors/log/machine/appender.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/superblock_file.h"

namespace larder::log_store {

/// One owner's time with a store, as recorded in the superblock: the open count is raised before
/// anything else is written (L2), and the store is marked clean after everything else was.
///
/// Invariant: a checkpoint is trusted once, by the next owner, and only if its session was the last
///   one and ended cleanly.
/// Threads: the path's one. begin(), adopt_head() and end() block.
class Session {
 public:
  Session(PathState& state, SuperblockFile& superblock_file, Appender& appender)
      : state_(state), superblock_file_(superblock_file), appender_(appender) {}

  /// `newest`: the greatest open count in the segments. If it is above the superblock's, the
  /// superblock is older than they are, such as a backup of itself alone: its generations would be
  /// older than those on the disk, and new stores would be outranked by earlier ones.
  SetupStatus begin(std::uint64_t newest);
  /// Goes on in the segment that a clean close left open, unless to write to it would take new
  /// blocks. Its checkpoint is overwritten first: an older superblock, from that very close, would
  /// trust it again, and records appended after it would be lost, or overwritten at the same
  /// places.
  void adopt_head(std::uint32_t segment);
  /// Writes the data for a fast next open, and marks the store clean.
  Status end() noexcept;

 private:
  void freeze(const Error& why);
  Status write_checkpoint(std::uint32_t number, TableBuilder& table) noexcept;

  PathState& state_;
  SuperblockFile& superblock_file_;
  Appender& appender_;
};

}  // namespace larder::log_store
