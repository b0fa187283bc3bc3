#include "larder/server/config_json.h"

#include <array>
#include <nlohmann/json.hpp>

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPoolPrefix = "lmcache_l1_pool_";
/// By TransferMode.
constexpr std::array<const char*, 3> kModes{"auto", "engine_driven", "lmcache_driven"};

double seconds(std::uint64_t duration_ns) {
  constexpr double kNsPerSecond = 1e9;
  return static_cast<double>(duration_ns) / kNsPerSecond;
}

/// LMCache's own spelling has no prefix.
std::string shm_name(const std::string& pool) {
  return pool.starts_with(kPoolPrefix) ? pool.substr(kPoolPrefix.size()) : pool;
}

/// In LMCache's spelling.
std::string policy_of(const cache::EngineOptions& engine) {
  const auto kind = cache::find_policy(engine.policy);
  return kind ? std::string{(*kind)->name} : engine.policy;
}

Json l1_manager(const ServerOptions& options, const std::string& pool) {
  return {{"memory_config",
           {{"size_in_bytes", options.l1_bytes},
            {"use_lazy", options.is_l1_lazy},
            {"init_size_in_bytes", options.l1_ahead_bytes},
            {"align_bytes", options.l1_align_bytes},
            {"shm_name", shm_name(pool)},
            {"use_hugepages", false},
            {"devdax_path", nullptr},
            {"devdax_size_in_bytes", 0}}},
          {"gds_l1_config", nullptr},
          {"write_ttl_seconds", seconds(options.engine.write_ttl_ns)},
          {"read_ttl_seconds", seconds(options.engine.read_ttl_ns)},
          {"tag", "_default"},
          {"eviction", eviction_json(options.engine)}};
}

std::string_view name_of(cache::Fill fill) {
  switch (fill) {
    case cache::Fill::kNever:
      return "never";
    case cache::Fill::kSecondHit:
      return "second_hit";
    case cache::Fill::kAlways:
      return "always";
  }
  return "";
}

std::string_view name_of(cache::Promote promote) {
  switch (promote) {
    case cache::Promote::kDefault:
      return "default";
    case cache::Promote::kRetain:
      return "retain";
    case cache::Promote::kSecondHit:
      return "second_hit";
  }
  return "";
}

std::string_view name_of(ObjectGroups groups) {
  switch (groups) {
    case ObjectGroups::kAuto:
      return "auto";
    case ObjectGroups::kTogether:
      return "together";
    case ObjectGroups::kApart:
      return "apart";
  }
  return "";
}

Json adapter(const L2Adapter& one) {
  return {{"type", one.spec.type()},
          {"spec", one.shown},
          {"load", one.options.load},
          {"store", one.options.store},
          {"min_hits", one.options.min_hits},
          {"fill", name_of(one.options.fill)},
          {"touch", one.options.touch},
          {"affinity_tag", "_default"},
          {"shared", false},
          {"eviction_config", nullptr},
          {"persist_config", "PersistConfig(persist_enabled=True)"},
          {"serde_config", nullptr}};
}

Json mp(const ServerOptions& options, const std::string& pool) {
  return {{"transport", "zmq"},
          {"host", options.host},
          {"port", options.port},
          {"chunk_size", options.chunk_tokens},
          {"max_workers", 1},
          {"max_gpu_workers", 1},
          {"max_cpu_workers", 1},
          {"hash_algorithm", "blake3"},
          {"engine_type", "default"},
          {"separate_object_groups", options.object_groups == ObjectGroups::kApart},
          {"enable_segmented_prefix", false},
          {"enable_dedup_content", false},
          {"enable_blend_reorder", false},
          {"supported_transfer_mode", kModes[static_cast<std::size_t>(options.transfer_mode)]},
          {"isolated_ipc", false},
          {"shm_name", shm_name(pool)},
          {"script_allowed_imports", Json::array()},
          {"run_script_api_enabled", false},
          {"instance_id", options.instance_id},
          {"worker_reap_timeout_seconds", seconds(options.worker_reap_ns)},
          {"session_ttl_seconds", seconds(options.engine.session_ttl_ns)},
          {"worker_registration_grace_seconds", seconds(options.worker_grace_ns)},
          {"enable", Json::array()},
          {"kv_event_log_size", options.kv_event_log_size},
          {"null_block_id", options.null_block_id},
          {"server_modules", Json::array()}};
}

Json storage_manager(const ServerOptions& options, const std::string& pool) {
  const Json l1 = l1_manager(options, pool);
  Json adapters = Json::array();
  for (const L2Adapter& one : options.l2_adapters) adapters.push_back(adapter(one));
  return {{"l1_manager_config", l1},
          {"eviction_config", eviction_json(options.engine)},
          {"l2_adapter_config", {{"adapters", adapters}}},
          {"store_policy", options.engine.skip_l1 ? "skip_l1" : "default"},
          {"prefetch_policy", name_of(options.engine.promote)},
          {"l1_manager_configs", Json::array({l1})}};
}

Json larders(const ServerOptions& options, const std::string& pool) {
  const std::uint64_t quota = options.engine.default_quota.limit_bytes;
  return {{"ipc_path", options.ipc_path},
          {"admin_socket", options.admin_socket},
          {"admin_open", options.is_admin_open},
          {"admin_token_file", options.admin_token_file},
          {"metrics_host", options.metrics_host},
          {"metrics_port", options.metrics_port ? Json(*options.metrics_port) : Json(nullptr)},
          {"lmcache_metrics", options.has_lmcache_metrics},
          {"pool", pool},
          {"object_groups", name_of(options.object_groups)},
          {"hash_memory_bytes", options.hash_memory_bytes},
          {"l2_load_timeout_seconds", seconds(options.engine.load_timeout_ns)},
          {"drain_seconds", seconds(options.drain_ns)},
          {"quota_default_bytes", quota == kNever ? Json(nullptr) : Json(quota)},
          {"quota_file", options.quota_file}};
}

}  // namespace

Json eviction_json(const cache::EngineOptions& engine) {
  return {{"eviction_policy", policy_of(engine)},
          {"trigger_watermark", engine.high_watermark},
          {"eviction_ratio", 1 - engine.low_watermark / engine.high_watermark}};
}

Json config_json(const ServerOptions& options, const std::string& pool) {
  Json json = {{"mp", mp(options, pool)},
               {"storage_manager", storage_manager(options, pool)},
               {"http", nullptr},
               {"larder", larders(options, pool)}};
  if (options.has_http) {
    json["http"] = {{"http_host", options.http_host}, {"http_port", options.http_port}};
  }
  return json;
}

}  // namespace larder::server
