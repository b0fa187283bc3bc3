#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/connectors/log/offline/inspection.h"

namespace larder::tools {

inline constexpr std::size_t kSizeBuckets = 32;

/// The report of `larder inspect` about a whole store.
struct InspectSummary {
  std::string directory;
  log_store::StoreFacts facts;
  std::vector<log_store::SegmentFacts> segments;
  std::vector<log_store::Damage> damage;
  std::uint64_t keys = 0;
  std::uint64_t value_bytes = 0;
  /// Bucket i: values of [2^(i-1), 2^i) bytes; bucket 0: empty ones.
  std::array<std::uint64_t, kSizeBuckets> sizes{};
  std::array<std::uint64_t, 9> ages{};  ///< As age_names().
  std::optional<log_store::Inspection::Verified> verified;

  /// Nothing is damaged, and the request was carried out completely.
  bool is_well() const { return damage.empty() && (!verified || !verified->was_interrupted); }
  /// Numbers below the largest one without a file: larder removed it (a smaller capacity, no
  /// space), or another program did.
  std::vector<std::uint32_t> missing_numbers() const;
  void add(const log_store::LiveRecord& record, std::uint64_t now_wall_seconds);

  // Shares of the capacity. They add up to it except for the unused ends of its slots.
  std::uint64_t live_bytes() const;
  std::uint64_t dead_bytes() const;  ///< Replaced, deleted and evicted records, and tombstones.
  std::uint64_t free_bytes() const;  ///< Segments to come, and the rest of the open one.
};

/// "up to 1 minute", ..., "older"; the last is for times to come.
const std::array<const char*, 9>& age_names();

std::string to_text(const InspectSummary& summary);
std::string to_json(const InspectSummary& summary);
/// "segment-0000001 at 8192, key 'a': its value does not match its checksum".
std::string to_text(const log_store::Damage& damage);
/// "2026-11-21 14:03:00 UTC"
std::string utc_text(std::uint64_t wall_seconds);

}  // namespace larder::tools
