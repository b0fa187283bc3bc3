#include "larder/connectors/log/machine/segment_preparer.h"

#include <utility>

#include "larder/base/check.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

std::uint32_t SegmentPreparer::take_ready() noexcept {
  LARDER_CHECK(ready_.has_value());
  return *std::exchange(ready_, std::nullopt);
}

void SegmentPreparer::prepare_next() noexcept {
  waits_for_copies_ = false;
  if (ready_ || is_preparing() || state_.is_frozen || state_.health.is_down()) return;
  const SegmentFiles::Next next = files_.next();
  waits_for_copies_ = next.waits_for_copies;
  if (!next.segment) return;
  const std::uint32_t segment = *next.segment;
  auto buffer = AlignedBuffer::create(state_.grain_bytes(), state_.grain_bytes());
  if (!buffer) return;
  state_.segments.begin_preparing(segment, ++generation_);
  io_.emplace(state_, errors_, *this, segment);
  io_->set_buffer(std::move(*buffer));
  encode_segment_header(state_.identity(segment), state_.clock.wall_seconds(),
                        state_.superblock.secret, io_->buffer());
  if (!state_.segments.at(segment).has_failed_header || is_broken(Rule::kSettleFailedHeader)) {
    step_ = Step::kHeaderWrite;
    return io_->write(0);
  }
  step_ = Step::kSettle;
  io_->sync();
}

void SegmentPreparer::on_segment_io(SegmentIo& io) noexcept {
  if (!io.failed() && step_ == Step::kSettle) {
    step_ = Step::kHeaderWrite;
    return io.write(0);
  }
  if (!io.failed() && step_ == Step::kHeaderWrite && !is_broken(Rule::kSyncHeaderFirst)) {
    step_ = Step::kHeaderSync;
    return io.sync();
  }
  end();
}

void SegmentPreparer::end() noexcept {
  const std::uint32_t segment = io_->segment();
  const bool failed = io_->failed();
  io_.reset();
  if (failed && errors_.lacks_space()) {
    // It stays the next one: taking another would evict that one's records for nothing.
    state_.segments.at(segment).has_failed_header = true;
    return state_.segments.put_back(segment);
  }
  if (failed) return give_up(segment);
  state_.segments.at(segment).has_failed_header = false;
  state_.health.set_condition("header", {});
  state_.health.set_condition("removal", {});
  state_.segments.note_ready(segment);
  ready_ = segment;
}

/// A segment whose header cannot be written may still hold its old records. They must be gone for
/// good before the next segment is overwritten, which holds tombstones for them (L9).
void SegmentPreparer::give_up(std::uint32_t segment) noexcept {
  state_.segments.at(segment).has_failed_header = true;
  state_.counters.segments_failed.add();
  state_.health.set_condition("header", segment_file_name(segment) +
                                            ": its header could not be written; the file is made "
                                            "anew");
  files_.make_anew(segment);
}

}  // namespace larder::log_store
