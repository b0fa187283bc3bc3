#pragma once

#include <cstdint>
#include <optional>

#include "larder/base/aligned_buffer.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/superblock_file.h"

namespace larder::log_store {

/// Writes the superblock while the path runs: both copies, one after the other, each synced before
/// the next, in the order of SuperblockFile::write(), which was tried at open. For a session that
/// began on a full file system.
///
/// Threads: the path's one.
class SuperblockWriter final : public TransferSink {
 public:
  explicit SuperblockWriter(PathState& state) : state_(state) {}

  /// Begins with `state.superblock`, whose sequence is raised. Only while it is not busy.
  void start(SuperblockFile& file) noexcept;
  bool is_busy() const noexcept { return is_busy_; }
  /// The outcome, once, after it has ended.
  std::optional<Status> take() noexcept;
  void on_transfer(Transfer& transfer) noexcept override;

 private:
  void write_copy() noexcept;
  void submit(io::Operation operation) noexcept;
  void end(const Status& status) noexcept;

  PathState& state_;
  SuperblockFile* file_ = nullptr;
  AlignedBuffer memory_;
  int copies_left_ = 0;
  bool is_busy_ = false;
  std::optional<Status> outcome_;
};

}  // namespace larder::log_store
