#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/histogram.h"
#include "larder/base/result.h"
#include "larder/tools/machine_info.h"

namespace larder::tools {

enum class BenchMode : std::uint8_t { kLoad = 1, kStore, kMixed, kExists, kLatency };

struct BenchOptions {
  std::string spec;
  BenchMode mode = BenchMode::kLoad;
  std::vector<std::uint64_t> value_bytes = {std::uint64_t{1} << 20};
  std::uint32_t batch = 16;
  std::uint32_t in_flight = 0;  ///< Batches; 0: as many as make 256 MiB, 2 to 16.
  std::uint64_t bytes = 0;  ///< Per phase; 0: max(1 GiB, 2 x last-level cache), less where no room.
  std::uint32_t pairs = 7;
  std::uint32_t slices = 1;
  std::uint32_t unaligned_bytes = 0;
  std::uint32_t load_percent = 70;   ///< kMixed.
  std::uint32_t touch_percent = 10;  ///< kStore: share of stored keys that is marked as read.
  bool is_first_turn = false;        ///< kStore: on blocks that were never written.
  bool with_stores = false;          ///< kExists: while stores are in flight.
  bool allow_eviction = false;       ///< Go on although the store holds keys.
  bool has_huge_pages = true;        ///< Memory of values and of fio; see BenchSeries::notes.
  bool is_warm = false;              ///< kLoad: do not insist on the disk.
  bool with_ceiling = true;
  bool is_verified = true;
  double goal = 0;  ///< Ratio to reach; 0: none.
  bool is_quiet = false;
};

SetupResult<BenchMode> parse_bench_mode(std::string_view text);
std::string_view bench_mode_name(BenchMode mode);

/// One measured phase of ours.
struct BenchPass {
  std::uint64_t keys = 0;  ///< Asked for.
  std::uint64_t bytes_loaded = 0;
  std::uint64_t bytes_stored = 0;
  std::uint64_t misses = 0;   ///< Loads without a value.
  std::uint64_t refused = 0;  ///< Stores refused (kResourceExhausted), items and submissions.
  std::string first_refusal;  ///< Its cause, for people.
  std::uint64_t failed = 0;   ///< Everything else.
  std::string first_failure;
  std::uint64_t mismatches = 0;  ///< Values that differ from what was stored.
  std::uint64_t wall_ns = 0;
  double cpu_seconds = 0;  ///< User and system of the whole process.
  LogLinearHistogram
      batch_ns;  ///< From submit() to reap(), per batch (kExists: Exists batches only).
  /// Bytes that the device transferred / payload bytes; empty if no device counts them.
  std::optional<double> disk_read_share;
  std::optional<double> disk_write_share;

  double gb_per_second() const;
  /// Stores were refused, and not one was stored.
  bool is_every_store_refused() const { return refused > 0 && bytes_stored == 0; }
};

/// The same for the comparison: fio, or memcpy for a connector in memory.
struct CeilingPass {
  double gb_per_second = 0;
  double cpu_seconds_per_gb = 0;
  std::uint64_t latency_p50_ns = 0;
};

struct BenchPair {
  BenchPass ours;
  std::optional<CeilingPass> ceiling;
};

/// Median and quartiles.
struct Spread {
  double lower = 0;
  double median = 0;
  double upper = 0;
};
Spread spread_of(std::vector<double> values);

/// One size of value.
struct BenchSeries {
  std::uint64_t value_bytes = 0;
  std::uint32_t in_flight = 0;  ///< Batches.
  std::uint64_t bytes_per_pass = 0;
  std::vector<BenchPair> pairs;
  std::string ceiling;                            ///< What it is; empty: there is none.
  std::map<std::string, double> ceiling_search;   ///< GB/s of each engine that was tried.
  std::map<std::string, std::uint64_t> counters;  ///< The report's totals over the measured passes.
  std::vector<std::string> notes;
  /// An operation failed while the store was filled, or every store was refused: nothing can be
  /// measured.
  bool is_fill_bad = false;

  std::optional<Spread> ratio() const;  ///< Pair by pair: ours / ceiling.
};

struct BenchResult {
  BenchOptions options;
  MachineInfo machine;
  std::string connector;
  std::string where;
  std::map<std::string, std::string> properties;
  std::vector<BenchSeries> series;
  std::string interrupted_by;
  bool is_not_cold = false;  ///< A load that should have come from the disk did not.
  bool is_goal_missed = false;

  /// No wrong bytes, no failed or missing key, not all stores of a pass or of the filling refused,
  /// cold if required, and the goal reached.
  bool is_good() const;
};

/// Measures as `options` say. The store must be empty at the start (or --allow-eviction is given);
/// only keys of this run are written, read and finally removed.
SetupResult<BenchResult> bench(const BenchOptions& options, const std::atomic<bool>& stop);

std::string to_text(const BenchResult& result);
std::string to_json(const BenchResult& result);

}  // namespace larder::tools
