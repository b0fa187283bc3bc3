#include "larder/tools/l1_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "larder/base/size_text.h"
#include "larder/cache/ids.h"
#include "larder/cache/policies/policy.h"
#include "larder/tools/foreign_keys.h"
#include "larder/tools/machine_info.h"
#include "larder/tools/open_connector.h"
#include "larder/tools/open_rehearsal.h"

namespace larder::tools {
namespace {

constexpr std::uint32_t kRanksMax = 128;  ///< As many readers as a lock can have.
constexpr std::size_t kKeyPrefixMax = 128;

SetupError invalid(std::string text) {
  return {ErrorCode::kInvalidArgument, std::move(text)};
}

/// No store is made for cells that it would refuse.
SetupStatus rehearse(const L1ReplayOptions& options, const std::string& spec) {
  LARDER_ASSIGN(const ReadSpec read, read_spec(spec));
  const auto limits = rehearse_open(read);
  if (!limits && limits.error().code != ErrorCode::kUnavailable) return limits.error();
  if (!limits || !*limits) return {};
  return check_cell_bytes(options, (*limits)->value_bytes_max);
}

using Connectors = std::vector<std::unique_ptr<Connector>>;

SetupStatus open_all(const L1ReplayOptions& options, const std::atomic<bool>& stop,
                     Connectors& opened) {
  for (const std::string& spec : options.specs) {
    LARDER_ASSIGN(auto connector, open_connector(spec));
    opened.push_back(std::move(connector));
    if (options.allow_eviction) continue;
    LARDER_TRY(check_no_foreign_keys(*opened.back(), options.key_prefix, "a replay", stop));
  }
  return {};
}

}  // namespace

SetupStatus L1ReplayOptions::validate() const {
  if (ranks == 0 || ranks > kRanksMax) {
    return invalid("--ranks " + std::to_string(ranks) + ": expected 1 to " +
                   std::to_string(kRanksMax));
  }
  if (block_bytes == 0 || block_bytes % ranks != 0) {
    return invalid("--block-bytes " + format_bytes_exact(block_bytes) + " cannot be cut into " +
                   format_count(ranks, "equal cell") + ": expected a multiple of --ranks");
  }
  if (specs.size() > cache::kTiersMax) {
    return invalid("there are " + std::to_string(specs.size()) +
                   " connectors below --l1: expected " + std::to_string(cache::kTiersMax) +
                   " at most");
  }
  const std::uint64_t memory_bytes = describe_machine({}).memory_bytes;
  if (!sizes_only && memory_bytes != 0 && l1_bytes > memory_bytes) {
    return invalid("--l1 " + format_bytes_exact(l1_bytes) +
                   " is more than this machine's memory, " + format_bytes(memory_bytes) +
                   ": expected less, or --sizes-only, which keeps no bytes");
  }
  if (sizes_only && !specs.empty()) {
    return invalid("--sizes-only keeps no bytes that a connector could store: leave SPEC out");
  }
  if (key_prefix.size() > kKeyPrefixMax) {
    return invalid("--key-prefix is longer than " + std::to_string(kKeyPrefixMax) + " bytes");
  }
  if (const auto kind = cache::find_policy(policy); !kind) return kind.error();
  return {};
}

SetupStatus check_cell_bytes(const L1ReplayOptions& options, std::uint64_t value_bytes_max) {
  if (options.cell_bytes() <= value_bytes_max) return {};
  return invalid(fmt::format("--block-bytes {} for {} is above the connector's largest value {}",
                             format_bytes_exact(options.block_bytes),
                             format_count(options.ranks, "rank"),
                             format_bytes_exact(value_bytes_max)));
}

bool L1ReplayResult::is_good() const {
  return mismatches == 0 && std::ranges::all_of(tiers, [](const TierCounts& tier) {
           return tier.load_failures.empty() && tier.store_failures.empty() &&
                  tier.lookup_failures.empty() && !tier.is_every_store_refused();
         });
}

SetupResult<L1ReplayResult> replay_l1(const L1ReplayOptions& options,
                                      const std::atomic<bool>& stop) {
  LARDER_TRY(options.validate());
  LARDER_ASSIGN(const Trace trace, read_trace(options, stop));
  for (const std::string& spec : options.specs) LARDER_TRY(rehearse(options, spec));
  Connectors opened;
  const SetupStatus allowed = open_all(options, stop, opened);
  SetupResult<L1ReplayResult> result = L1ReplayResult{};
  if (allowed) {
    std::vector<Connector*> tiers;
    for (const auto& connector : opened) tiers.push_back(connector.get());
    result = replay_l1(options, trace.requests, tiers, stop);
  }
  SetupStatus stopped;
  for (const auto& connector : opened) {
    if (const SetupStatus one = stop_connector(*connector); !one && stopped) stopped = one;
  }
  LARDER_TRY(stopped);
  if (!allowed) return allowed.error();
  if (result) result->trace_notes = trace.notes;
  return result;
}

}  // namespace larder::tools
