#pragma once

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/publisher.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

/// Writes long records, of more than `io_bytes`: the value in pieces while it is being hashed, the
/// header last.
///
/// Invariant: the header is submitted after every piece was, and only when none has failed.
/// Threads: the path's one. Cost: a transfer a piece, at most eight at a time, through staging
///   memory where the value misses the device's alignment.
class PieceWriter final : public TransferSink {
 public:
  PieceWriter(PathState& state, WriteErrors& errors, Publisher& publisher, WaitingRecords& waiting)
      : state_(state), errors_(errors), publisher_(publisher), waiting_(waiting) {}

  /// Submits the parts that the record is ready for, and settles it after the last. Not while it
  /// waits.
  void advance(StoreTask& task) noexcept;
  /// Submits the parts that the record is ready for. False when something is left that lacks a
  /// transfer or staging memory.
  bool submit(StoreTask& task) noexcept;

  void on_transfer(Transfer& transfer) noexcept override;

 private:
  bool submit_piece(StoreTask& task) noexcept;
  bool submit_header(StoreTask& task) noexcept;

  PathState& state_;
  WriteErrors& errors_;
  Publisher& publisher_;
  WaitingRecords& waiting_;
};

}  // namespace larder::log_store
