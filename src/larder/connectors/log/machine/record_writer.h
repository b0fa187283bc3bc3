#pragma once

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/head.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/piece_writer.h"
#include "larder/connectors/log/machine/publisher.h"
#include "larder/connectors/log/machine/run_writer.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

/// Hashes records and has them written: short ones by the RunWriter, long ones by the PieceWriter.
///
/// Invariant: tasks that wait for a transfer or for memory get it in the order in which they came.
/// Threads: the path's one. Cost: values from kHashInlineBytesMax on are hashed by the hash
/// threads,
///   and those of moves not at all (L8).
class RecordWriter {
 public:
  RecordWriter(PathState& state, WriteErrors& errors, Publisher& publisher)
      : state_(state),
        runs_(state, errors, publisher, waiting_),
        pieces_(state, errors, publisher, waiting_) {}

  /// Memory for the task's header, at its first use. False when there is none.
  bool prepare(StoreTask& task) noexcept;
  /// Decides whether the value joins a pack, begins one, or has a header of its own; returns the
  /// bytes that it takes at the head, a header included.
  std::uint64_t plan(const Head& head, StoreTask& task) const noexcept;
  /// Gives the task its place at the head, which has room for it. start() follows at once.
  void take_place(Head& head, StoreTask& task) noexcept;
  /// Writes the record at the place that the task was given. The publisher settles it.
  void start(StoreTask& task) noexcept;
  void on_hashed(StoreTask& task) noexcept;
  /// Goes on with records that wait for a transfer or for memory. Before new ones take those.
  void pump() noexcept;
  /// At the end of a round.
  void flush() noexcept { runs_.flush(); }
  /// Waiting tasks have no I/O in flight, or end when it does.
  void fail_waiting(const Error& error) noexcept;
  bool has_waiting() const noexcept { return !waiting_.empty(); }

 private:
  bool is_long(const StoreTask& task) const noexcept {
    return record_bytes(task.value_bytes, state_.grain_bytes()) > state_.options.io_bytes;
  }
  void write(StoreTask& task) noexcept;

  PathState& state_;
  WaitingRecords waiting_;
  RunWriter runs_;
  PieceWriter pieces_;
};

}  // namespace larder::log_store
