#pragma once

#include <cstdint>

#include "larder/base/aligned_buffer.h"
#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

/// Tells whether a path that is down has recovered: writes the owner's note, where nothing else is,
/// and reads the superblock.
///
/// Threads: the path's one. One at a time.
class DiskProbe final : public TransferSink {
 public:
  explicit DiskProbe(PathState& state) : state_(state) {}

  /// `file`: the superblock's. Its end is reported to the health.
  void start(io::FileId file) noexcept;
  bool is_busy() const noexcept { return is_busy_; }
  void on_transfer(Transfer& transfer) noexcept override;

 private:
  void submit(io::Operation operation, std::uint64_t offset) noexcept;

  PathState& state_;
  io::FileId file_ = 0;
  AlignedBuffer memory_;
  bool is_busy_ = false;
};

}  // namespace larder::log_store
