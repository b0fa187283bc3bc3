#pragma once

#include <cstdint>

#include "larder/connectors/log/machine/appender.h"
#include "larder/connectors/log/machine/disk_probe.h"
#include "larder/connectors/log/machine/loads.h"
#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

/// Detects calls without an answer for `stall`. A transfer takes the path down: tasks that wait for
/// the disk fail, and a probe tells when it has recovered. A sync or a call to the file system does
/// not, because these may legitimately take longer; only tasks that need a new segment are refused
/// meanwhile.
///
/// Invariant: for a whole `stall` after the path's own thread did not run for half of one, nothing
///   counts as stalled: the threads that move the bytes may not have run either.
/// Threads: the path's one.
class StallWatch {
 public:
  StallWatch(PathState& state, Loads& loads, Appender& appender)
      : state_(state), loads_(loads), appender_(appender), probe_(state) {}

  /// Once a turn. `superblock_file`: what the probe writes to and reads.
  void turn(std::uint64_t now_ns, io::FileId superblock_file) noexcept;
  /// At the end of a turn: the latest time for the next one.
  void note_next_turn(std::uint64_t next_turn_ns) noexcept { next_turn_ns_ = next_turn_ns; }
  /// When turn() has work although nothing happened; kNever when it has none.
  std::uint64_t next_timer_ns() const noexcept;
  bool is_quiet() const noexcept { return !probe_.is_busy(); }

 private:
  void watch_transfers(std::uint64_t now_ns, io::FileId superblock_file) noexcept;
  void watch_syncs(std::uint64_t now_ns) noexcept;
  void watch_files(std::uint64_t now_ns) noexcept;

  PathState& state_;
  Loads& loads_;
  Appender& appender_;
  DiskProbe probe_;
  std::uint64_t next_turn_ns_ = kNever;
  std::uint64_t no_stall_before_ns_ = 0;
  bool are_files_stalled_ = false;
  bool are_syncs_stalled_ = false;
};

}  // namespace larder::log_store
