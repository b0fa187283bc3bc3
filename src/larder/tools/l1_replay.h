#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "larder/base/histogram.h"
#include "larder/base/result.h"
#include "larder/cache/engine_options.h"
#include "larder/cache/engine_stats.h"
#include "larder/connector/connector.h"
#include "larder/tools/replay.h"
#include "larder/tools/tier_counts.h"
#include "larder/tools/trace.h"

namespace larder::tools {

/// A replay through the cache engine: memory (L1) before any number of connectors (L2), or alone.
struct L1ReplayOptions : ReplayInput {
  std::vector<std::string> specs;  ///< L2, in the order in which the engine asks them.
  std::uint64_t l1_bytes = std::uint64_t{1} << 30;
  std::string policy = "LRU";
  cache::Promote promote = cache::Promote::kRetain;
  std::uint32_t ranks = 1;  ///< Each block is cut into so many cells of equal size.
  /// L1 has no memory, and no byte is written or verified: for sizes that this machine does not
  /// have. Only without L2.
  bool sizes_only = false;

  std::uint64_t cell_bytes() const noexcept { return block_bytes / ranks; }
  SetupStatus validate() const;
};

/// Whether a connector that takes values of up to `value_bytes_max` takes the options' cells.
SetupStatus check_cell_bytes(const L1ReplayOptions& options, std::uint64_t value_bytes_max);

/// Blocks that one request hit.
struct RequestHits {
  std::uint32_t l1 = 0;
  std::uint32_t l2 = 0;

  friend bool operator==(const RequestHits&, const RequestHits&) = default;
};

struct L1ReplayResult {
  std::string interrupted_by;            ///< Empty: the whole trace was replayed.
  std::vector<std::string> trace_notes;  ///< Trace::notes.
  std::vector<RequestHits> requests;     ///< By request: those that were answered.
  HitCount total;
  HitCount hit_l1;     ///< Read from L1 as the lookup found it.
  HitCount hit_l2;     ///< Loaded from L2 into L1, and read there.
  HitCount model_lru;  ///< An exact LRU of as many columns.
  HitCount model_unbounded;
  bool has_model = false;

  std::string policy;                ///< In the engine's terms.
  std::uint64_t columns_max = 0;     ///< Bytes that L1 can hold.
  std::uint64_t bytes_read = 0;      ///< From L1 by requests: all hits.
  std::uint64_t bytes_written = 0;   ///< To L1 by requests.
  LogLinearHistogram lookup_ns;      ///< From the lookup to its result, loads included.
  std::uint64_t lookup_busy_ns = 0;  ///< All of them.
  cache::EngineStats stats;          ///< When everything had ended.
  std::vector<TierCounts> tiers;
  std::vector<Report> tier_reports;  ///< At the end.
  std::uint64_t keys_at_start = 0;   ///< In all tiers.

  std::uint64_t mismatches = 0;
  std::string first_mismatch;  ///< Key and offset, for people.
  std::uint64_t wall_ns = 0;

  HitCount hit() const noexcept {
    return {hit_l1.blocks + hit_l2.blocks, hit_l1.tokens + hit_l2.tokens};
  }
  /// No wrong bytes, and no tier failed an operation or refused every store.
  bool is_good() const;
};

/// Replays the trace: each request is a lookup of its chunks, reads its hits and verifies every
/// byte, writes its misses, and ends, like a server's. Requests come one after another. At full
/// speed each request waits until L2 has the previous one's stores, so that the hits do not depend
/// on the speed of L2; otherwise L2 is written behind, and cells that L1 evicts before they are
/// written are lost to L2 and counted.
///
/// A tier that holds keys which do not begin with the options' prefix is refused unless they allow
/// it. `stop`, when set from outside, ends the run with the measurements so far.
SetupResult<L1ReplayResult> replay_l1(const L1ReplayOptions& options,
                                      const std::atomic<bool>& stop);

/// The same over a trace and connectors that the caller has; only this may call
/// their reap(). When it returns, the connectors have given everything back, or they were stopped
/// for that.
SetupResult<L1ReplayResult> replay_l1(const L1ReplayOptions& options,
                                      const std::vector<TraceRequest>& trace,
                                      const std::vector<Connector*>& tiers,
                                      const std::atomic<bool>& stop);

std::string to_text(const L1ReplayOptions& options, const L1ReplayResult& result);
std::string to_json(const L1ReplayOptions& options, const L1ReplayResult& result);

}  // namespace larder::tools
