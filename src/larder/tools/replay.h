#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/histogram.h"
#include "larder/base/result.h"
#include "larder/connector/connector.h"
#include "larder/tools/trace.h"

namespace larder::tools {

/// The options of a replay of any kind: trace, speed and report.
struct ReplayInput : TraceOptions {
  std::uint64_t block_bytes = std::uint64_t{64} << 10;
  /// Trace time runs this many times faster than the clock; 0: as fast as the connector allows.
  double speed = 0;
  double tokens_per_second = 8000;  ///< Prefill rate that the seconds saved are stated for.
  std::string key_prefix = "replay/";
  bool with_model = true;
  bool allow_eviction = false;  ///< Go on although the store holds keys that are not a replay's.
  bool is_quiet = false;        ///< No progress.
};

struct ReplayOptions : ReplayInput {
  std::string spec;
  std::uint32_t concurrency = 8;    ///< Requests in flight.
  std::uint32_t batch_blocks = 64;  ///< Blocks of one batch, and of one request's buffer.
};

/// Whether a store that takes values of up to `value_bytes_max` takes the options' blocks.
SetupStatus check_block_bytes(const ReplayOptions& options, std::uint64_t value_bytes_max);

/// The value of `--speed`: "max", "trace", or a factor such as "20x".
SetupResult<double> parse_speed(std::string_view text);

/// Failures with one code.
struct FailureCount {
  std::uint64_t count = 0;
  std::string first;  ///< The first cause, for people.
};
using Failures = std::map<ErrorCode, FailureCount>;
void count_failure(const Error& error, FailureCount& failures);

/// One kind of operation over the whole run.
struct ReplayOperation {
  std::uint64_t bytes = 0;
  std::uint64_t busy_ns = 0;      ///< Wall time with at least one batch of this kind in flight.
  LogLinearHistogram latency_ns;  ///< Per request that had any: its batches' times, added up.
  Failures failures;              ///< Per block.
};

struct HitCount {
  std::uint64_t blocks = 0;
  std::uint64_t tokens = 0;
};

struct ReplayResult {
  std::string interrupted_by;            ///< Empty: the whole trace was replayed.
  std::vector<std::string> trace_notes;  ///< Trace::notes.
  std::uint64_t requests = 0;
  HitCount total;
  HitCount hit;        ///< Contiguous prefixes, loaded and verified.
  HitCount model_lru;  ///< An exact LRU of the same capacity.
  HitCount model_unbounded;
  std::uint64_t model_capacity_bytes = 0;  ///< 0: the connector does not bound itself.
  bool has_model = false;

  ReplayOperation lookup;
  ReplayOperation load;
  ReplayOperation store;
  std::uint64_t blocks_stored = 0;
  std::uint64_t blocks_already_there = 0;     ///< Stores that found their key: behind a hole.
  FailureCount blocks_refused;                ///< Stores refused by a limit (kResourceExhausted).
  std::uint64_t blocks_lost_before_load = 0;  ///< Seen by the lookup, a miss when loaded.
  std::uint64_t mismatches = 0;
  std::string first_mismatch;  ///< Key and offset, for people.

  std::uint64_t wall_ns = 0;
  std::uint64_t keys_at_start = 0;
  Report report_at_end;
  std::map<std::string, std::uint64_t> counters;  ///< Totals of the report, this run's share.

  /// Stores were refused, and not one block was stored or there before.
  bool is_every_store_refused() const;
  /// No wrong bytes, no failed operation, and not every store refused: a cache may refuse some.
  bool is_good() const;
};

/// Replays the trace. A store that holds keys which do not begin with the options' prefix is
/// refused unless they allow it, because the replay's keys may push them out. `stop`, when set from
/// outside, ends the run with the measurements so far.
///
/// Each request looks its chain up, loads the contiguous prefix that exists, verifies every byte,
/// and stores the rest (kIfAbsent). Requests start in the order of the trace, each after its
/// predecessor's lookup, and after all blocks of its chain that an earlier request is about to
/// store have been stored: so the hits are those of a serial run, except for evictions meanwhile;
/// with concurrency 1 they are exactly those.
SetupResult<ReplayResult> replay(const ReplayOptions& options, const std::atomic<bool>& stop);

/// The same over a trace and a connector that the caller has; only this may
/// call its reap().
SetupResult<ReplayResult> replay(const ReplayOptions& options,
                                 const std::vector<TraceRequest>& trace, Connector& connector,
                                 const std::atomic<bool>& stop);

std::string to_text(const ReplayOptions& options, const ReplayResult& result);
std::string to_json(const ReplayOptions& options, const ReplayResult& result);

}  // namespace larder::tools
