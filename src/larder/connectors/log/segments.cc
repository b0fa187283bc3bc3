#include "larder/connectors/log/segments.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

#include "larder/base/check.h"
#include "larder/base/size_text.h"
#include "larder/connectors/log/rule.h"
#include "larder/io/direct_io.h"

namespace larder::log_store {
namespace {

bool is_used(SegmentState state) noexcept {
  return state == SegmentState::kOpen || state == SegmentState::kSealing ||
         state == SegmentState::kSealed || state == SegmentState::kReclaiming;
}

constexpr std::string_view kSegmentPrefix = "segment-";
constexpr std::size_t kSegmentDigits = 7;

}  // namespace

Segments::Segments(const Geometry& geometry, std::uint32_t numbers)
    : geometry_(geometry), segments_(std::max(numbers, geometry.segment_count)) {}

void Segments::add_live(Location location, std::uint64_t value_bytes) noexcept {
  Segment& segment = segments_[location.segment];
  const std::uint64_t bytes = record_bytes(value_bytes, geometry_.grain_bytes);
  ++segment.live_records;
  segment.live_bytes += bytes;
  live_bytes_ += bytes;
}

void Segments::remove_live(Location location, std::uint64_t value_bytes) noexcept {
  Segment& segment = segments_[location.segment];
  const std::uint64_t bytes = record_bytes(value_bytes, geometry_.grain_bytes);
  LARDER_CHECK(segment.live_records > 0 && segment.live_bytes >= bytes);
  if (--segment.live_records == 0) segment.dead_since = newest_generation_;
  segment.live_bytes -= bytes;
  live_bytes_ -= bytes;
}

void Segments::push_free(std::uint32_t segment) {
  segments_[segment].freed_as = ++freed_;
  put_back(segment);
}

void Segments::put_back(std::uint32_t segment) {
  Segment& freed = segments_[segment];
  LARDER_CHECK(freed.live_records == 0 && freed.pins == 0 && freed.writes_in_flight == 0);
  freed.state = SegmentState::kFree;
  freed.tombstones = 0;
  freed.table.reset();
  if (is_broken(Rule::kReuseInOrder)) return free_.push_front(segment);
  const auto later = std::ranges::find_if(
      free_, [&](std::uint32_t other) { return segments_[other].freed_as > freed.freed_as; });
  free_.insert(later, segment);
}

std::optional<std::uint32_t> Segments::next_free() const noexcept {
  if (free_.empty()) return std::nullopt;
  return free_.front();
}

std::optional<std::uint32_t> Segments::next_absent() const noexcept {
  if (absent_count() == 0) return std::nullopt;
  for (std::uint32_t i = 0; i < count(); ++i) {
    if (segments_[i].state == SegmentState::kAbsent) return i;
  }
  return std::nullopt;
}

void Segments::pop_free(std::uint32_t segment) noexcept {
  LARDER_CHECK(!free_.empty() && free_.front() == segment);
  free_.pop_front();
}

void Segments::begin_removal(std::uint32_t segment) noexcept {
  if (segments_[segment].state == SegmentState::kFree) pop_free(segment);
  segments_[segment].state = SegmentState::kRemoving;
}

void Segments::end_removal(std::uint32_t segment, bool is_removed) {
  LARDER_CHECK(segments_[segment].state == SegmentState::kRemoving);
  if (!is_removed) return put_back(segment);
  segments_[segment].freed_as = 0;
  segments_[segment].state = SegmentState::kAbsent;
  segments_[segment].has_failed_header = false;
  set_has_file(segment, false);
}

std::uint32_t Segments::absent_count() const noexcept {
  const std::uint32_t files = files_count();
  return files < files_max() ? files_max() - files : 0;
}

std::uint32_t Segments::whole_files_count() const noexcept {
  return static_cast<std::uint32_t>(std::ranges::count_if(segments_, [](const Segment& segment) {
    return segment.has_file && segment.state != SegmentState::kFailed;
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
    return is_used(other.state) && other.generation > dead.generation &&
           other.generation <= dead.dead_since &&
           (other.state == SegmentState::kOpen || other.state == SegmentState::kSealing ||
            other.sync_failed || other.is_unproven);
  });
}

bool Segments::waits_for_its_copies(std::uint32_t segment) const noexcept {
  if (is_broken(Rule::kSyncMovedFirst)) return false;
  const Segment& source = segments_[segment];
  return source.moved_to_last != 0 && std::ranges::any_of(segments_, [&](const Segment& other) {
           return other.generation >= source.moved_to_first &&
                  other.generation <= source.moved_to_last &&
                  (other.state == SegmentState::kOpen || other.state == SegmentState::kSealing);
         });
}

std::optional<std::uint32_t> Segments::oldest() const noexcept {
  return oldest_from(0);
}

std::optional<std::uint32_t> Segments::oldest_from(std::uint64_t generation) const noexcept {
  std::optional<std::uint32_t> found;
  for (std::uint32_t i = 0; i < count(); ++i) {
    const Segment& segment = segments_[i];
    if (!is_used(segment.state) || segment.generation < generation) continue;
    if (!found || segment.generation < segments_[*found].generation) found = i;
  }
  return found;
}

std::string segment_file_name(std::uint32_t segment) {
  char name[32];
  std::snprintf(name, sizeof(name), "segment-%07u", segment);
  return name;
}

std::string missing_files_text(std::span<const io::FileInfo> files, std::uint32_t files_at_close,
                               const Geometry& geometry) {
  const auto is_whole = [&](const io::FileInfo& file) {
    return segment_of_file_name(file.name) && file.bytes >= geometry.segment_bytes;
  };
  const auto whole = static_cast<std::uint64_t>(std::ranges::count_if(files, is_whole));
  if (whole >= files_at_close) return {};
  return format_count(files_at_close - whole, "segment file") + " of " +
         std::to_string(files_at_close) +
         " went since the store was closed (removed, or cut short): what was in there is gone, and "
         "older values of its keys may be served";
}

std::optional<std::uint32_t> segment_of_file_name(std::string_view name) {
  if (!name.starts_with(kSegmentPrefix)) return std::nullopt;
  name.remove_prefix(kSegmentPrefix.size());
  if (name.size() != kSegmentDigits) return std::nullopt;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return number;
}

bool is_harmless_file_name(std::string_view name) noexcept {
  return name == "lost+found" || name.starts_with(io::kScratchFilePrefix);
}

}  // namespace larder::log_store
