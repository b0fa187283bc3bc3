#include "larder/server/status_json.h"

#include <nlohmann/json.hpp>
#include <string>

#include "larder/base/version.h"
#include "larder/server/admin_access.h"
#include "larder/server/attach_command.h"
#include "larder/server/config_json.h"
#include "larder/server/status_details_json.h"

namespace larder::server {
namespace {

using json = nlohmann::ordered_json;

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

const char* name_of(cache::HugePages pages) {
  switch (pages) {
    case cache::HugePages::kOff:
      return "off";
    case cache::HugePages::kRefused:
      return "refused";
    case cache::HugePages::kAllowed:
      return "allowed";
  }
  return "";
}

json l1_manager(const ServerStatus& status, bool is_healthy) {
  const cache::EngineStats& engine = status.engine;
  const std::uint64_t used = engine.capacity_bytes - engine.free_bytes;
  const double ratio = engine.capacity_bytes == 0
                           ? 0.0
                           : static_cast<double>(used) / static_cast<double>(engine.capacity_bytes);
  return {{"is_healthy", is_healthy},
          {"total_object_count", engine.columns},
          {"write_locked_count", engine.writes_open},
          {"read_locked_count", engine.reads_open},
          {"memory_used_bytes", used},
          {"memory_total_bytes", engine.capacity_bytes},
          {"memory_configured_bytes", engine.capacity_bytes},
          {"capacity_bytes_by_backend", {{"dram", engine.capacity_bytes}}},
          {"memory_usage_ratio", ratio}};
}

json eviction_controller(const ServerOptions& options, bool is_healthy) {
  json out = {{"is_healthy", is_healthy}, {"thread_alive", is_healthy}};
  out.update(eviction_json(options.engine));
  return out;
}

json store_controller(const ServerStatus& status, bool is_healthy) {
  return {{"is_healthy", is_healthy},
          {"thread_alive", is_healthy},
          {"pending_keys_count", status.engine.cells_wanted},
          {"in_flight_task_count", status.engine.l2_batches},
          {"num_l2_adapters", status.tiers.size()},
          {"num_active_adapters", status.tiers.size()},
          {"num_draining_adapters", 0}};
}

json prefetch_controller(const ServerStatus& status, bool is_healthy) {
  return {{"is_healthy", is_healthy},
          {"thread_alive", is_healthy},
          {"pending_queue_size", status.engine.lookups_waiting},
          {"in_flight_request_count", status.engine.lookups_running},
          {"num_l2_adapters", status.tiers.size()},
          {"num_active_adapters", status.tiers.size()},
          {"num_draining_adapters", 0}};
}

json l2_adapter(const TierStatus& tier) {
  const Report& report = tier.report;
  return {{"is_healthy", report.health != Health::kDown},
          {"type", tier.type},
          {"backend", report.type},
          {"base_path", report.where},
          {"spec", tier.spec},
          {"health", name_of(report.health)},
          {"reasons", report.reasons},
          {"stored_object_count", report.keys},
          {"max_capacity_bytes", report.capacity_bytes},
          {"current_size_bytes", report.bytes_used}};
}

json storage_manager(const ServerStatus& status, const ServerOptions& options, bool is_healthy) {
  const json l1 = l1_manager(status, is_healthy);
  const json store = store_controller(status, is_healthy);
  const json eviction = eviction_controller(options, is_healthy);
  json adapters = json::array();
  for (const TierStatus& tier : status.tiers) adapters.push_back(l2_adapter(tier));
  return {{"is_healthy", is_healthy},
          {"l1_managers", {{"_default", l1}}},
          {"l1_manager", l1},
          {"store_controllers", {{"_default", store}}},
          {"store_controller", store},
          {"l1_eviction_controllers", {{"_default", eviction}}},
          {"l1_eviction_controller", eviction},
          {"prefetch_controller", prefetch_controller(status, is_healthy)},
          {"l2_adapters", adapters},
          {"num_l2_adapters", status.tiers.size()},
          {"l1_usage", {l1["memory_used_bytes"], l1["memory_total_bytes"]}},
          {"l1_capacity_bytes_by_backend", l1["capacity_bytes_by_backend"]}};
}

/// LMCache's SDK sizes its own buffers by these: blocks of keys and values, or of one latent.
json kernel_group(const InstanceStatus& instance, std::size_t number) {
  const GroupStatus& group = instance.groups[number];
  const std::string block = std::to_string(instance.block_tokens);
  const std::string hidden = std::to_string(group.hidden);
  const bool has_values = group.planes == 2;
  return {
      {"kernel_group_idx", number},
      {"engine_group_idx", number},
      {"object_group_idx", number},
      {"num_layers", group.num_layers},
      {"tokens_per_block", instance.block_tokens},
      {"slots_per_block", instance.block_tokens},
      {"dtype", group.dtype},
      {"is_mla", !has_values},
      {"engine_kv_format", has_values ? "NL_X_TWO_NB_BS_NH_HS" : "NL_X_NB_BS_HS"},
      {"engine_kv_concrete_shape", std::to_string(group.num_layers) +
                                       (has_values ? " x [2, 1, " + block + ", 1, " + hidden + "]"
                                                   : " x [1, " + block + ", " + hidden + "]")}};
}

json kv_cache_layout(const InstanceStatus& instance, std::uint32_t chunk_tokens) {
  json groups = json::array();
  for (std::size_t i = 0; i < instance.groups.size(); ++i) {
    groups.push_back(kernel_group(instance, i));
  }
  const std::uint64_t token_bytes = chunk_tokens == 0 ? 0 : instance.chunk_bytes / chunk_tokens;
  return {{"num_layers", instance.num_layers},
          {"cache_size_per_token", token_bytes},
          {"kernel_groups", std::move(groups)}};
}

void put_instances(json& out, const ServerStatus& status) {
  json contexts = json::object();
  json engine_driven = json::object();
  json ids = json::array();
  json driven_ids = json::array();
  for (const InstanceStatus& instance : status.instances) {
    contexts[instance.id] = {{"model_name", instance.model},
                             {"world_size", instance.world_size},
                             {"kv_cache_layout", kv_cache_layout(instance, status.chunk_tokens)}};
    if (!instance.is_driven)
      engine_driven[instance.id] = {{"model_name", instance.model},
                                    {"world_size", instance.world_size},
                                    {"block_size", instance.block_tokens},
                                    {"use_mla", instance.is_mla},
                                    {"silent_seconds", seconds(instance.silent_ns)}};
    // A number, as in LMCache; as text where JSON's readers could not hold it.
    const json number = json::parse(instance.id, nullptr, false);
    json& list = instance.is_driven ? driven_ids : ids;
    list.push_back(number.is_number_integer() ? number : json(instance.id));
  }
  out["registered_gpu_ids"] = std::move(driven_ids);
  out["cache_context_meta"] = std::move(contexts);
  out["registered_non_cuda_instance_ids"] = std::move(ids);
  out["non_cuda_context_meta"] = std::move(engine_driven);
}

json misses(const std::array<std::uint64_t, cache::kMisses>& missed) {
  json out = json::object();
  for (std::size_t i = 0; i < cache::kMisses; ++i) out[cache::kMissNames[i]] = missed[i];
  return out;
}

/// Lookups by window, in chunks and in tokens.
json hit_rates(const ServerStatus& status) {
  const auto of = [chunk = status.chunk_tokens](const WatchedTotals& totals) -> json {
    return {{"l1", totals.l1_rate()},
            {"l2", totals.l2_rate()},
            {"asked", totals.asked},
            {"missed", misses(totals.missed)},
            {"asked_tokens", totals.asked * chunk},
            {"hit_l1_tokens", totals.hit_l1 * chunk},
            {"hit_l2_tokens", totals.hit_l2 * chunk}};
  };
  return {{"1m", of(status.last_minute)},
          {"5m", of(status.last_5_minutes)},
          {"15m", of(status.last_15_minutes)},
          {"all", of(WatchedTotals::of(status.engine.totals, status.replies_dropped))}};
}

json kv_events(const KvEventStatus& events) {
  return {{"enabled", events.is_enabled},
          {"incarnation", events.incarnation},
          {"log_depth", events.events},
          {"log_capacity", events.events_max},
          {"next_seq", events.last + 1},
          {"lost_markers", 0},  // No event is lost before it is in the log.
          {"unbound_stores", events.stored_unknown},
          {"subscribers", events.streams}};
}

json limit_bytes(std::uint64_t limit) {
  return limit == kNever ? json(nullptr) : json(limit);
}

json salts(const ServerStatus& status) {
  json list = json::array();
  for (const SaltStatus& salt : status.salts) {
    const cache::SaltStats& stats = salt.stats;
    json l2_bytes = json::array();
    for (std::size_t tier = 0; tier < status.tiers.size() && tier < cache::kTiersMax; ++tier) {
      l2_bytes.push_back(stats.l2_bytes.at(tier));
    }
    list.push_back({{"salt", salt.salt},
                    {"l1_bytes", stats.l1_bytes},
                    {"l1_chunks", stats.columns},
                    {"limit_bytes", limit_bytes(stats.quota.limit_bytes)},
                    {"guarantee_bytes", stats.quota.guarantee_bytes},
                    {"over_limit", stats.refused},
                    {"l2_bytes", std::move(l2_bytes)},
                    {"l2_limit_bytes", limit_bytes(stats.quota.tier_limit_bytes)},
                    {"l2_over_limit", stats.l2_refused}});
  }
  return list;
}

json own(const ServerStatus& status, const ServerOptions& options, bool is_healthy) {
  const cache::EngineStats& engine = status.engine;
  const ServiceTotals& totals = status.totals;
  return {{"version", version()},
          {"uptime_seconds", seconds(status.now_ns - status.started_ns)},
          {"is_draining", status.is_draining},
          {"health", health_json(status, is_healthy)},
          {"attach_command", attach_command(options)},
          {"admin_access", admin_access_name(options)},
          {"connections", status.connections},
          {"connections_shut", status.connections_shut},
          {"replies_dropped", status.replies_dropped},
          {"keys_waiting", status.keys_waiting},
          {"messages_dropped", totals.dropped},
          {"unknown_operations", totals.unknown_operations},
          {"instances_registered", totals.instances_registered},
          {"instances_reaped", totals.instances_reaped},
          {"register_again", totals.register_again},
          {"stalls", totals.stalls},
          {"transfers_stale", totals.transfers_stale},
          {"requests_refused", totals.requests_refused},
          {"chunks",
           {{"asked", engine.totals.asked},
            {"hit_l1", engine.totals.hit_l1},
            {"hit_l2", engine.totals.hit_l2},
            {"missed", misses(engine.totals.missed)}}},
          {"hit_rate", hit_rates(status)},
          {"l1_bytes",
           {{"free", engine.free_bytes},
            {"writing", engine.writing_bytes},
            {"loading", engine.loading_bytes},
            {"resident", engine.resident_bytes},
            {"locked", engine.locked_bytes},
            {"orphan", engine.orphan_bytes},
            {"quarantine", engine.quarantine_bytes},
            {"wanted", engine.wanted_bytes}}},
          {"l1_memory",
           {{"committed", status.l1_memory.committed_bytes},
            {"huge_pages", name_of(status.l1_memory.huge_pages)}}},
          {"l2_stores",
           {{"done", engine.totals.l2_store_done},
            {"failed", engine.totals.l2_store_failed},
            {"lost", engine.totals.l2_store_lost}}},
          {"salts", salts(status)},
          {"hash_memory",
           {{"bytes", status.hash_memory_bytes},
            {"chunks_found", status.hash_chunks_found},
            {"chunks_absent", status.hash_chunks_absent}}},
          {"lookups",
           {{"total", engine.totals.lookups},
            {"running", engine.lookups_running},
            {"waiting", engine.lookups_waiting},
            {"late", engine.totals.lookups_late}}},
          {"evictions", evictions_json(status)},
          {"what_if", what_if_json(status)},
          {"tiers", tiers_json(status)},
          {"workers", workers_json(status)},
          {"lookups_by_salt", lookups_by_salt_json(status)}};
}

}  // namespace

json status_json(const ServerStatus& status, const ServerOptions& options, bool is_healthy) {
  json out = {{"is_healthy", is_healthy},
              {"engine_type", "MPCacheServer"},
              {"chunk_size", status.chunk_tokens},
              {"hash_algorithm", "blake3"},
              {"active_sessions", status.engine.sessions},
              {"storage_manager", storage_manager(status, options, is_healthy)},
              {"active_prefetch_jobs", status.engine.lookups_running},
              {"active_p2p_lookup_jobs", 0},
              {"p2p_enabled", false},
              {"worker_liveness",
               {{"enabled", options.worker_reap_ns != 0},
                {"reap_timeout_seconds", seconds(options.worker_reap_ns)},
                {"registration_grace_seconds", seconds(options.worker_grace_ns)},
                {"tracked_instances", status.instances.size()}}},
              {"kv_events", kv_events(status.kv_events)},
              {"larder", own(status, options, is_healthy)}};
  put_instances(out, status);
  return out;
}

json adapters_json(const ServerStatus& status) {
  json adapters = json::array();
  for (const TierStatus& tier : status.tiers) {
    adapters.push_back({{"index", adapters.size()},
                        {"type_name", tier.name},
                        {"tier", "l2"},
                        {"primary", adapters.empty()},
                        {"reconfigurable", false}});
  }
  return {{"adapters", std::move(adapters)}};
}

json degraded_json(const ServerStatus& status, bool is_healthy) {
  json reasons = json::array();
  const json health = health_json(status, is_healthy);
  for (const json& reason : health["reasons"]) {
    const std::string what = reason["what"];
    if (reason["because"].empty()) reasons.push_back(what);
    for (const json& because : reason["because"]) {
      reasons.push_back(what + ": " + because.get<std::string>());
    }
  }
  return {{"degraded", !reasons.empty()}, {"reasons", std::move(reasons)}};
}

}  // namespace larder::server
