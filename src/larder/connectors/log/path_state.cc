#include "larder/connectors/log/path_state.h"

#include <algorithm>

#include "larder/base/check.h"
#include "larder/connectors/log/rule.h"

namespace larder::log_store {
namespace {

Staging make_staging(std::uint64_t bytes, std::uint32_t alignment) {
  auto staging = Staging::create(bytes, alignment);
  // Address space only: the kernel hands out the pages at first touch.
  LARDER_CHECK(staging.has_value());
  return std::move(*staging);
}

/// Room for one record of the largest value, and for a good many of the usual ones.
std::uint64_t move_memory_bytes(const PathOptions& options, std::uint32_t grain_bytes) {
  const std::uint64_t largest = record_bytes(options.value_bytes_max, grain_bytes);
  return std::max(largest, std::min<std::uint64_t>(options.staging_bytes, 8 * largest));
}

}  // namespace

PathState::PathState(const PathOptions& path_options, const Geometry& geometry,
                     const Superblock& block, std::uint32_t segment_numbers,
                     io::Device& path_device, const Clock& path_clock, std::string where)
    : options(path_options),
      device(path_device),
      clock(path_clock),
      alignment(path_device.device_info().alignment),
      superblock(block),
      index(path_options.index_bytes_max),
      segments(geometry, segment_numbers),
      staging(make_staging(path_options.staging_bytes, geometry.grain_bytes)),
      move_memory(make_staging(move_memory_bytes(path_options, geometry.grain_bytes),
                               geometry.grain_bytes)),
      transfers(path_device, path_clock, path_options.depth),
      health(std::move(where)),
      events(path_options.events_max) {}

bool PathState::publish(const Fingerprint& fingerprint, const IndexEntry& entry) {
  const Place place = segments.place_of(entry.location);
  const bool is_forward_only = !is_broken(Rule::kPublishForward);
  if (is_forward_only && place <= guard.last_published(fingerprint)) return true;
  const auto present = index.find(fingerprint);
  if (is_forward_only && present && segments.place_of(present->location) > place) return true;
  if (!index.assign(fingerprint, entry)) return false;
  if (present) segments.remove_live(present->location, present->value_bytes);
  segments.add_live(entry.location, entry.value_bytes);
  guard.note_published(fingerprint, place);
  return true;
}

bool PathState::forget(const Fingerprint& fingerprint, Location location) {
  const auto present = index.find(fingerprint);
  if (!present || present->location != location) return false;
  index.erase(fingerprint);
  segments.remove_live(location, present->value_bytes);
  return true;
}

bool PathState::forget_failed(const Fingerprint& fingerprint, Location location,
                              std::span<const std::byte> key) {
  const auto present = index.find(fingerprint);
  if (is_broken(Rule::kForgetOnlyWhatFailed) && present) location = present->location;
  if (!forget(fingerprint, location)) return false;
  if (!is_broken(Rule::kForgottenOutranks)) ++segments.at(location.segment).tombstones;
  events.note(EventPage::Kind::kRemoved, {reinterpret_cast<const char*>(key.data()), key.size()},
              0);
  return true;
}

bool PathState::publish_delete(const Fingerprint& fingerprint, const Place& place) {
  if (!is_broken(Rule::kRememberDelete)) guard.note_published(fingerprint, place);
  const auto present = index.find(fingerprint);
  if (!present || segments.place_of(present->location) > place) return false;
  return forget(fingerprint, present->location);
}

}  // namespace larder::log_store
