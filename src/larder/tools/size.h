#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/tools/block_trace.h"

namespace larder::tools {

struct SizeOptions : TraceOptions {
  std::uint64_t block_bytes = std::uint64_t{64} << 10;
  std::vector<std::uint64_t> capacities_bytes;  ///< Empty: default_capacities().
  /// By name, beside LRU and the optimum. Empty: all of the engine's that evict by themselves, and
  /// the baselines.
  std::vector<std::string> policies;
  /// The share of requests, from the first on, that fill the caches and are not counted. Below 1.
  double warmup = 0;
  bool is_quiet = false;  ///< No progress.
};

/// One capacity.
struct SizePoint {
  std::uint64_t capacity_bytes = 0;
  std::uint64_t capacity_blocks = 0;  ///< Whole ones.
  std::vector<std::uint64_t> hits;    ///< Blocks, by column of the result.
};

struct SizeResult {
  std::uint64_t requests = 0;
  std::uint64_t warmup_requests = 0;
  std::uint32_t block_tokens = kDefaultBlockTokens;
  std::uint64_t sessions = 0;    ///< Trace::sessions.
  std::uint64_t references = 0;  ///< Blocks that the requests behind the warm-up asked for.
  std::uint64_t blocks = 0;      ///< Distinct ones of the whole trace: the working set.
  std::uint64_t repeats = 0;
  std::uint64_t inconsistent_blocks = 0;
  std::uint64_t hits_max = 0;        ///< Of a cache without a bound.
  std::vector<std::string> columns;  ///< "LRU", the policies, "optimum".
  std::vector<SizePoint> points;     ///< By rising capacity.
  /// Sizes at which LRU reaches a share of hits_max.
  struct Enough {
    double share = 0;
    std::uint64_t blocks = 0;
  };
  std::vector<Enough> enough;
  std::vector<std::string> trace_notes;  ///< Trace::notes.
};

/// The default sweep: powers of two of bytes from about four requests up, at most 12 of them, and
/// the working set. The trace has a reference.
std::vector<std::uint64_t> default_capacities(const BlockTrace& trace, std::uint64_t block_bytes);

/// Simulates caches of several sizes over the trace: exact LRU, policies of the engine, and the
/// exact optimum. Each request hits its longest resident prefix; see LruCurve for the model. LRU
/// costs one pass over the trace for all sizes, everything else one pass a size. kCancelled once
/// `stop` is set.
SetupResult<SizeResult> measure_sizes(const SizeOptions& options, const std::atomic<bool>& stop);

/// The same over a trace that the caller has, with its warm-up instead of the options'.
SetupResult<SizeResult> measure_sizes(const SizeOptions& options, const BlockTrace& trace,
                                      const std::atomic<bool>& stop);

/// How much of the way from LRU's hits to the optimum's so many hits go: 1 is the optimum, and
/// below 0 is worse than LRU. Empty if both hit the same.
std::optional<double> gap_closed(const SizePoint& point, std::uint64_t hits);

/// How many times faster prefill is if loading a hit takes no time: references / misses.
double prefill_speedup(const SizeResult& result, std::uint64_t hits);

/// The characters of the plot.
struct PlotStyle {
  std::size_t columns = 80;  ///< Of the terminal.
  bool is_unicode = false;   ///< Blocks; else ASCII.
};

/// Hit rates as bars, one for each capacity: LRU, the first of the other policies, and the optimum.
/// No colours. Empty where the terminal is too narrow for it.
std::string to_plot(const SizeResult& result, const PlotStyle& style);
std::string to_text(const SizeOptions& options, const SizeResult& result, const PlotStyle& style);
std::string to_json(const SizeOptions& options, const SizeResult& result);
/// A chart of hit rate and speed-up by capacity, as a document of its own.
std::string to_svg(const SizeOptions& options, const SizeResult& result);

}  // namespace larder::tools
