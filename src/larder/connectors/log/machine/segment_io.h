#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "larder/base/aligned_buffer.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

class SegmentIo;

class SegmentIoSink {
 public:
  virtual ~SegmentIoSink() = default;
  /// The call has ended, with or without an error. The sink may begin the next, or destroy `io`.
  virtual void on_segment_io(SegmentIo& io) noexcept = 0;
};

/// The store's own I/O on one segment: writes of a header or a table, and syncs, one after the
/// other. Errors are counted and reported to the health.
///
/// Threads: the path's one. It lives until its I/O has ended.
class SegmentIo final : public TransferSink {
 public:
  SegmentIo(PathState& state, WriteErrors& errors, SegmentIoSink& sink, std::uint32_t segment)
      : state_(state), errors_(errors), sink_(sink), segment_(segment) {}
  SegmentIo(const SegmentIo&) = delete;
  SegmentIo& operator=(const SegmentIo&) = delete;

  std::uint32_t segment() const noexcept { return segment_; }
  /// The bytes for write(); they stay until they are replaced.
  void set_buffer(AlignedBuffer buffer) noexcept { buffer_ = std::move(buffer); }
  std::span<std::byte> buffer() noexcept { return buffer_.span(); }
  /// Writes the buffer at `offset`, in transfers of at most `io_bytes`.
  void write(std::uint64_t offset) noexcept;
  void sync() noexcept;
  /// Whether anything failed so far.
  bool failed() const noexcept { return failed_; }

  void on_transfer(Transfer& transfer) noexcept override;

 private:
  PathState& state_;
  WriteErrors& errors_;
  SegmentIoSink& sink_;
  const std::uint32_t segment_;
  AlignedBuffer buffer_;
  std::uint32_t in_flight_ = 0;
  bool failed_ = false;
};

}  // namespace larder::log_store
