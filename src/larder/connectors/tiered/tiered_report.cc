// The report of `tiered:` about itself, L1 and its tiers.
#include <algorithm>

#include "larder/connectors/tiered/tiered_connector.h"

namespace larder::tiered {
namespace {

std::uint64_t value(const std::atomic<std::uint64_t>& counter) noexcept {
  return counter.load(std::memory_order_relaxed);
}

std::string place_of(const Report& report) {
  return report.where.empty() ? report.type + ":" : report.type + ":" + report.where;
}

bool is_unbounded(const Report& report) noexcept {
  return report.capacity_bytes == 0;
}

/// The tier that holds most.
const Report& home_of(const std::vector<Report>& tiers) {
  return *std::ranges::max_element(tiers, [](const Report& left, const Report& right) {
    if (is_unbounded(left) || is_unbounded(right)) return !is_unbounded(left);
    return left.capacity_bytes < right.capacity_bytes;
  });
}

}  // namespace

Report TieredConnector::report() const {
  Report report;
  report.type = connector_type().name;
  report.integrity = capabilities_.integrity;
  report.locality = capabilities_.locality;
  append_tiers(report);
  intake_.append_report(report);
  return report;
}

void TieredConnector::append_tiers(Report& report) const {
  const cache::EngineStats stats = machine_.stats();
  std::vector<Report> tiers;
  for (const auto& tier : machine_.tiers()) tiers.push_back(tier->connector().report());
  std::size_t down = 0;
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    const Report& tier = tiers[i];
    const std::string name = "tier " + std::to_string(i + 1) + " (" + place_of(tier) + ")";
    report.where += (i == 0 ? "" : ", ") + place_of(tier);
    down += tier.health == Health::kDown ? 1 : 0;
    if (tier.health != Health::kHealthy) {
      report.health = Health::kDegraded;
      report.reasons.push_back(name + " is " + name_of(tier.health));
    }
    for (const std::string& reason : tier.reasons) report.reasons.push_back(name + ": " + reason);
  }
  if (down == tiers.size()) report.health = Health::kDown;
  // The tiers hold copies of each other, so that the fullest one stands for all of them; L1 is
  // ahead of it if stores are written back.
  const Report& home = home_of(tiers);
  report.keys = std::max(home.keys, stats.columns);
  report.bytes_used = home.bytes_used + stats.capacity_bytes - stats.free_bytes;
  report.capacity_bytes = is_unbounded(home) ? 0 : home.capacity_bytes + stats.capacity_bytes;
  report.evictions = home.evictions;
  report.properties = {{"write", options_.write == Write::kThrough ? "through" : "back"},
                       {"policy", options_.policy}};
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    for (const auto& [name, text] : tiers[i].properties) {
      report.properties.emplace_back("tier" + std::to_string(i + 1) + "_" + name, text);
    }
  }
  append_counters(report, stats);
}

void TieredConnector::append_counters(Report& report, const cache::EngineStats& stats) const {
  const L1Counters& l1 = machine_.l1_counters();
  std::vector<Counter>& counters = report.counters;
  counters = {{"l1_hits_total", value(l1.hits)},
              {"l1_bytes_loaded_total", value(l1.bytes_loaded)},
              {"l1_stores_total", value(l1.stores)},
              {"l1_stores_bypassed_total", value(l1.stores_bypassed)},
              {"l1_evictions_total", stats.totals.columns_evicted},
              {"l1_promoted_total", stats.totals.cells_promoted},
              {"l1_prefetched_total", value(l1.prefetched)},
              {"l1_pins_refused_total", stats.totals.pledges_refused},
              {"l1_pinned_keys", stats.columns_pledged},
              {"l1_pinned_bytes", stats.pledged_bytes},
              {"l1_keys", stats.columns},
              {"l1_bytes_used", stats.capacity_bytes - stats.free_bytes},
              {"l1_capacity_bytes", stats.capacity_bytes},
              {"values_unwritten", stats.cells_wanted},
              {"values_given_up_total", stats.totals.l2_store_failed}};
  std::size_t number = 0;
  for (const auto& tier : machine_.tiers()) {
    const TierCounters& of_tier = tier->counters();
    const std::string prefix = "tier" + std::to_string(++number) + "_";
    counters.push_back({prefix + "hits_total", value(of_tier.hits)});
    counters.push_back({prefix + "misses_total", value(of_tier.misses)});
    counters.push_back({prefix + "load_failures_total", value(of_tier.load_failures)});
    counters.push_back({prefix + "bytes_loaded_total", value(of_tier.bytes_loaded)});
    counters.push_back({prefix + "stores_total", value(of_tier.stores)});
    counters.push_back({prefix + "store_failures_total", value(of_tier.store_failures)});
    counters.push_back({prefix + "bytes_stored_total", value(of_tier.bytes_stored)});
  }
}

}  // namespace larder::tiered
