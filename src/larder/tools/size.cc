#include "larder/tools/size.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <string_view>

#include "larder/base/size_text.h"
#include "larder/cache/policies/policy.h"
#include "larder/tools/baseline_policies.h"
#include "larder/tools/lru_curve.h"
#include "larder/tools/policy_simulation.h"
#include "larder/tools/prefix_optimum.h"
#include "larder/tools/progress.h"

namespace larder::tools {
namespace {

constexpr std::size_t kSweepSizesMax = 12;
constexpr std::uint64_t kSweepFirstRequests = 4;
constexpr std::array kSharesOfMost = {0.5, 0.9, 0.99};
/// Sizes in bytes stay below it, so that no sum of them overflows.
constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 62;

SetupError invalid(std::string text) {
  return {ErrorCode::kInvalidArgument, std::move(text)};
}

/// Those that the user named, or all that evict by themselves. LRU has its column anyway.
SetupResult<std::vector<const cache::PolicyKind*>> policies_of(const SizeOptions& options) {
  std::vector<const cache::PolicyKind*> kinds;
  const auto add = [&kinds](const cache::PolicyKind& kind) {
    if (kind.name != "LRU" && std::ranges::find(kinds, &kind) == kinds.end()) {
      kinds.push_back(&kind);
    }
  };
  for (const std::string& name : options.policies) {
    LARDER_ASSIGN(const cache::PolicyKind* const kind, find_simulated_policy(name));
    add(*kind);
  }
  if (!options.policies.empty()) return kinds;
  for (const cache::PolicyKind& kind : cache::policy_kinds()) {
    // With one salt, a policy by salt equals its base.
    if (!kind.is_partitioned_by_salt && kind.name != "noop") add(kind);
  }
  for (const cache::PolicyKind& kind : baseline_policies()) add(kind);
  return kinds;
}

SetupStatus check_bytes(const SizeOptions& options, const BlockTrace& trace) {
  if (trace.references() == 0) return invalid("the trace has no blocks");
  if (options.block_bytes == 0 || options.block_bytes > kBytesMax / trace.references()) {
    return invalid("blocks of " + format_bytes_exact(options.block_bytes) +
                   " make a trace of more than 4 EiB: expected the bytes of one block's KV cache");
  }
  for (const std::uint64_t capacity : options.capacities_bytes) {
    if (capacity >= options.block_bytes && capacity <= kBytesMax) continue;
    return invalid("capacity " + format_bytes_exact(capacity) + ": expected from one block (" +
                   format_bytes_exact(options.block_bytes) + ") to 4EiB");
  }
  return {};
}

std::vector<SizePoint> points_of(const SizeOptions& options, const BlockTrace& trace) {
  std::vector<std::uint64_t> capacities = options.capacities_bytes;
  if (capacities.empty()) capacities = default_capacities(trace, options.block_bytes);
  std::ranges::sort(capacities);
  const auto repeated = std::ranges::unique(capacities);
  capacities.erase(repeated.begin(), repeated.end());
  std::vector<SizePoint> points;
  for (const std::uint64_t capacity : capacities) {
    points.push_back({.capacity_bytes = capacity,
                      .capacity_blocks = capacity / options.block_bytes,
                      .hits = {}});
  }
  return points;
}

}  // namespace

std::vector<std::uint64_t> default_capacities(const BlockTrace& trace, std::uint64_t block_bytes) {
  const std::uint64_t working_set = trace.blocks() * block_bytes;
  const std::uint64_t mean_blocks = trace.references() / trace.requests() + 1;
  const std::uint64_t first = std::bit_ceil(kSweepFirstRequests * mean_blocks * block_bytes);
  const auto sizes_by = [&](std::uint64_t factor) {
    std::vector<std::uint64_t> sizes;
    for (std::uint64_t size = first; size < working_set; size *= factor) sizes.push_back(size);
    return sizes;
  };
  std::uint64_t factor = 2;
  std::vector<std::uint64_t> sizes = sizes_by(factor);
  while (sizes.size() > kSweepSizesMax) sizes = sizes_by(factor *= 2);
  sizes.push_back(working_set);
  return sizes;
}

SetupResult<SizeResult> measure_sizes(const SizeOptions& options, const std::atomic<bool>& stop) {
  // Reports a misspelt policy before reading a long trace.
  LARDER_TRY(policies_of(options));
  if (!(options.warmup >= 0 && options.warmup < 1)) {
    return invalid("warm-up: expected a share of the requests below 100 %");
  }
  LARDER_ASSIGN(const Trace read, read_trace(options, stop));
  const auto warmup_requests =
      static_cast<std::size_t>(options.warmup * static_cast<double>(read.requests.size()));
  LARDER_ASSIGN(const BlockTrace trace, BlockTrace::make(read.requests, warmup_requests));
  LARDER_ASSIGN(SizeResult result, measure_sizes(options, trace, stop));
  result.block_tokens = read.block_tokens;
  result.sessions = read.sessions;
  result.trace_notes = read.notes;
  return result;
}

SetupResult<SizeResult> measure_sizes(const SizeOptions& options, const BlockTrace& trace,
                                      const std::atomic<bool>& stop) {
  LARDER_ASSIGN(const std::vector<const cache::PolicyKind*> kinds, policies_of(options));
  LARDER_TRY(check_bytes(options, trace));
  SizeResult result;
  result.requests = trace.requests();
  result.warmup_requests = trace.warmup_requests();
  result.references = trace.counted_references();
  result.blocks = trace.blocks();
  result.repeats = trace.repeats();
  result.inconsistent_blocks = trace.inconsistent_blocks();
  result.points = points_of(options, trace);

  Progress progress{"size", options.is_quiet};
  const std::uint64_t passes = 1 + result.points.size() * (kinds.size() + 1);
  std::uint64_t done = 0;
  const auto pass_done = [&] { progress.update(++done, passes, "passes over the trace"); };

  result.columns.emplace_back("LRU");
  LARDER_ASSIGN(const LruCurve lru, LruCurve::measure(trace, stop));
  pass_done();
  for (SizePoint& point : result.points) point.hits.push_back(lru.hits(point.capacity_blocks));
  result.hits_max = lru.hits_max();
  if (result.hits_max == result.references) {
    return invalid("behind the warm-up of " + format_count(result.warmup_requests, "request") +
                   " no block is new, and a large cache misses nothing: use a smaller --warmup");
  }
  for (const double share : kSharesOfMost) {
    const double hits = std::ceil(share * static_cast<double>(result.hits_max));
    result.enough.push_back(
        {.share = share, .blocks = lru.capacity_for(static_cast<std::uint64_t>(hits))});
  }
  for (const cache::PolicyKind* const kind : kinds) {
    result.columns.emplace_back(kind->name);
    for (SizePoint& point : result.points) {
      LARDER_ASSIGN(const std::uint64_t hits,
                    policy_hits(trace, *kind, point.capacity_blocks, options.block_bytes, stop));
      point.hits.push_back(hits);
      pass_done();
    }
  }
  result.columns.emplace_back("optimum");
  const PrefixOptimum optimum{trace};
  for (SizePoint& point : result.points) {
    LARDER_ASSIGN(const std::uint64_t hits, optimum.hits(point.capacity_blocks, stop));
    point.hits.push_back(hits);
    pass_done();
  }
  return result;
}

std::optional<double> gap_closed(const SizePoint& point, std::uint64_t hits) {
  const auto lru = static_cast<double>(point.hits.front());
  const auto optimum = static_cast<double>(point.hits.back());
  if (lru == optimum) return std::nullopt;
  return (static_cast<double>(hits) - lru) / (optimum - lru);
}

double prefill_speedup(const SizeResult& result, std::uint64_t hits) {
  // measure_sizes() refuses a trace without misses.
  return static_cast<double>(result.references) / static_cast<double>(result.references - hits);
}

}  // namespace larder::tools
