#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "larder/connectors/log/machine/segment_io.h"

namespace larder::log_store {

/// Takes full segments from sealing to sealed (L11): waits for the writes of a segment, syncs it,
/// writes its table and syncs that.
///
/// Invariant: the table of a segment is written only when all its records are settled and synced,
///   and never after a failed sync of the segment (L13). A sealed segment whose table is not on the
///   disk keeps it in memory.
/// Threads: the path's one. Cost: settling a place is a decrement and a test.
class SegmentSealer final : public SegmentIoSink {
 public:
  SegmentSealer(PathState& state, WriteErrors& errors) : state_(state), errors_(errors) {}

  /// The head has left this segment.
  void begin(std::uint32_t segment) noexcept;
  /// A place in it was settled: written and published, or dead.
  void settle_place(std::uint32_t segment) noexcept;
  /// Segments on their way from full to sealed.
  std::uint32_t sealing() const noexcept { return sealing_; }
  bool is_quiet() const noexcept { return seals_.empty(); }

  void on_segment_io(SegmentIo& io) noexcept override;

 private:
  enum class Step : std::uint8_t { kSync = 1, kTableWrite, kTableSync };
  /// A segment whose writes have ended.
  struct Seal {
    Seal(PathState& state, WriteErrors& errors, SegmentIoSink& sink, std::uint32_t segment)
        : io(state, errors, sink, segment) {}
    SegmentIo io;
    Step step = Step::kSync;
  };

  void advance(std::uint32_t segment) noexcept;
  bool write_table(Seal& seal) noexcept;
  void end(Seal& seal, bool has_table) noexcept;

  PathState& state_;
  WriteErrors& errors_;
  std::uint32_t sealing_ = 0;
  std::vector<std::unique_ptr<Seal>> seals_;
};

}  // namespace larder::log_store
