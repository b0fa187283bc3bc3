#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/head.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/publisher.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

/// Gathers the tombstones of deletes (L9) in one grain at the head, and writes it at the end of the
/// round, when it is full, or before the head leaves its segment.
///
/// Invariant: the gathered grain belongs to the head's segment.
/// Threads: the path's one. Cost: a grain and a transfer for as many deletes as fit.
class Tombstones final : public TransferSink {
 public:
  Tombstones(PathState& state, Head& head, WriteErrors& errors, TasksInFlight& tasks,
             Publisher& publisher)
      : state_(state), head_(head), errors_(errors), tasks_(tasks), publisher_(publisher) {}

  /// Whether the delete can join the gathered grain.
  bool has_room(const DeleteTask& task) const noexcept;
  /// Takes the next place for a grain; the head has room for it and for one delete. Nothing is
  /// being gathered. False when there is no memory.
  bool begin() noexcept;
  /// The delete joins; the publisher settles it. There is room.
  void add(DeleteTask& task) noexcept;
  /// Submits the gathered tombstones.
  void flush() noexcept;
  /// The gathered tombstones end with an error.
  void fail(const Error& error) noexcept;

  void on_transfer(Transfer& transfer) noexcept override;

 private:
  struct Grain {
    AlignedBuffer memory;
    std::size_t payload_bytes = 0;
    Location location;
    std::vector<DeleteTask*> tasks;
  };

  PathState& state_;
  Head& head_;
  WriteErrors& errors_;
  TasksInFlight& tasks_;
  Publisher& publisher_;
  std::unique_ptr<Grain> grain_;  ///< Being gathered.
  std::vector<std::unique_ptr<Grain>> in_flight_;
};

}  // namespace larder::log_store
