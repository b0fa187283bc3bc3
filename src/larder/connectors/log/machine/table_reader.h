#pragma once

#include <cstdint>
#include <optional>

#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

/// Reads a sealed segment's table back, without waiting: its trailer, then entries and keys.
///
/// Threads: the path's one. One segment at a time, which is pinned meanwhile.
class TableReader final : public TransferSink {
 public:
  explicit TableReader(PathState& state) : state_(state) {}

  bool is_busy() const noexcept { return is_busy_; }
  /// Begins. From memory if the table is there: then it is ready at once.
  void start(std::uint32_t segment) noexcept;
  /// The result, once: empty while it is busy. A table that cannot be read is an error.
  std::optional<Result<Table>> take() noexcept;
  void on_transfer(Transfer& transfer) noexcept override;

 private:
  void read(std::uint64_t offset, std::uint64_t bytes) noexcept;
  void on_trailer() noexcept;
  void end(Result<Table> table) noexcept;

  PathState& state_;
  std::uint32_t segment_ = 0;
  SegmentPin pin_;
  bool is_busy_ = false;
  bool has_trailer_ = false;
  bool failed_ = false;
  std::uint32_t in_flight_ = 0;
  AlignedBuffer buffer_;
  TableTrailer trailer_;
  std::optional<Result<Table>> result_;
};

}  // namespace larder::log_store
