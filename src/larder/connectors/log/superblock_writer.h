#pragma once

#include <cstdint>
#include <optional>

#include "larder/base/aligned_buffer.h"
#include "larder/connectors/log/path_state.h"

namespace larder::log_store {

/// Writes the superblock while the path runs: both copies, one after the other, each synced before
/// the next, as SuperblockFile::write() does at open. For a session that began on a full file
/// system.
///
/// Threads: the path's one.
class SuperblockWriter final : public TransferSink {
 public:
  explicit SuperblockWriter(PathState& state) : state_(state) {}

  /// Begins with `state.superblock`, whose sequence is raised. Only while it is not busy.
  void start(io::FileId file) noexcept;
  bool is_busy() const noexcept { return is_busy_; }
  /// The outcome, once, after it has ended.
  std::optional<Status> take() noexcept;
  void on_transfer(Transfer& transfer) noexcept override;

 private:
  void write_copy() noexcept;
  void submit(io::Operation operation) noexcept;
  void end(const Status& status) noexcept;

  PathState& state_;
  io::FileId file_ = 0;
  AlignedBuffer memory_;
  std::uint64_t offset_ = 0;  ///< Of the copy under way.
  bool is_busy_ = false;
  std::optional<Status> outcome_;
};

}  // namespace larder::log_store
