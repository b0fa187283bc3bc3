#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace larder {

/// Whether a hit is known to be the bytes that were stored.
enum class Integrity : std::uint8_t {
  kNone = 0,  ///< Name and length only.
  kChecked,   ///< Key, length and checksum are proven on every read.
};

/// Where the values are, seen from this process.
enum class Locality : std::uint8_t {
  kMemory = 0,
  kLocalDisk,
  kSharedFiles,
  kRemote,
  kOtherProcess
};

/// What a connector can do; constant after it was opened.
struct Capabilities {
  std::uint32_t buffer_alignment = 1;  ///< Address and length multiple that avoids the copy.
  std::uint32_t slices_max = 1024;     ///< Per value.
  std::uint64_t value_bytes_max = 0;
  Integrity integrity = Integrity::kNone;
  Locality locality = Locality::kMemory;
  bool has_probe = false;
  bool has_scan = false;
  bool has_events = false;
  bool survives_restart = false;
};

enum class Health : std::uint8_t { kHealthy = 0, kDegraded, kDown };

/// The operations whose shares are kept apart (C5): lookups (Exists, Touch), loads (Get), stores
/// (Set, Delete).
enum class BatchClass : std::uint8_t { kLookup = 0, kLoad, kStore };
inline constexpr std::size_t kBatchClassCount = 3;
/// In the singular, by BatchClass: as counters, threads and parameters name them.
inline constexpr std::array<const char*, kBatchClassCount> kBatchClassNames{"lookup", "load",
                                                                            "store"};

/// What the keys of one class came to within the last minute. Not counted: keys that failed by
/// their caller's doing (illegal, cancelled, of another size), and what probe() answered.
struct RecentOutcomes {
  std::uint64_t succeeded = 0;  ///< Hits, misses and done.
  std::uint64_t failed = 0;
};

/// A named number in a report. Totals only grow; the others go up and down.
struct Counter {
  std::string name;  ///< snake_case with its unit last, e.g. "bytes_staged_total".
  std::uint64_t value = 0;
};

/// A connector's state at one moment, for people and for metrics.
struct Report {
  std::string type;
  std::string where;  ///< Directory, address, ... without secrets.
  Health health = Health::kHealthy;
  std::vector<std::string> reasons;  ///< Why it is not healthy, or what is worth knowing.
  std::uint64_t bytes_used = 0;
  std::uint64_t capacity_bytes = 0;  ///< 0: not bounded by larder.
  std::uint64_t keys = 0;
  Integrity integrity = Integrity::kNone;
  Locality locality = Locality::kMemory;
  std::vector<std::pair<std::string, std::string>> properties;  ///< E.g. {"io", "uring"}.
  std::vector<Counter> counters;
  std::array<RecentOutcomes, kBatchClassCount> recent;  ///< By BatchClass.

  /// Whether some class is asked for and nothing of it works: enough failed within the last minute
  /// to tell, and none succeeded.
  bool is_failing() const noexcept;
};

/// Where a scan goes on. Opaque; {} starts, `done` of the page ends it.
struct ScanCursor {
  std::uint64_t words[2] = {};
};

struct ScanPage {
  struct Entry {
    std::string key;
    std::uint64_t value_bytes = 0;
  };
  std::vector<Entry> entries;
  ScanCursor next;
  bool done = false;
};

struct EventCursor {
  std::uint64_t position = 0;
};

struct EventPage {
  enum class Kind : std::uint8_t { kStored = 0, kRemoved };
  struct Event {
    Kind kind = Kind::kStored;
    std::string key;
    std::uint64_t value_bytes = 0;
  };
  std::vector<Event> events;
  EventCursor next;
  std::uint64_t lost = 0;  ///< Events that were overwritten before this reader came to them.
};

std::string name_of(Integrity integrity);
std::string name_of(Locality locality);
std::string name_of(Health health);
/// In the plural: "lookups".
std::string name_of(BatchClass batch_class);

}  // namespace larder
