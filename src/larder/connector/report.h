#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "larder/connector/op.h"

namespace larder {

/// Whether a hit is proven to be the stored bytes.
enum class Integrity : std::uint8_t {
  kNone = 0,  ///< Name and length only.
  kChecked,   ///< Key, length and checksum are proven on every read.
};

/// Where the values are, as seen from this process.
enum class Locality : std::uint8_t {
  kMemory = 0,
  kLocalDisk,
  kSharedFiles,
  kRemote,
  kOtherProcess
};

/// What a connector can do; constant while it is open.
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
  HintMask hints = 0;  ///< The hints that a Touch may carry, as bit_of(Hint).
};

enum class Health : std::uint8_t { kHealthy = 0, kDegraded, kDown };

/// Counts of one operation's keys by outcome.
struct OpTotals {
  std::uint64_t hits = 0;                                ///< Loads and lookups.
  std::array<std::uint64_t, kMissReasonCount> misses{};  ///< By MissReason; not for stores.
  std::uint64_t done = 0;                                ///< Stored, deleted, touched.
  std::uint64_t existed = 0;  ///< Stores with kIfAbsent of keys that had a value.
  std::uint64_t failed = 0;
  /// Failed by their caller's doing: illegal, cancelled, of another size.
  std::uint64_t rejected = 0;
  std::uint64_t bytes = 0;  ///< Bytes of the values that were found, loaded or stored.
  /// Bytes that loads asked for and did not find. (A lookup does not know how much it looks for.)
  std::uint64_t bytes_missed = 0;

  std::uint64_t missed() const noexcept;
  /// Everything that did not fail.
  std::uint64_t succeeded() const noexcept { return hits + missed() + done + existed; }
  std::uint64_t keys() const noexcept { return succeeded() + failed + rejected; }
  OpTotals& operator+=(const OpTotals& other) noexcept;
};

/// The keys of one operation, counted over two spans of time.
struct OpReport {
  OpTotals total;  ///< Since it was opened.
  OpTotals last_minute;
};

/// How long batches took, from submit() to the end of their last item.
struct LatencySummary {
  std::uint64_t batches = 0;
  std::uint64_t sum_ns = 0;
  std::uint64_t p50_ns = 0;  ///< At most 1/16 above the exact one.
  std::uint64_t p99_ns = 0;
  std::uint64_t max_ns = 0;
};

/// The bounds of ClassReport's histogram of batch times: 1 us to 69 s by powers of two. They never
/// change, because programs that read metrics compare them over time.
inline constexpr std::array<std::uint64_t, 27> kLatencyBoundsNs = [] {
  std::array<std::uint64_t, 27> bounds{};
  for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] = std::uint64_t{1} << (i + 10);
  return bounds;
}();

/// The batches of one class: how long they took, and how many are in flight now.
struct ClassReport {
  LatencySummary latency;  ///< Since it was opened.
  LatencySummary latency_last_minute;
  std::array<std::uint64_t, kLatencyBoundsNs.size()> batches_within{};  ///< kLatencyBoundsNs.
  std::uint64_t batches_in_flight = 0;  ///< Accepted and not ended, queued ones included.
  std::uint64_t bytes_in_flight = 0;
  std::uint64_t batches_queued = 0;    ///< Some of their items were not begun.
  std::uint64_t oldest_queued_ns = 0;  ///< How long the oldest of these has been there; 0: none is.
  std::uint64_t batches_refused = 0;   ///< In total, for want of room (C5).
};

/// Values evicted to make room, in total.
struct Evictions {
  std::uint64_t keys = 0;
  std::uint64_t bytes = 0;  ///< Of values.
};

/// The keys of one class within the last minute.
struct RecentOutcomes {
  std::uint64_t succeeded = 0;  ///< Hits, misses and done.
  std::uint64_t failed = 0;     ///< Failures that the caller did not cause.
};

inline constexpr std::array kWhatIfNames{"half", "same", "double", "unlimited"};

/// Estimated hit rates with other capacities under LRU eviction, from a sample: see HitRateSketch.
/// Covers recent asks; the latest count most.
struct WhatIf {
  struct Point {
    std::uint64_t capacity_bytes = 0;  ///< 0: unlimited.
    std::optional<double> hit_rate;    ///< Empty: not known yet.
  };
  std::array<Point, kWhatIfNames.size()> points{};  ///< By kWhatIfNames.
  std::optional<double>
      measured;      ///< The measured hit rate of the same asks; empty while there are too few.
  double asked = 0;  ///< Keys that it is of; older ones count less.
  BatchClass of = BatchClass::kLookup;  ///< Whether lookups or loads were counted.

  bool is_empty() const noexcept { return points[1].capacity_bytes == 0; }
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
  std::vector<std::string> reasons;  ///< Why it is not healthy, or other news for the operator.
  std::uint64_t bytes_used = 0;
  std::uint64_t capacity_bytes = 0;  ///< 0: not bounded by larder.
  std::uint64_t keys = 0;
  Integrity integrity = Integrity::kNone;
  Locality locality = Locality::kMemory;
  std::vector<std::pair<std::string, std::string>> properties;  ///< E.g. {"io", "uring"}.
  std::array<OpReport, kOpCount> operations;                    ///< By index_of(Op).
  std::array<ClassReport, kBatchClassCount> classes{};          ///< By BatchClass.
  Evictions evictions;
  WhatIf what_if;                 ///< Empty where the capacity has no bound.
  std::uint64_t keys_failed = 0;  ///< Misses until they are stored again, or for a while (C6).
  std::uint64_t keys_failed_dropped =
      0;  ///< Values among them that were dropped before their time was over.
  std::uint64_t batches_answered_while_down = 0;  ///< In total.
  std::uint64_t batches_waited_for_room = 0;      ///< In total (Batch::waits_for_room).
  std::uint64_t refused_by_door = 0;  ///< Operations, in total; a door sets it, no connector.
  std::vector<Counter> counters;      ///< All other counters; the type's `metrics` explain them.

  const OpReport& operation(Op op) const noexcept { return operations[index_of(op)]; }
  const ClassReport& of_class(BatchClass batch_class) const noexcept {
    return classes[index_of(batch_class)];
  }
  RecentOutcomes recent(BatchClass batch_class) const noexcept;
  /// Whether some class is used and fails completely: enough operations failed within the last
  /// minute to tell, and none succeeded.
  bool is_failing() const noexcept;
};

/// Position at which a scan continues. Opaque; {} starts, `done` of the page ends it.
struct ScanCursor {
  std::uint64_t words[2] = {};
};

/// Some of the keys, and the position to continue from.
struct ScanPage {
  struct Entry {
    std::string key;
    std::uint64_t value_bytes = 0;
  };
  std::vector<Entry> entries;
  ScanCursor next;
  bool done = false;
};

/// Position at which a reader of events continues. {} starts with the oldest event that is kept.
struct EventCursor {
  std::uint64_t position = 0;
};

/// Some of the events, oldest first, and the position to continue from.
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
