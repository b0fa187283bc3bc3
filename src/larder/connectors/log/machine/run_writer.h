#pragma once

#include <cstddef>
#include <cstdint>

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/publisher.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

/// Writes short records, of up to `io_bytes`: neighbours together in one transfer of up to
/// `coalesce_bytes`, a run. The values that may be packed share a header grain in front of the run;
/// other records have one each.
///
/// Invariant: of a run that ends early exactly the records that are not wholly inside the
///   transferred prefix fail (L4).
/// Threads: the path's one. Cost: one transfer a run, without a copy where all of its values meet
///   the device's alignment, else through staging memory.
class RunWriter final : public TransferSink {
 public:
  RunWriter(PathState& state, WriteErrors& errors, Publisher& publisher, WaitingRecords& waiting)
      : state_(state), errors_(errors), publisher_(publisher), waiting_(waiting) {}

  /// Whether a value that may be packed can join the pack that is being gathered, if it is placed
  /// there.
  bool can_join(const StoreTask& task, Location location) const noexcept;
  /// Joins the run if the record follows it, or ends it and begins the next. The record is hashed.
  void add(StoreTask& task) noexcept;
  /// At the end of a round: submits the run, or lets it wait.
  void flush() noexcept;
  /// One write for a chain of neighbours. False when it has to wait for a transfer or for memory.
  bool submit(StoreTask& first) noexcept;
  /// A chain that waited is given up.
  void fail(StoreTask& first, const Error& error) noexcept;

  void on_transfer(Transfer& transfer) noexcept override;

 private:
  bool is_behind_run(Location location) const noexcept;
  bool has_room(std::uint64_t bytes, std::size_t vectors) const noexcept;
  void fill_pack_header(StoreTask& first) noexcept;

  PathState& state_;
  WriteErrors& errors_;
  Publisher& publisher_;
  WaitingRecords& waiting_;
  StoreTask* first_ = nullptr;  ///< Adjacent records, unwritten.
  StoreTask* last_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::size_t vectors_ = 0;
  std::size_t payload_bytes_ = 0;  ///< Of a pack's header.
};

}  // namespace larder::log_store
