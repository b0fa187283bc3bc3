#include "larder/connectors/log/machine/segments.h"

#include <algorithm>

#include "larder/base/check.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {
namespace {

bool is_used(SegmentState state) noexcept {
  return state == SegmentState::kOpen || state == SegmentState::kSealing ||
         state == SegmentState::kSealed || state == SegmentState::kReclaiming;
}

}  // namespace

bool is_legal_move(SegmentState from, SegmentState to) noexcept {
  using enum SegmentState;
  switch (from) {
    case kAbsent:
      return to == kFree || to == kSealed || to == kFailed || to == kRemoving;
    case kFree:
      return to == kPreparing || to == kRemoving;
    case kPreparing:
      return to == kReady || to == kFree || to == kRemoving;
    case kReady:
      return to == kOpen;
    case kOpen:
      return to == kSealing || to == kSealed;
    case kSealing:
      return to == kSealed;
    case kSealed:
      return to == kReclaiming || to == kFree || to == kOpen || to == kFailed;
    case kReclaiming:
      return to == kFree;
    case kRemoving:
      return to == kAbsent || to == kFree;
    case kFailed:
      return false;
  }
  return false;
}

Segments::Segments(const Geometry& geometry, std::uint32_t numbers)
    : geometry_(geometry), segments_(std::max(numbers, geometry.segment_count)) {}

void Segments::add_live(const IndexEntry& entry) noexcept {
  Segment& segment = segments_[entry.location.segment];
  const std::uint64_t bytes = bytes_taken(entry, geometry_.grain_bytes);
  ++segment.live_records;
  segment.live_bytes += bytes;
  live_bytes_ += bytes;
}

void Segments::remove_live(const IndexEntry& entry) noexcept {
  Segment& segment = segments_[entry.location.segment];
  const std::uint64_t bytes = bytes_taken(entry, geometry_.grain_bytes);
  LARDER_CHECK(segment.live_records > 0 && segment.live_bytes >= bytes);
  if (--segment.live_records == 0) segment.dead_since = newest_generation_;
  segment.live_bytes -= bytes;
  live_bytes_ -= bytes;
}

// --- Transitions --------------------------------------------------------------------------------

void Segments::move(Segment& segment, SegmentState to) noexcept {
  LARDER_CHECK(is_legal_move(segment.state_, to) || is_broken(Rule::kRemovalBeforeReuse));
  segment.state_ = to;
}

void Segments::move(Segment& segment, SegmentState from, SegmentState to) noexcept {
  LARDER_CHECK(segment.state_ == from);
  move(segment, to);
}

void Segments::note_found(std::uint32_t segment, std::uint64_t generation) noexcept {
  move(segments_[segment], SegmentState::kAbsent, SegmentState::kSealed);
  segments_[segment].generation = generation;
}

void Segments::fail(std::uint32_t segment) noexcept {
  move(segments_[segment], SegmentState::kFailed);
}

void Segments::push_free(std::uint32_t segment) {
  segments_[segment].freed_as = ++freed_;
  put_back(segment);
}

void Segments::put_back(std::uint32_t segment) {
  Segment& freed = segments_[segment];
  LARDER_CHECK(freed.live_records == 0 && freed.pins_ == 0 && freed.writes_in_flight == 0);
  move(freed, SegmentState::kFree);
  freed.tombstones = freed.outranks = freed.strays = 0;
  freed.table.reset();
  if (is_broken(Rule::kReuseInOrder)) return free_.push_front(segment);
  const auto later = std::ranges::find_if(
      free_, [&](std::uint32_t other) { return segments_[other].freed_as > freed.freed_as; });
  free_.insert(later, segment);
}

void Segments::begin_preparing(std::uint32_t number, std::uint64_t generation) noexcept {
  Segment& segment = segments_[number];
  LARDER_CHECK(segment.live_records == 0 && segment.pins_ == 0);  // L6.
  pop_free(number);
  move(segment, SegmentState::kFree, SegmentState::kPreparing);
  segment.generation = generation;
  segment.sync_failed = segment.is_unproven = false;
  segment.dead_since = 0;
  segment.moved_to_first = segment.moved_to_last = 0;
}

void Segments::note_ready(std::uint32_t segment) noexcept {
  move(segments_[segment], SegmentState::kPreparing, SegmentState::kReady);
}

void Segments::begin_appending(std::uint32_t number) {
  Segment& segment = segments_[number];
  move(segment, SegmentState::kReady, SegmentState::kOpen);
  note_newest(segment.generation);
  segment.append_offset = geometry_.grain_bytes;
  segment.table = std::make_unique<TableBuilder>();
}

void Segments::reopen(std::uint32_t segment) noexcept {
  move(segments_[segment], SegmentState::kSealed, SegmentState::kOpen);
}

