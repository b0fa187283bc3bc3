#pragma once

#include <cstdint>
#include <optional>

#include "larder/connectors/log/machine/segment_files.h"
#include "larder/connectors/log/machine/segment_io.h"

namespace larder::log_store {

/// Prepares the segment after the present head: from free to ready, ahead of time and out of the
/// way of stores (L2).
///
/// Invariant: at most one segment is being prepared or ready. A ready segment's header is written
///   and synced, its generation is above every other, and nothing but the header was written since.
/// Threads: the path's one.
class SegmentPreparer final : public SegmentIoSink {
 public:
  SegmentPreparer(PathState& state, SegmentFiles& files, WriteErrors& errors)
      : state_(state), files_(files), errors_(errors) {}

  /// Generations are given out above `open_count` (L2).
  void begin_generations(std::uint64_t open_count) noexcept { generation_ = open_count << 32; }
  /// Begins with the next segment, where none is ready or being prepared.
  void prepare_next() noexcept;
  std::optional<std::uint32_t> ready() const noexcept { return ready_; }
  /// The ready segment, which is the caller's from now on.
  std::uint32_t take_ready() noexcept;
  bool is_preparing() const noexcept { return io_.has_value(); }
  /// After prepare_next() without a ready segment: one is being prepared, and the call that it
  /// waits for has not stalled.
  bool is_on_its_way() const noexcept {
    return ((is_preparing() || waits_for_copies_) && !are_syncs_stalled_) || files_.is_waiting();
  }
  /// Syncs have had no answer for too long: stores do not wait for them.
  void set_syncs_stalled(bool is_stalled) noexcept { are_syncs_stalled_ = is_stalled; }
  bool is_quiet() const noexcept { return !is_preparing(); }

  void on_segment_io(SegmentIo& io) noexcept override;

 private:
  enum class Step : std::uint8_t {
    kSettle = 1,  ///< A sync, where an earlier write of the header has failed.
    kHeaderWrite,
    kHeaderSync,
  };

  void end() noexcept;
  void give_up(std::uint32_t segment) noexcept;

  PathState& state_;
  SegmentFiles& files_;
  WriteErrors& errors_;
  std::uint64_t generation_ = 0;  ///< The last one that was given out.
  std::optional<std::uint32_t> ready_;
  std::optional<SegmentIo> io_;  ///< Of the segment that is being prepared.
  Step step_ = Step::kHeaderWrite;
  bool waits_for_copies_ = false;  ///< The next segment's records are not synced where they went.
  bool are_syncs_stalled_ = false;
};

}  // namespace larder::log_store
