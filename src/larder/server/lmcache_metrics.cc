// The metrics of LMCache's server that its Grafana dashboard reads (0.5.6 and later), with larder's
// number for each.
#include <algorithm>
#include <array>

#include "larder/server/metrics_table.h"

namespace larder::server {
namespace {

using enum MetricKind;
using cache::EngineStats;
using cache::EngineTotals;
using cache::Miss;
using cache::TierTotals;

constexpr std::string_view kL1Tag = R"(l1_tag="_default")";
constexpr std::string_view kL1Memory = R"(backend="dram",l1_tag="_default")";
constexpr std::string_view kDevice = R"(device="cpu")";
constexpr double kBytesPerGigabyte = 1e9;
constexpr double kMsPerSecond = 1e3;

const EngineTotals& totals_of(const MetricsView& view) {
  return view.status.engine.totals;
}

template <std::uint64_t EngineTotals::* kMember>
constexpr auto kTotal = one<&ServerStatus::engine, &EngineStats::totals, kMember>;

std::uint64_t missed(const MetricsView& view, Miss reason) {
  return totals_of(view).missed[static_cast<std::size_t>(reason)];
}

/// The same of all tiers.
template <std::uint64_t TierTotals::* kMember>
void of_tiers(const MetricsView& view, Samples& out) {
  std::uint64_t sum = 0;
  for (const TierTotals& tier : totals_of(view).tiers) sum += tier.*kMember;
  out.add(sum);
}

template <class Each>
void each_tier(const MetricsView& view, Each&& each) {
  const std::vector<TierStatus>& tiers = view.status.tiers;
  const std::vector<TierTotals>& totals = totals_of(view).tiers;
  for (std::size_t i = 0; i < std::min(tiers.size(), totals.size()); ++i) {
    each(tier_label("l2_name", tiers[i]), tiers[i], totals[i]);
  }
}

template <auto kMember>
void by_tier(const MetricsView& view, Samples& out) {
  each_tier(view, [&](const std::string& label, const TierStatus&, const TierTotals& totals) {
    if constexpr (requires { out.add(totals.*kMember, kBytesPerGigabyte, label); }) {
      out.add(totals.*kMember, kBytesPerGigabyte, label);
    } else {
      out.add(totals.*kMember, label);
    }
  });
}

template <std::uint64_t TierTotals::* kBegun, std::uint64_t TierTotals::* kEnded>
void in_flight(const MetricsView& view, Samples& out) {
  each_tier(view, [&](const std::string& label, const TierStatus&, const TierTotals& totals) {
    out.add(totals.*kBegun - totals.*kEnded, label);
  });
}

template <std::uint64_t SpaceSample::*... kMembers>
void by_space(const MetricsView& view, Samples& out) {
  for (const SpaceSample& space : space_samples(view.status)) {
    out.add(((space.*kMembers) + ...), space.labels);
  }
}

/// Workers beyond the limit are counted together; otherwise a client could make the page longer and
/// longer.
void loaded_chunks(const MetricsView& view, Samples& out) {
  constexpr std::size_t kWorkersMax = 100;
  const std::vector<InstanceStatus>& instances = view.status.instances;
  std::uint64_t others = 0;
  for (std::size_t i = 0; i < instances.size(); ++i) {
    const InstanceStatus& instance = instances[i];
    if (i >= kWorkersMax) {
      others += instance.chunks_loaded;
      continue;
    }
    out.add(instance.chunks_loaded, client_label("model_name", instance.model) + "," +
                                        client_label("worker_id", instance.id));
  }
  if (!instances.empty() && instances.size() <= kWorkersMax) return;
  const std::string name = instances.empty() ? "" : kOtherSpaces;
  out.add(others, prometheus_label("model_name", name) + "," + prometheus_label("worker_id", name));
}

constexpr auto kRows = std::to_array<ServerMetric>({
    // ---- Lookups.
    {"lmcache_mp_lookup_requested_tokens_total", kCounter,
     "Tokens that lookups asked for, in whole chunks.", by_space<&SpaceSample::asked_tokens>,
     "cache_salt, model_name"},
    {"lmcache_mp_lookup_hit_tokens_total", kCounter, "Of these, the ones that hit.",
     by_space<&SpaceSample::l1_tokens, &SpaceSample::l2_tokens>, "cache_salt, model_name"},
    {"lmcache_mp_lookup_hit_l1_tokens_total", kCounter, "Of the hits, the ones in L1.",
     by_space<&SpaceSample::l1_tokens>, "cache_salt, model_name"},
    {"lmcache_mp_lookup_hit_l2_tokens_total", kCounter, "Of the hits, the ones from L2.",
     by_space<&SpaceSample::l2_tokens>, "cache_salt, model_name"},
    {"lmcache_mp_lookups_requests_total", kCounter, "Lookups that were answered.",
     by_space<&SpaceSample::lookups>, "cache_salt, model_name"},
    {"lmcache_mp_active_prefetch_jobs", kGauge, "Lookups that ask L2, load or wait for room.",
     one<&ServerStatus::engine, &EngineStats::lookups_running>},

    {"lmcache_mp_kv_events_log_depth", kGauge, "Events that the log of KV events has.",
     one<&ServerStatus::kv_events, &KvEventStatus::events>},

    // ---- L1. LMCache's chunks are objects here: one chunk on one rank.
    {"lmcache_mp_l1_memory_usage_bytes", kGauge, "Bytes of L1 that are not free.",
     [](const MetricsView& view, Samples& out) {
       out.add(view.status.engine.capacity_bytes - view.status.engine.free_bytes, kL1Memory);
     },
     "backend, l1_tag"},
    {"lmcache_mp_l1_usage_ratio", kGauge, "The same as a share of L1.",
     [](const MetricsView& view, Samples& out) {
       const EngineStats& engine = view.status.engine;
       const double capacity = std::max(static_cast<double>(engine.capacity_bytes), 1.0);
       out.add(static_cast<double>(engine.capacity_bytes - engine.free_bytes) / capacity,
               kL1Memory);
     },
     "backend, l1_tag"},
    {"lmcache_mp_l1_read_chunks_total", kCounter,
     "Objects that were read: by workers, and to be stored in L2.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).cells_read + totals_of(view).l2_store_submitted, kL1Tag);
     },
     "l1_tag"},
    {"lmcache_mp_l1_write_chunks_total", kCounter,
     "Objects that were written: by workers, and loaded from L2.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).cells_stored + totals_of(view).cells_loaded, kL1Tag);
     },
     "l1_tag"},
    {"lmcache_mp_l1_evicted_chunks_total", kCounter, "Objects that made room for others.",
     [](const MetricsView& view, Samples& out) { out.add(totals_of(view).cells_evicted, kL1Tag); },
     "l1_tag"},
    {"lmcache_mp_l1_eviction_loop_ticks_total", kCounter,
     "Turns of the cache engine. There is no loop of eviction: what needs room makes it.",
     kTotal<&EngineTotals::turns>},
    {"lmcache_mp_l1_eviction_loop_triggered_total", kCounter, "Of these, the ones that evicted.",
     kTotal<&EngineTotals::turns_evicting>},
    {"lmcache_mp_l1_allocation_failure_chunks_total", kCounter, "Objects that found no room in L1.",
     [](const MetricsView& view, Samples& out) {
       const std::uint64_t loads = totals_of(view).load_allocations_failed;
       out.add(totals_of(view).allocations_failed - loads, R"(during="l1_store")");
       out.add(loads, R"(during="l2_prefetch")");
     },
     "during"},
    {"lmcache_mp_l1_read_failure_chunks_total", kCounter,
     "Chunks of the retrieves that found something missing.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).chunks_read_failed, R"(during="l1_retrieve",reason="not_found")");
     },
     "during, reason"},
    {"lmcache_mp_l1_chunk_lifetime_seconds", kHistogram,
     "Age of chunks when they are evicted; of all of them, not of a sample.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).evicted_age, kMsPerSecond, kL1Tag);
     },
     "l1_tag"},
    {"lmcache_mp_l1_chunk_idle_before_evict_seconds", kHistogram,
     "Time from a chunk's last use to its eviction.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).evicted_idle, kMsPerSecond, kL1Tag);
     },
     "l1_tag"},
    {"lmcache_mp_l1_chunk_evict_reuse_gap_seconds", kHistogram,
     "Time from a chunk's eviction to its return, while larder remembers that it was evicted.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).evicted_gap, kMsPerSecond, kL1Tag);
     },
     "l1_tag"},
    {"lmcache_mp_l1_chunk_reuse_gap_seconds", kHistogram,
     "Time between two uses of a chunk; the first one is its store.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).reuse_gap, kMsPerSecond, kL1Tag);
     },
     "l1_tag"},
    {"lmcache_mp_real_reuse_gap_seconds", kHistogram,
     "The same. LMCache leaves out writes that follow a use; here they are no uses. Not by salt.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).reuse_gap, kMsPerSecond);
     }},

    // ---- Workers.
    {"lmcache_mp_num_submitted_stores_total", kCounter, "Stores that workers began.",
     [](const MetricsView& view, Samples& out) { out.add(totals_of(view).writes, kDevice); },
     "device"},
    {"lmcache_mp_num_finished_stores_total", kCounter, "Of these, the ones that have ended.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).writes - view.status.engine.writes_open, kDevice);
     },
     "device"},
    {"lmcache_mp_num_submitted_retrieves_total", kCounter, "Retrieves that workers began.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).reads - totals_of(view).reads_failed, kDevice);
     },
     "device"},
    {"lmcache_mp_num_finished_retrieves_total", kCounter, "Of these, the ones that have ended.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).reads - totals_of(view).reads_failed - view.status.engine.reads_open,
               kDevice);
     },
     "device"},
    {"lmcache_mp_num_chunks_loaded_total", kCounter,
     "Chunks that a worker has retrieved since it was registered.", loaded_chunks,
     "model_name, worker_id"},
    {"lmcache_mp_l0_l1_store_throughput_GB_per_second", kHistogram,
     "Of stores, from the worker's PREPARE to its COMMIT: the worker copies by itself.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).write_rate, kBytesPerGigabyte, kDevice);
     },
     "device"},
    {"lmcache_mp_l0_l1_load_throughput_GB_per_second", kHistogram, "Of retrieves, likewise.",
     [](const MetricsView& view, Samples& out) {
       out.add(totals_of(view).read_rate, kBytesPerGigabyte, kDevice);
     },
     "device"},

    // ---- L2.
    {"lmcache_mp_l2_usage_bytes", kGauge, "Bytes that a store holds.",
     [](const MetricsView& view, Samples& out) {
       each_tier(view, [&](const std::string& label, const TierStatus& tier, const TierTotals&) {
         out.add(tier.report.bytes_used, label);
       });
     },
     "l2_name"},
    {"lmcache_mp_l2_store_submitted_requests_total", kCounter, "Batches of stores.",
     of_tiers<&TierTotals::stores>},
    {"lmcache_mp_l2_store_submitted_objects_chunks_total", kCounter, "The objects in them.",
     of_tiers<&TierTotals::store_cells>},
    {"lmcache_mp_l2_store_completed_requests_total", kCounter, "Batches of stores that have ended.",
     by_tier<&TierTotals::stores_ended>, "l2_name"},
    {"lmcache_mp_l2_store_completed_objects_chunks_total", kCounter, "Objects that were stored.",
     of_tiers<&TierTotals::cells_stored>},
    {"lmcache_mp_l2_store_throughput_GB_per_second", kHistogram,
     "Of batches of stores, time in queues included.", by_tier<&TierTotals::store_rate>, "l2_name"},
    {"lmcache_mp_num_inflight_l2_stores", kGauge, "Batches of stores that have not ended.",
     in_flight<&TierTotals::stores, &TierTotals::stores_ended>, "l2_name"},
    {"lmcache_mp_l2_prefetch_lookup_requests_total", kCounter,
     "Lookups that L1 alone did not decide.", kTotal<&EngineTotals::lookups_to_l2>},
    {"lmcache_mp_l2_prefetch_lookup_objects_chunks_total", kCounter,
     "Objects that stores were asked for.",
     [](const MetricsView& view,
        Samples& out) { out.add(totals_of(view).exists_keys + totals_of(view).probed_keys); }},
    {"lmcache_mp_l2_prefetch_load_submitted_requests_total", kCounter, "Batches of loads.",
     of_tiers<&TierTotals::loads>},
    {"lmcache_mp_l2_prefetch_load_submitted_objects_chunks_total", kCounter, "The objects in them.",
     of_tiers<&TierTotals::load_cells>},
    {"lmcache_mp_l2_prefetch_load_completed_chunks_total", kCounter, "Objects that were loaded.",
     kTotal<&EngineTotals::cells_loaded>},
    {"lmcache_mp_l2_load_completed_requests_total", kCounter, "Batches of loads that have ended.",
     by_tier<&TierTotals::loads_ended>, "l2_name"},
    {"lmcache_mp_l2_load_throughput_GB_per_second", kHistogram,
     "Of batches of loads, time in queues included.", by_tier<&TierTotals::load_rate>, "l2_name"},
    {"lmcache_mp_num_inflight_l2_loads", kGauge, "Batches of loads that have not ended.",
     in_flight<&TierTotals::loads, &TierTotals::loads_ended>, "l2_name"},
    {"lmcache_mp_inflight_load_memory_usage_bytes", kGauge, "Bytes of L1 that loads write to.",
     one<&ServerStatus::engine, &EngineStats::loading_bytes>},
    {"lmcache_mp_l2_prefetch_failure_chunks_total", kCounter,
     "Chunks that a store has and that did not reach L1. l1_oom: no room. not_found: the load "
     "failed or was late, or the store did not answer.",
     [](const MetricsView& view, Samples& out) {
       out.add(missed(view, Miss::kTrimmed), R"(reason="l1_oom")");
       out.add(missed(view, Miss::kFailed) + missed(view, Miss::kLate) + missed(view, Miss::kDown),
               R"(reason="not_found")");
     },
     "reason"},
});

}  // namespace

std::span<const ServerMetric> lmcache_metrics() noexcept {
  return kRows;
}

}  // namespace larder::server
