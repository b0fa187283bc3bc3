#include "larder/connectors/log/machine/path_state.h"

#include <algorithm>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {
namespace {

/// Room for one record of the largest value, and for a good many of the usual ones.
std::uint64_t move_memory_bytes(const PathOptions& options, std::uint32_t grain_bytes) {
  const std::uint64_t largest = record_bytes(options.value_bytes_max, grain_bytes);
  return std::max(largest, std::min<std::uint64_t>(options.staging_bytes, 8 * largest));
}

IntakeOptions intake_options(const PathOptions& options, const Superblock& block,
                             const KeyHashes& hashes) {
  IntakeOptions made;
  made.name = "log";
  made.lane_of = [](Op) noexcept -> LaneNumber { return kLane; };
  made.limits = options.limits;
  made.value_bytes_max = options.value_bytes_max;
  made.slices_max = kSlicesMax;
  made.miss_after_failure_ns = options.miss_after_failure_ns;
  // Headers take little: those of packs are shared, and those of others stand before a long value.
  made.capacity = {.capacity_bytes = block.capacity_bytes, .grain_bytes = block.grain_bytes};
  made.key_hashes = &hashes;
  made.hints = kHints;
  return made;
}

}  // namespace

SetupResult<PathMemory> PathMemory::create(const PathOptions& options, std::uint32_t grain_bytes) {
  const std::uint64_t move_bytes = move_memory_bytes(options, grain_bytes);
  auto staging = Staging::create(options.staging_bytes, grain_bytes);
  auto move_memory = Staging::create(move_bytes, grain_bytes);
  auto zeros = AlignedBuffer::create(grain_bytes, grain_bytes);
  if (staging && move_memory && zeros) {
    std::ranges::fill(zeros->span(), std::byte{0});
    return PathMemory{std::move(*staging), std::move(*move_memory), std::move(*zeros)};
  }
  return SetupError{
      ErrorCode::kResourceExhausted,
      "the process gets no memory for staging=" + format_bytes_exact(options.staging_bytes) +
          " and " + format_bytes_exact(move_bytes) +
          " of moves: raise its limit (ulimit -v, or overcommit), or lower staging "
          "or max_value"};
}

PathState::PathState(const PathOptions& path_options, const Geometry& geometry,
                     const Superblock& block, std::uint32_t segment_numbers, PathMemory memory,
                     io::Directory& path_directory, io::TransferQueue& path_queue,
                     const Clock& path_clock, std::string where)
    : options(path_options),
      directory(path_directory),
      queue(path_queue),
      clock(path_clock),
      alignment(path_directory.facts().alignment),
      intake(intake_options(path_options, block, *this), path_clock),
      superblock(block),
      index(path_options.index_bytes_max),
      segments(geometry, segment_numbers),
      ledger(geometry.capacity_bytes),
      staging(std::move(memory.staging)),
      move_memory(std::move(memory.move_memory)),
      zeros(std::move(memory.zeros)),
      transfers(path_queue, path_clock, path_options.depth),
      health(std::move(where)),
      events(path_options.events_max),
      retentions(static_cast<std::uint64_t>(path_options.pins_share *
                                            static_cast<double>(block.capacity_bytes))) {}

bool PathState::end_retention(const Fingerprint& fingerprint) noexcept {
  if (retentions.keys() == 0) return false;
  const bool was_held = retentions.end(fingerprint, clock.now_ns());
  count_retentions();
  return was_held;
}

Published PathState::publish(const Fingerprint& fingerprint, const IndexEntry& entry,
                             bool is_copy) {
  const Place place = segments.place_of(entry.location);
  const bool is_forward_only = !is_broken(Rule::kPublishForward);
  if (is_forward_only && place <= guard.last_published(fingerprint)) {
    return Published::kOvertaken;
  }
  const auto present = index.find(fingerprint);
  if (is_forward_only && present && segments.place_of(present->location) > place) {
    return Published::kOvertaken;
  }
  if (!index.assign(fingerprint, entry)) return Published::kIndexFull;
  if (present && is_copy) {
    retentions.note_moved(fingerprint, entry.location.segment);
  } else if (present) {
    end_retention(fingerprint);  // It was the old value's.
  }
  if (present) {
    segments.remove_live(*present);
    // A copy outranks only its source, which is overwritten first.
    if (!is_copy && !is_broken(Rule::kReplacerOutranks)) {
      ++segments.at(entry.location.segment).outranks;
    }
  }
  segments.add_live(entry);
  guard.note_published(fingerprint, place);
  return Published::kYes;
}

bool PathState::forget(const Fingerprint& fingerprint, Location location) {
  const auto present = index.find(fingerprint);
  if (!present || present->location != location) return false;
  index.erase(fingerprint);
  end_retention(fingerprint);
  segments.remove_live(*present);
  return true;
}

bool PathState::forget_failed(const Fingerprint& fingerprint, Location location,
                              std::span<const std::byte> key) {
  const auto present = index.find(fingerprint);
  if (is_broken(Rule::kForgetOnlyWhatFailed) && present) location = present->location;
  if (!forget(fingerprint, location)) return false;
  if (!is_broken(Rule::kForgottenOutranks)) ++segments.at(location.segment).tombstones;
  ++segments.at(location.segment).strays;
  events.note(EventPage::Kind::kRemoved, as_text(key), 0);
  return true;
}

Status PathState::repair(std::uint32_t number) {
  Segment& segment = segments.at(number);
  const std::string name = segment_file_name(number);
  LARDER_ASSIGN(const io::FileId file, directory.open(name, io::OpenMode::kExisting));
  if (const Status allocated = directory.allocate(file, segments.geometry().segment_bytes);
      !allocated) {
    directory.close(file);
    return allocated;
  }
  directory.close(segment.file);
  segment.file = file;
  segment.needs_repair = false;
  health.set_condition(name, {});
  return {};
}

bool PathState::publish_delete(const Fingerprint& fingerprint, const Place& place) {
  if (!is_broken(Rule::kRememberDelete)) guard.note_published(fingerprint, place);
  const auto present = index.find(fingerprint);
  if (!present || segments.place_of(present->location) > place) return false;
  return forget(fingerprint, present->location);
}

}  // namespace larder::log_store
