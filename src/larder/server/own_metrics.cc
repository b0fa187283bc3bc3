// The metrics of a server that are larder's own.
#include <array>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/version.h"
#include "larder/server/metrics_table.h"
#include "larder/wire/operation.h"

namespace larder::server {
namespace {

using enum MetricKind;
using cache::EngineStats;
using cache::EngineTotals;
using cache::TierTotals;

// ---- Where values are.

template <std::uint64_t EngineTotals::* kMember>
constexpr auto kTotal = one<&ServerStatus::engine, &EngineStats::totals, kMember>;
template <std::uint64_t EngineStats::* kMember>
constexpr auto kNow = one<&ServerStatus::engine, kMember>;
template <std::uint64_t ServiceTotals::* kMember>
constexpr auto kService = one<&ServerStatus::totals, kMember>;

template <std::uint64_t KvEventStatus::* kMember>
constexpr auto kEvents = one<&ServerStatus::kv_events, kMember>;

/// For each operation that a client may send.
template <std::array<std::uint64_t, 128> ServiceTotals::* kMember>
void by_operation(const MetricsView& view, Samples& out) {
  for (const wire::OperationInfo& info : wire::operations()) {
    out.add((view.status.totals.*kMember).at(static_cast<std::size_t>(info.operation)),
            prometheus_label("operation", info.name));
  }
}

template <std::uint64_t SpaceSample::* kMember>
void by_space(const MetricsView& view, Samples& out) {
  for (const SpaceSample& space : space_samples(view.status)) {
    out.add(space.*kMember, space.labels);
  }
}

void hit_tokens(const MetricsView& view, Samples& out) {
  for (const SpaceSample& space : space_samples(view.status)) {
    out.add(space.l1_tokens, space.labels + R"(,source="l1")");
    out.add(space.l2_tokens, space.labels + R"(,source="l2")");
  }
}

template <std::uint64_t SaltSample::* kMember>
void by_salt(const MetricsView& view, Samples& out) {
  for (const SaltSample& salt : salt_samples(view.status)) out.add(salt.*kMember, salt.label);
}

void missed_tokens(const MetricsView& view, Samples& out) {
  for (std::size_t i = 0; i < cache::kMisses; ++i) {
    out.add(view.status.engine.totals.missed[i] * view.status.chunk_tokens,
            prometheus_label("reason", cache::kMissNames[i]));
  }
}

/// A number that is not known yet has no sample.
template <class Value>
void each_what_if(const MetricsView& view, Samples& out, Value value) {
  const auto add = [&](const char* tier, const WhatIf& what_if) {
    if (!what_if.is_empty()) value(what_if, prometheus_label("tier", tier), out);
  };
  add("l1", view.status.engine.what_if_l1);
  add("l2", view.status.engine.what_if_l2);
}

void what_if_hit_rates(const MetricsView& view, Samples& out) {
  each_what_if(view, out, [](const WhatIf& what_if, const std::string& tier, Samples& samples) {
    for (std::size_t i = 0; i < what_if.points.size(); ++i) {
      const auto& rate = what_if.points.at(i).hit_rate;
      if (rate) samples.add(*rate, tier + "," + prometheus_label("capacity", kWhatIfNames.at(i)));
    }
  });
}

void what_if_measured(const MetricsView& view, Samples& out) {
  each_what_if(view, out, [](const WhatIf& what_if, const std::string& tier, Samples& samples) {
    if (what_if.measured) samples.add(*what_if.measured, tier);
  });
}

void what_if_asks(const MetricsView& view, Samples& out) {
  each_what_if(view, out, [](const WhatIf& what_if, const std::string& tier, Samples& samples) {
    samples.add(what_if.asked, tier);
  });
}

void hit_rates(const MetricsView& view, Samples& out) {
  const ServerStatus& status = view.status;
  const WatchedTotals all = WatchedTotals::of(status.engine.totals, 0);
  for (const auto& [window, totals] : {std::pair{"1m", &status.last_minute},
                                       {"5m", &status.last_5_minutes},
                                       {"15m", &status.last_15_minutes},
                                       {"all", &all}}) {
    const std::string labels = prometheus_label("window", window);
    out.add(totals->l1_rate(), labels + R"(,source="l1")");
    out.add(totals->l2_rate(), labels + R"(,source="l2")");
  }
}

void l1_bytes(const MetricsView& view, Samples& out) {
  const EngineStats& engine = view.status.engine;
  for (const auto& [state, bytes] : {std::pair{"free", engine.free_bytes},
                                     {"writing", engine.writing_bytes},
                                     {"loading", engine.loading_bytes},
                                     {"resident", engine.resident_bytes},
                                     {"orphan", engine.orphan_bytes},
                                     {"quarantine", engine.quarantine_bytes}}) {
    out.add(bytes, prometheus_label("state", state));
  }
}

template <cache::AgeCounts EngineTotals::* kMember>
void ages(const MetricsView& view, Samples& out) {
  constexpr double kMsPerSecond = 1e3;
  out.add(view.status.engine.totals.*kMember, kMsPerSecond);
}

void failed_allocations(const MetricsView& view, Samples& out) {
  const EngineTotals& totals = view.status.engine.totals;
  out.add(totals.allocations_failed - totals.load_allocations_failed, R"(during="store")");
  out.add(totals.load_allocations_failed, R"(during="load")");
}

/// Calls it with each tier, its label and the engine's counts of it.
template <class Each>
void each_tier(const MetricsView& view, Each&& each) {
  const std::vector<TierStatus>& tiers = view.status.tiers;
  const std::vector<TierTotals>& totals = view.status.engine.totals.tiers;
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    each(tiers[i], tier_label("tier", tiers[i]), i < totals.size() ? totals[i] : TierTotals{});
  }
}

template <std::uint64_t TierTotals::* kMember>
void by_tier(const MetricsView& view, Samples& out) {
  each_tier(view, [&](const TierStatus&, const std::string& label, const TierTotals& totals) {
    out.add(totals.*kMember, label);
  });
}

void salt_l2_bytes(const MetricsView& view, Samples& out) {
  const std::vector<TierStatus>& tiers = view.status.tiers;
  for (const SaltSample& salt : salt_samples(view.status)) {
    for (std::size_t i = 0; i < tiers.size() && i < cache::kTiersMax; ++i) {
      out.add(salt.l2_bytes.at(i), salt.label + "," + tier_label("tier", tiers[i]));
    }
  }
}

void tier_info(const MetricsView& view, Samples& out) {
  each_tier(view, [&](const TierStatus& tier, const std::string& label, const TierTotals&) {
    out.add(1.0, label + "," + prometheus_label("spec", printable(tier.spec)) + "," +
                     prometheus_label("type", tier.report.type) + "," +
                     prometheus_label("where", printable(tier.report.where)));
  });
}

void tier_health(const MetricsView& view, Samples& out) {
  each_tier(view, [&](const TierStatus& tier, const std::string& label, const TierTotals&) {
    out.add(static_cast<double>(tier.report.health), label);
  });
}

void tier_in_flight(const MetricsView& view, Samples& out) {
  each_tier(view, [&](const TierStatus&, const std::string& label, const TierTotals& totals) {
    out.add(totals.loads - totals.loads_ended, label + R"(,kind="load")");
    out.add(totals.stores - totals.stores_ended, label + R"(,kind="store")");
  });
}

void tier_stores_failed(const MetricsView& view, Samples& out) {
  each_tier(view, [&](const TierStatus&, const std::string& label, const TierTotals& totals) {
    out.add(totals.store_failed, label + R"(,reason="failed")");
    out.add(totals.store_lost, label + R"(,reason="lost")");
    out.add(totals.store_over_quota, label + R"(,reason="over_quota")");
  });
}

// ---- The table, in the order in which people ask.

constexpr auto kRows = std::to_array<ServerMetric>({
    {"larder_server_info", kGauge, "Always 1; its labels say which server this is.",
     [](const MetricsView& view, Samples& out) {
       out.add(1.0, prometheus_label("instance_id", printable(view.instance_id)) + "," +
                        prometheus_label("version", version()));
     },
     "instance_id, version"},
    {"larder_server_uptime_seconds", kGauge, "Since the start.",
     [](const MetricsView& view, Samples& out) {
       out.add(static_cast<double>(view.status.now_ns - view.status.started_ns) / kNsPerSecond);
     }},
    {"larder_server_draining", kGauge, "1 once it was told to end.",
     one<&ServerStatus::is_draining>},
    {"larder_engine_stall_seconds", kGauge,
     "0 while the thread that answers clients runs. Otherwise for how long it has not answered; "
     "everything else here is as it was before that.",
     [](const MetricsView& view, Samples& out) {
       out.add(static_cast<double>(view.silent_ns) / kNsPerSecond);
     }},
    {"larder_engine_turn_seconds", kHistogram,
     "Turns of that thread, from waking up to waiting again. During a turn no other client is "
     "answered.",
     [](const MetricsView& view, Samples& out) { out.add(view.status.turns, kNsPerSecond); }},

    // ---- Lookups.
    {"larder_engine_lookups_total", kCounter, "Lookups that were answered.",
     kTotal<&EngineTotals::lookups>},
    {"larder_engine_lookup_tokens_total", kCounter,
     "Tokens that lookups asked for, in whole chunks. It is the sum of those that hit and those "
     "that missed.",
     by_space<&SpaceSample::asked_tokens>, "cache_salt, model_name"},
    {"larder_engine_hit_tokens_total", kCounter,
     "Of these, the ones that were there: in L1, or loaded from L2.", hit_tokens,
     "cache_salt, model_name, source"},
    {"larder_engine_missed_tokens_total", kCounter,
     "And the ones that were not. The first chunk that is missing gives the reason of all behind "
     "it.",
     missed_tokens, "reason"},
    {"larder_engine_hit_rate", kGauge,
     "Share of the tokens asked for that hit within the last minutes, for a look without "
     "Prometheus; 0 where none were asked for.",
     hit_rates, "window, source"},
    {"larder_engine_what_if_hit_rate", kGauge,
     "Share of the chunks asked for that would be found with another capacity, least recently used "
     "ones going first: estimated, of recent asks. l1: of what L1 finds, with another size of L1. "
     "l2: of what is found at all, with another capacity of the largest store behind L1. Left out "
     "where it is not known yet.",
     what_if_hit_rates, "tier, capacity"},
    {"larder_engine_what_if_measured_hit_rate", kGauge, "What was found, of the same asks.",
     what_if_measured, "tier"},
    {"larder_engine_what_if_asks", kGauge,
     "Chunks asked for that these rates are of; older ones count less.", what_if_asks, "tier"},
    {"larder_engine_lookups_to_l2_total", kCounter, "Lookups that L1 alone did not decide.",
     kTotal<&EngineTotals::lookups_to_l2>},
    {"larder_engine_lookups_trimmed_total", kCounter,
     "Lookups whose hit was cut, as L1 had no room to lock or load all of it.",
     kTotal<&EngineTotals::lookups_trimmed>},
    {"larder_engine_lookups_queued_total", kCounter,
     "Lookups that waited for room in L1 before their loads began.",
     kTotal<&EngineTotals::lookups_queued>},
    {"larder_engine_lookups_late_total", kCounter,
     "Lookups that were answered at --l2-load-timeout-seconds with what was there.",
     kTotal<&EngineTotals::lookups_late>},
    {"larder_engine_lookups_running", kGauge,
     "Lookups that ask L2 or load from it, those that wait for room included.",
     kNow<&EngineStats::lookups_running>},
    {"larder_engine_lookups_waiting", kGauge, "Of these, the ones that wait for room.",
     kNow<&EngineStats::lookups_waiting>},

    // ---- L1.
    {"larder_engine_l1_capacity_bytes", kGauge, "Size of L1.", kNow<&EngineStats::capacity_bytes>},
    {"larder_engine_l1_bytes", kGauge,
     "L1 by what it is used for; the sum is the capacity. orphan: still with a store or worker, "
     "of no use for lookups. quarantine: of a worker that was silent and may still write there.",
     l1_bytes, "state"},
    {"larder_engine_l1_committed_bytes", kGauge,
     "Of L1, what the server has from the system: --l1-init-size-gb ahead of what it uses.",
     one<&ServerStatus::l1_memory, &cache::ArenaReport::committed_bytes>},
    {"larder_engine_l1_commits_awaited_total", kCounter,
     "Times that a store or load waited for pages of L1 from the system.",
     one<&ServerStatus::l1_memory, &cache::ArenaReport::inline_commits>},
    {"larder_engine_l1_commit_failures_total", kCounter,
     "Times that the system had no pages for L1, as /dev/shm was full.",
     one<&ServerStatus::l1_memory, &cache::ArenaReport::commit_failures>},
    {"larder_engine_locked_bytes", kGauge,
     "Of what is resident, the part that is locked for requests and cannot be evicted.",
     kNow<&EngineStats::locked_bytes>},
    {"larder_engine_wanted_bytes", kGauge, "Of what is resident, the part that L2 has not got yet.",
     kNow<&EngineStats::wanted_bytes>},
    {"larder_engine_wanted_objects", kGauge, "The same in objects: one chunk on one rank.",
     kNow<&EngineStats::cells_wanted>},
    {"larder_engine_chunks", kGauge, "Chunks that L1 knows, complete or not.",
     kNow<&EngineStats::columns>},
    {"larder_engine_chunks_evicted_total", kCounter, "Chunks that made room for others.",
     kTotal<&EngineTotals::columns_evicted>},
    {"larder_engine_objects_evicted_total", kCounter, "Their objects.",
     kTotal<&EngineTotals::cells_evicted>},
    {"larder_engine_bytes_evicted_total", kCounter, "Their bytes.",
     kTotal<&EngineTotals::bytes_evicted>},
    {"larder_engine_evicted_age_seconds", kHistogram, "Age of chunks when they are evicted.",
     ages<&EngineTotals::evicted_age>},
    {"larder_engine_evicted_idle_seconds", kHistogram,
     "Time from a chunk's last use to its eviction.", ages<&EngineTotals::evicted_idle>},
    {"larder_engine_evicted_gap_seconds", kHistogram,
     "Time from a chunk's eviction to its return, while larder remembers that it was evicted. "
     "Short ones ask for a larger L1.",
     ages<&EngineTotals::evicted_gap>},
    {"larder_engine_reuse_gap_seconds", kHistogram,
     "Time between two uses of a chunk; the first one is its store.",
     ages<&EngineTotals::reuse_gap>},
    {"larder_engine_objects_cleared_total", kCounter, "Objects that a clear removed.",
     kTotal<&EngineTotals::cells_cleared>},
    {"larder_engine_allocations_failed_total", kCounter,
     "Objects that found no room in L1, by what they were to be: stored by a worker, or loaded.",
     failed_allocations, "during"},
    {"larder_engine_allocations_fragmented_total", kCounter,
     "Of these, the ones for which enough was free, but not in one piece.",
     kTotal<&EngineTotals::failed_fragmentation>},
    {"larder_engine_allocations_over_quota_total", kCounter,
     "Of these, the ones whose salt had reached its limit.", kTotal<&EngineTotals::failed_quota>},

    // ---- Salts.
    {"larder_engine_salt_l1_bytes", kGauge,
     "Bytes of L1 that a salt has: written, loading or resident.", by_salt<&SaltSample::l1_bytes>,
     "cache_salt"},
    {"larder_engine_salt_l1_chunks", kGauge, "Chunks that it has there.",
     by_salt<&SaltSample::chunks>, "cache_salt"},
    {"larder_engine_salt_l1_limit_bytes", kGauge,
     "What it may have there: its quota, or all of L1 where it has none.",
     by_salt<&SaltSample::limit_bytes>, "cache_salt"},
    {"larder_engine_salt_l1_guarantee_bytes", kGauge,
     "Up to so much it loses nothing to other salts.", by_salt<&SaltSample::guarantee_bytes>,
     "cache_salt"},
    {"larder_engine_salt_over_limit_total", kCounter,
     "Objects that found no room in L1, as the salt had reached its limit.",
     by_salt<&SaltSample::refused>, "cache_salt"},
    {"larder_engine_salt_l2_bytes", kGauge,
     "Bytes that it has in a store behind L1, as far as larder knows: counted where the salt has a "
     "quota and some quota limits L2, else what was stored since the server's start.",
     salt_l2_bytes, "cache_salt, tier"},
    {"larder_engine_salt_l2_over_limit_total", kCounter,
     "Objects that were not stored there, as the salt had reached its limit.",
     by_salt<&SaltSample::l2_refused>, "cache_salt"},

    // ---- Requests and workers.
    {"larder_engine_sessions", kGauge, "Requests that hold a lookup's result or locks.",
     kNow<&EngineStats::sessions>},
    {"larder_engine_reads_open", kGauge, "Retrieves that a worker has begun and not committed.",
     kNow<&EngineStats::reads_open>},
    {"larder_engine_writes_open", kGauge, "Stores that a worker has begun and not committed.",
     kNow<&EngineStats::writes_open>},
    {"larder_engine_reads_total", kCounter, "Retrieves.", kTotal<&EngineTotals::reads>},
    {"larder_engine_reads_failed_total", kCounter,
     "Retrieves of what was not there (any more). The engine computes it again.",
     kTotal<&EngineTotals::reads_failed>},
    {"larder_engine_reads_repeated_total", kCounter, "Retrieves that were open already.",
     kTotal<&EngineTotals::reads_repeated>},
    {"larder_engine_objects_read_total", kCounter, "Objects that workers were given to read.",
     kTotal<&EngineTotals::cells_read>},
    {"larder_engine_read_bytes_per_second", kHistogram,
     "Bytes a second of retrieves, from their begin to their commit.",
     [](const MetricsView& view, Samples& out) {
       out.add(view.status.engine.totals.read_rate, 1.0);
     }},
    {"larder_engine_writes_total", kCounter, "Stores that were given room.",
     kTotal<&EngineTotals::writes>},
    {"larder_engine_writes_refused_total", kCounter, "Stores that were given none.",
     kTotal<&EngineTotals::writes_refused>},
    {"larder_engine_writes_cut_total", kCounter, "Stores of which only the first chunks had room.",
     kTotal<&EngineTotals::writes_cut>},
    {"larder_engine_writes_expired_total", kCounter,
     "Stores that were not committed within --l1-write-ttl-seconds.",
     kTotal<&EngineTotals::writes_expired>},
    {"larder_engine_write_bytes_per_second", kHistogram,
     "Bytes a second of stores, from their begin to their commit.",
     [](const MetricsView& view, Samples& out) {
       out.add(view.status.engine.totals.write_rate, 1.0);
     }},
    {"larder_engine_commits_refused_total", kCounter,
     "Stores that were answered false at their commit: they had been given up.",
     kTotal<&EngineTotals::commits_refused>},
    {"larder_engine_commits_late_total", kCounter,
     "Stores that were committed after their time and kept nevertheless.",
     kTotal<&EngineTotals::commits_late>},
    {"larder_engine_objects_stored_total", kCounter, "Objects that workers stored.",
     kTotal<&EngineTotals::cells_stored>},
    {"larder_engine_objects_dropped_total", kCounter,
     "Objects that were stored and of no use: there already, or removed meanwhile.",
     kTotal<&EngineTotals::cells_dropped>},
    {"larder_engine_locks_expired_total", kCounter,
     "Requests that lost their locks to --l1-read-ttl-seconds or --session-ttl-seconds.",
     kTotal<&EngineTotals::locks_expired>},
    {"larder_engine_locks_voided_total", kCounter, "Locks that a forced clear or a delete ended.",
     kTotal<&EngineTotals::locks_voided>},
    {"larder_engine_second_releases_total", kCounter, "Locks that were given back twice.",
     kTotal<&EngineTotals::second_releases>},
    {"larder_engine_ambiguous_requests_total", kCounter,
     "Calls with a request id that requests of two connections have.",
     kTotal<&EngineTotals::ambiguous_requests>},

    // ---- L2.
    {"larder_server_tier_info", kGauge,
     "Always 1; for each store behind L1 the labels that its own metrics have, too.", tier_info,
     "tier, spec, type, where"},
    {"larder_server_tier_health", kGauge, "0 healthy, 1 degraded, 2 down.", tier_health, "tier"},
    {"larder_engine_tier_loads_total", kCounter, "Batches of loads that the store accepted.",
     by_tier<&TierTotals::loads>, "tier"},
    {"larder_engine_tier_load_objects_total", kCounter, "The objects in them.",
     by_tier<&TierTotals::load_cells>, "tier"},
    {"larder_engine_tier_stores_total", kCounter, "Batches of stores that it accepted.",
     by_tier<&TierTotals::stores>, "tier"},
    {"larder_engine_tier_store_objects_total", kCounter, "The objects in them, at each try.",
     by_tier<&TierTotals::store_cells>, "tier"},
    {"larder_engine_tier_objects_stored_total", kCounter,
     "Objects that it has got, or had already.", by_tier<&TierTotals::cells_stored>, "tier"},
    {"larder_engine_tier_stores_failed_total", kCounter,
     "Objects that it was to get and does not have. failed: given up after three failures. lost: "
     "evicted from L1 before their turn came. over_quota: the limit of their salt.",
     tier_stores_failed, "tier, reason"},
    {"larder_engine_tier_batches_in_flight", kGauge, "Batches that it has not answered.",
     tier_in_flight, "tier, kind"},
    {"larder_engine_tier_load_bytes_per_second", kHistogram,
     "Bytes a second of batches of loads, time in queues included.",
     [](const MetricsView& view, Samples& out) {
       each_tier(view, [&](const TierStatus&, const std::string& label, const TierTotals& totals) {
         out.add(totals.load_rate, 1.0, label);
       });
     },
     "tier"},
    {"larder_engine_tier_store_bytes_per_second", kHistogram, "The same of batches of stores.",
     [](const MetricsView& view, Samples& out) {
       each_tier(view, [&](const TierStatus&, const std::string& label, const TierTotals& totals) {
         out.add(totals.store_rate, 1.0, label);
       });
     },
     "tier"},
    {"larder_engine_keys_asked_total", kCounter,
     "Keys that a store was asked for, not from memory.", kTotal<&EngineTotals::exists_keys>},
    {"larder_engine_keys_probed_total", kCounter, "Keys whose store answered from memory.",
     kTotal<&EngineTotals::probed_keys>},
    {"larder_engine_objects_loaded_total", kCounter, "Objects that were loaded from L2.",
     kTotal<&EngineTotals::cells_loaded>},
    {"larder_engine_bytes_loaded_total", kCounter, "Their bytes.",
     kTotal<&EngineTotals::bytes_loaded>},
    {"larder_engine_loads_failed_total", kCounter,
     "Objects whose load failed, at each store that was tried.",
     kTotal<&EngineTotals::cells_load_failed>},
    {"larder_engine_loads_joined_total", kCounter,
     "Objects that a lookup waited for while another one loaded them.",
     kTotal<&EngineTotals::cells_load_joined>},
    {"larder_engine_objects_promoted_total", kCounter,
     "Loaded objects that stay in L1 (--l2-prefetch-policy).",
     kTotal<&EngineTotals::cells_promoted>},
    {"larder_engine_touches_total", kCounter,
     "Objects of which a store was told that L1 has served them.",
     kTotal<&EngineTotals::l2_touches>},
    {"larder_engine_stores_failed_total", kCounter, "Stores that were given up, of all stores.",
     kTotal<&EngineTotals::l2_store_failed>},
    {"larder_engine_stores_lost_total", kCounter,
     "Objects that left L1 while some store wanted them: L2 is slower than what is stored.",
     kTotal<&EngineTotals::l2_store_lost>},

    // ---- The protocol.
    {"larder_server_connections", kGauge, "Connections that are open.",
     one<&ServerStatus::connections>},
    {"larder_server_connections_shut_total", kCounter,
     "Connections that were closed, as they sent messages without an end.",
     one<&ServerStatus::connections_shut>},
    {"larder_server_instances", kGauge, "Workers that are registered.",
     [](const MetricsView& view, Samples& out) { out.add(view.status.instances.size()); }},
    {"larder_server_instances_registered_total", kCounter, "Registrations.",
     kService<&ServiceTotals::instances_registered>},
    {"larder_server_instances_reaped_total", kCounter,
     "Workers that were forgotten for their silence.", kService<&ServiceTotals::instances_reaped>},
    {"larder_server_register_again_total", kCounter,
     "Heartbeats that were answered with a call to register again.",
     kService<&ServiceTotals::register_again>},
    {"larder_server_requests_total", kCounter, "Requests by operation.",
     by_operation<&ServiceTotals::requests>, "operation"},
    {"larder_server_failures_total", kCounter, "Of these, the ones that were answered as failed.",
     by_operation<&ServiceTotals::failures>, "operation"},
    {"larder_server_requests_waiting", kGauge, "Requests whose tokens are not hashed yet.",
     one<&ServerStatus::keys_waiting>},
    {"larder_server_requests_refused_total", kCounter,
     "Requests that came after the end had begun.", kService<&ServiceTotals::requests_refused>},
    {"larder_server_unknown_operations_total", kCounter, "Requests with an unknown operation.",
     kService<&ServiceTotals::unknown_operations>},
    {"larder_server_messages_dropped_total", kCounter,
     "Messages that are no requests, and cannot be answered.", kService<&ServiceTotals::dropped>},
    {"larder_server_replies_dropped_total", kCounter,
     "Replies that could not be sent: their clients had gone or do not read.",
     one<&ServerStatus::replies_dropped>},
    {"larder_server_stalls_total", kCounter,
     "Times that the server itself did not run, so that waiting transfers were refused.",
     kService<&ServiceTotals::stalls>},
    {"larder_server_transfers_stale_total", kCounter,
     "Transfers that were refused, as they had waited for too long to be begun.",
     kService<&ServiceTotals::transfers_stale>},

    // ---- KV events.
    {"larder_server_kv_events_total", kCounter, "Changes of L1 that the log of KV events got.",
     kEvents<&KvEventStatus::last>},
    {"larder_server_kv_events_unknown_total", kCounter,
     "Of these, stored chunks that were told without their tokens.",
     kEvents<&KvEventStatus::stored_unknown>},
    {"larder_server_kv_events_kept", kGauge, "Events that the log has now.",
     kEvents<&KvEventStatus::events>},
    {"larder_server_kv_event_streams", kGauge, "Clients that follow the log.",
     kEvents<&KvEventStatus::streams>},

    // ---- Hashing.
    {"larder_server_hash_memory_bytes", kGauge, "Memory of the prompts that were hashed before.",
     one<&ServerStatus::hash_memory_bytes>},
    {"larder_server_hash_chunks_found_total", kCounter,
     "Chunks of prompts whose hash was known already.", one<&ServerStatus::hash_chunks_found>},
    {"larder_server_hash_chunks_absent_total", kCounter, "Chunks that had to be hashed.",
     one<&ServerStatus::hash_chunks_absent>},
});

}  // namespace

std::span<const ServerMetric> own_metrics() noexcept {
  return kRows;
}

}  // namespace larder::server
