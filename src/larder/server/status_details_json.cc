#include "larder/server/status_details_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "larder/base/size_text.h"

namespace larder::server {
namespace {

using json = nlohmann::ordered_json;

constexpr std::uint64_t kMinuteNs = 60'000'000'000;
constexpr double kMsPerSecond = 1e3;

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

// ---- Health.

/// Collects {"what", "because", "remedy"}.
class Reasons {
 public:
  void add(const std::string& what, const char* remedy,
           const std::vector<std::string>& because = {}) {
    list_.push_back({{"what", what}, {"because", because}, {"remedy", remedy}});
  }
  json take() { return std::move(list_); }

 private:
  json list_ = json::array();
};

void add_tier(const TierStatus& tier, Reasons& reasons) {
  if (tier.report.health == Health::kHealthy) return;
  if (tier.report.health == Health::kDown) {
    return reasons.add(tier.spec + " is down",
                       "Mend its disk, mount or server; until then its chunks are misses. It is "
                       "used again by itself once it answers.",
                       tier.report.reasons);
  }
  reasons.add(tier.spec + " is degraded",
              "It serves on. Look at its disk, mount or server before it goes down.",
              tier.report.reasons);
}

void add_recent(const WatchedTotals& recent, Reasons& reasons) {
  const auto add = [&](std::uint64_t count, const char* one, const char* several, const char* what,
                       const char* remedy) {
    if (count == 0) return;
    reasons.add(format_count(count, one, several) + " within the last 5 minutes " + what, remedy);
  };
  add(recent.stores_failed, "object", "objects",
      "could not be stored in L2 and will be computed again",
      "Look at the connectors' errors and health: is one full, read-only or down?");
  add(recent.stores_lost, "object", "objects",
      "left L1 before L2 had them: L2 is slower than what is stored",
      "Take a faster L2, let it store less (min_hits=2), or raise --l1-size-gb.");
  add(recent.replies_dropped, "reply", "replies",
      "could not be sent: their clients had gone or do not read",
      "Look for engines that were killed or hang.");
}

const char* state_of(const ServerStatus& status, bool is_healthy, bool has_reasons) {
  if (!is_healthy) return "down";
  if (status.is_draining) return "draining";
  return has_reasons ? "degraded" : "healthy";
}

// ---- Connectors.

/// Times of a class of batches, queueing included.
json latency(const LatencySummary& summary) {
  return {{"batches", summary.batches},
          {"p50_seconds", seconds(summary.p50_ns)},
          {"p99_seconds", seconds(summary.p99_ns)}};
}

json operation(const Report& report, Op op, double minute_seconds) {
  const OpReport& keys = report.operation(op);
  const ClassReport& batches = report.of_class(class_of(op));
  json last_minute = latency(batches.latency_last_minute);
  last_minute["bytes_per_second"] = static_cast<double>(keys.last_minute.bytes) / minute_seconds;
  last_minute["failed"] = keys.last_minute.failed;
  json out = latency(batches.latency);
  out["objects"] = keys.total.keys();
  out["bytes"] = keys.total.bytes;
  out["failed"] = keys.total.failed;
  out["missed"] = keys.total.missed();
  out["in_flight"] = batches.batches_in_flight;
  out["last_minute"] = std::move(last_minute);
  return out;
}

json tier(const TierStatus& tier, const cache::TierTotals& totals, double minute_seconds) {
  const Report& report = tier.report;
  return {{"name", tier.name},
          {"spec", tier.spec},
          {"where", report.where},
          {"health", name_of(report.health)},
          {"reasons", report.reasons},
          {"objects", report.keys},
          {"bytes_used", report.bytes_used},
          {"capacity_bytes", report.capacity_bytes},
          {"evicted_bytes", report.evictions.bytes},
          {"load", operation(report, Op::kGet, minute_seconds)},
          {"store", operation(report, Op::kSet, minute_seconds)},
          {"lookup", operation(report, Op::kExists, minute_seconds)},
          {"stores_failed", totals.store_failed},
          {"stores_lost", totals.store_lost},
          {"stores_over_quota", totals.store_over_quota}};
}

json ages(const cache::AgeCounts& counts) {
  const double sum = static_cast<double>(counts.sum) / kMsPerSecond;
  return {{"chunks", counts.count},
          {"mean_seconds", counts.count == 0 ? 0.0 : sum / static_cast<double>(counts.count)}};
}

}  // namespace

json health_json(const ServerStatus& status, bool is_healthy) {
  Reasons reasons;
  if (!is_healthy) {
    reasons.add("the thread that answers clients did not run for a second",
                "Is the process stopped, or the machine out of CPU or memory? If not, restart the "
                "server: engines go on without it meanwhile.");
  }
  if (status.is_draining) {
    reasons.add("the server is ending",
                "It writes to L2 what L1 has. Engines go on without it, and find the next one by "
                "themselves.");
  }
  for (const TierStatus& tier : status.tiers) add_tier(tier, reasons);
  add_recent(status.last_5_minutes, reasons);
  json list = reasons.take();
  const char* const state = state_of(status, is_healthy, !list.empty());
  return {{"state", state}, {"reasons", std::move(list)}};
}

json evictions_json(const ServerStatus& status) {
  const cache::EngineTotals& totals = status.engine.totals;
  return {{"chunks", totals.columns_evicted},
          {"bytes", totals.bytes_evicted},
          {"age", ages(totals.evicted_age)},
          {"idle", ages(totals.evicted_idle)},
          {"returned_after", ages(totals.evicted_gap)}};
}

json what_if_json(const ServerStatus& status) {
  const auto known = [](const std::optional<double>& value) {
    return value ? json(*value) : json(nullptr);
  };
  const auto of = [&](const WhatIf& what_if) {
    json out{{"asked_chunks", what_if.asked}, {"measured", known(what_if.measured)}};
    for (std::size_t i = 0; i < what_if.points.size(); ++i) {
      const auto& [capacity_bytes, hit_rate] = what_if.points.at(i);
      out[kWhatIfNames.at(i)] = {
          {"capacity_bytes", capacity_bytes == 0 ? json(nullptr) : json(capacity_bytes)},
          {"hit_rate", known(hit_rate)}};
    }
    return out;
  };
  return {{"l1", of(status.engine.what_if_l1)}, {"l2", of(status.engine.what_if_l2)}};
}

json tiers_json(const ServerStatus& status) {
  const std::uint64_t uptime_ns = status.now_ns - status.started_ns;
  const double minute_seconds =
      seconds(std::clamp<std::uint64_t>(uptime_ns, 1'000'000'000, kMinuteNs));
  const std::vector<cache::TierTotals>& totals = status.engine.totals.tiers;
  json out = json::array();
  for (std::size_t i = 0; i < status.tiers.size(); ++i) {
    out.push_back(
        tier(status.tiers[i], i < totals.size() ? totals[i] : cache::TierTotals{}, minute_seconds));
  }
  return out;
}

json workers_json(const ServerStatus& status) {
  json out = json::array();
  for (const InstanceStatus& instance : status.instances) {
    out.push_back({{"id", instance.id},
                   {"model", instance.model},
                   {"rank", instance.rank ? json(*instance.rank) : json(nullptr)},
                   {"world_size", instance.world_size},
                   {"mode", instance.is_driven ? "lmcache_driven" : "engine_driven"},
                   {"dtype", instance.dtype},
                   {"chunk_bytes", instance.chunk_bytes},
                   {"loaded_tokens", instance.chunks_loaded * status.chunk_tokens},
                   {"silent_seconds", seconds(instance.silent_ns)}});
  }
  return out;
}

json lookups_by_salt_json(const ServerStatus& status) {
  const std::uint64_t chunk = status.chunk_tokens;
  json out = json::array();
  for (const SpaceStatus& space : status.spaces) {
    out.push_back({{"salt", space.salt},
                   {"model", space.model},
                   {"lookups", space.lookups.lookups},
                   {"asked_tokens", space.lookups.asked * chunk},
                   {"hit_l1_tokens", space.lookups.hit_l1 * chunk},
                   {"hit_l2_tokens", space.lookups.hit_l2 * chunk}});
  }
  return out;
}

}  // namespace larder::server
