#pragma once

#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

/// Tells the two kinds of failed writes apart. An error of the disk degrades the path. A file
/// system without room to overwrite (its blocks are shared with a copy, or it always allocates) is
/// not a bad disk: loads continue, and stores are refused until try_again().
///
/// Invariant: the condition "space" is in the health from the first write that lacked space until a
///   record was written.
/// Threads: the path's one. Cost: a success is a call to the health and a test of a flag.
class WriteErrors {
 public:
  explicit WriteErrors(PathState& state) : state_(state) {}

  /// `what` was being done: "writing a record".
  void note(const char* what, int sys_errno) noexcept;
  /// The same for the transfer of a record or of tombstones, which failed; returns its error.
  Error note_failed_write(const Transfer& transfer) noexcept;
  /// A record is whole on the disk.
  void note_success() noexcept;

  /// Each further attempt would use up a place, and in time evict stored values for nothing.
  bool lacks_space() const noexcept { return lacks_space_; }
  /// Once in a while.
  void try_again() noexcept { lacks_space_ = false; }

 private:
  PathState& state_;
  bool lacks_space_ = false;
  bool says_so_ = false;  ///< In the health.
};

}  // namespace larder::log_store