void Segments::begin_sealing(std::uint32_t segment) noexcept {
  move(segments_[segment], SegmentState::kOpen, SegmentState::kSealing);
}

void Segments::note_sealed(std::uint32_t segment) noexcept {
  move(segments_[segment], SegmentState::kSealed);
}

void Segments::begin_reclaiming(std::uint32_t segment) noexcept {
  move(segments_[segment], SegmentState::kSealed, SegmentState::kReclaiming);
}

void Segments::begin_removal(std::uint32_t segment) noexcept {
  if (segments_[segment].state_ == SegmentState::kFree) pop_free(segment);
  move(segments_[segment], SegmentState::kRemoving);
}

void Segments::end_removal(std::uint32_t segment, bool is_removed) {
  LARDER_CHECK(segments_[segment].state_ == SegmentState::kRemoving);
  if (!is_removed) return put_back(segment);
  move(segments_[segment], SegmentState::kRemoving, SegmentState::kAbsent);
  segments_[segment].freed_as = 0;
  segments_[segment].has_failed_header = false;
  set_has_file(segment, false);
}

void Segments::pop_free(std::uint32_t segment) noexcept {
  LARDER_CHECK(!free_.empty() && free_.front() == segment);
  free_.pop_front();
}

// --- Which comes next ---------------------------------------------------------------------------

std::optional<std::uint32_t> Segments::next_free() const noexcept {
  if (free_.empty()) return std::nullopt;
  return free_.front();
}

std::optional<std::uint32_t> Segments::next_absent() const noexcept {
  if (absent_count() == 0) return std::nullopt;
  for (std::uint32_t i = 0; i < count(); ++i) {
    if (segments_[i].state_ == SegmentState::kAbsent) return i;
  }
  return std::nullopt;
}

std::uint32_t Segments::absent_count() const noexcept {
  const std::uint32_t files = files_count();
  return files < files_max() ? files_max() - files : 0;
}

std::uint32_t Segments::whole_files_count() const noexcept {
  return static_cast<std::uint32_t>(std::ranges::count_if(segments_, [](const Segment& segment) {
    return segment.has_file && segment.state() != SegmentState::kFailed;
  }));
}

void Segments::set_has_file(std::uint32_t segment, bool has_file) noexcept {
  if (segments_[segment].has_file == has_file) return;
  segments_[segment].has_file = has_file;
  files_ = has_file ? files_ + 1 : files_ - 1;
}

bool Segments::is_durably_outranked(std::uint32_t segment) const noexcept {
  if (is_broken(Rule::kOutrankedDurably)) return true;
  const Segment& dead = segments_[segment];
  return std::ranges::none_of(segments_, [&dead](const Segment& other) {
    return is_used(other.state()) && other.generation > dead.generation &&
           other.generation <= dead.dead_since &&
           (other.state() == SegmentState::kOpen || other.state() == SegmentState::kSealing ||
            other.sync_failed || other.is_unproven);
  });
}

bool Segments::waits_for_its_copies(std::uint32_t segment) const noexcept {
  if (is_broken(Rule::kSyncMovedFirst)) return false;
  const Segment& source = segments_[segment];
  return source.moved_to_last != 0 && std::ranges::any_of(segments_, [&](const Segment& other) {
           return other.generation >= source.moved_to_first &&
                  other.generation <= source.moved_to_last &&
                  (other.state() == SegmentState::kOpen || other.state() == SegmentState::kSealing);
         });
}

std::uint64_t Segments::first_unsettled() const noexcept {
  std::uint64_t first = UINT64_MAX;
  for (const Segment& segment : segments_) {
    if (!is_used(segment.state()) || segment.generation >= first) continue;
    const bool is_settled = segment.state() == SegmentState::kSealed && segment.table == nullptr &&
                            !segment.sync_failed && !segment.is_unproven &&
                            (segment.strays == 0 || is_broken(Rule::kNothingBeforeStrays));
    if (!is_settled) first = segment.generation;
  }
  return first;
}

bool Segments::may_leave_early(std::uint32_t number, std::uint64_t first_unsettled) const noexcept {
  const Segment& segment = segments_[number];
  return segment.state() == SegmentState::kSealed && segment.generation < first_unsettled &&
         segment.tombstones == 0 && segment.outranks == 0 && !segment.needs_repair;
}

std::optional<std::uint32_t> Segments::oldest() const noexcept {
  return oldest_from(0);
}

std::optional<std::uint32_t> Segments::oldest_from(std::uint64_t generation) const noexcept {
  std::optional<std::uint32_t> found;
  for (std::uint32_t i = 0; i < count(); ++i) {
    const Segment& segment = segments_[i];
    if (!is_used(segment.state()) || segment.generation < generation) continue;
    if (!found || segment.generation < segments_[*found].generation) found = i;
  }
  return found;
}

}  // namespace larder::log_store
