#include "larder/server/lmcache_adapter.h"

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/server/json_watch.h"
#include "larder/server/valkey_adapter.h"

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kTextBytesMax = std::size_t{64} << 10;  ///< As a spec's.
constexpr std::string_view kPython = "python";
constexpr std::array<std::string_view, 5> kTierKeys{"load", "store", "min_hits", "fill", "touch"};

constexpr std::string_view kObjectStore =
    "larder has no connector for it; use redis://HOST:PORT, or fs:PATH on a file system that the "
    "servers share";
constexpr std::string_view kLocalDisk =
    "use log:PATH?capacity=SIZE, larder's own store, in a directory on that disk";
constexpr std::string_view kNixl =
    "larder does not go through NIXL; use log:PATH?capacity=SIZE on a disk of this machine, or "
    "fs:PATH on a shared file system";

constexpr std::array<std::pair<std::string_view, std::string_view>, 15> kInstead{{
    {"raw_block",
     "use log:PATH?capacity=SIZE, larder's own store, in a directory on a file system of that "
     "device"},
    {"dax", kLocalDisk},
    {"hf3fs", "use fs:PATH in a directory below 3FS's mount point"},
    {"mooncake_store", kObjectStore},
    {"aerospike", kObjectStore},
    {"bigtable", kObjectStore},
    {"s3", kObjectStore},
    {"hfbucket", kObjectStore},
    {"sagemaker-hyperpod", kObjectStore},
    {"wqs_store", kObjectStore},
    {"nixl_native", kNixl},
    {"nixl_store", kNixl},
    {"nixl_store_dynamic", kNixl},
    {"p2p",
     "larder does not move data between servers; give them one store that they share, as "
     "redis://HOST:PORT or fs:PATH on a shared file system"},
    {"disk", kLocalDisk},
}};

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShownBytes = 64;
  return "\"" + printable(text.substr(0, kShownBytes)) + "\"";
}

/// Keys that are given twice, and depth, are errors: Json itself would keep the last, and recurse.
SetupResult<Json> parse_object(std::string_view text) {
  if (text.size() > kTextBytesMax) return wrong("its JSON has more than 64 KiB");
  JsonWatch watch;
  Json json = Json::parse(text, std::ref(watch), false);
  if (watch.is_too_deep()) {
    return wrong("its JSON is nested more than " + std::to_string(JsonWatch::kDepthMax) + " deep");
  }
  if (json.is_discarded()) {
    // The spec's own reader says where; it knows not to show a password.
    const auto spec = Spec::parse(text);
    return spec ? wrong("its JSON cannot be read") : spec.error();
  }
  if (!watch.twice().empty()) return wrong(in_quotes(watch.twice()) + " is given twice");
  return json;
}

/// Takes the key out. Null: it was not there, or null.
Json take(Json& json, std::string_view key) {
  const auto found = json.find(key);
  if (found == json.end()) return nullptr;
  Json value = std::move(*found);
  json.erase(found);
  return value;
}

/// A value as a URL would have it.
SetupResult<std::string> text_of(std::string_view key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean() || value.is_number()) return value.dump();
  return wrong(in_quotes(key) + ": expected a text, a number, true or false");
}

SetupStatus take_eviction(Json& json, LmcacheAdapter& adapter) {
  Json eviction = take(json, "eviction");
  if (eviction.is_null()) return {};
  if (!eviction.is_object()) return wrong("\"eviction\": expected an object");
  const Json policy = take(eviction, "eviction_policy");
  static_cast<void>(take(eviction, "trigger_watermark"));
  static_cast<void>(take(eviction, "eviction_ratio"));
  if (!eviction.empty()) {
    return wrong("\"eviction\" has " + in_quotes(eviction.begin().key()) +
                 "; expected eviction_policy, trigger_watermark and eviction_ratio");
  }
  constexpr std::array<std::string_view, 4> kPolicies{"LRU", "ARC", "IsolatedLRU", "noop"};
  const std::string name = policy.is_string() ? policy.get<std::string>() : std::string{};
  if (std::ranges::find(kPolicies, name) == kPolicies.end()) {
    const std::string_view nearest = nearest_name(name, kPolicies);
    return wrong(
        "\"eviction\": eviction_policy must be LRU, ARC, IsolatedLRU or noop" +
        (nearest.empty() ? std::string{} : "; did you mean " + std::string{nearest} + "?"));
  }
  if (name == "noop") {
    adapter.notices.emplace_back(
        "\"eviction\" noop: a connector of larder evicts at its capacity, if it has one");
    return {};
  }
  if (name == "IsolatedLRU") {
    return wrong(
        "\"eviction\": a connector of larder evicts by its own order, which knows no cache_salt; "
        "leave the block out");
  }
  adapter.has_eviction = true;
  return {};
}

SetupStatus take_common(Json& json, LmcacheAdapter& adapter) {
  LARDER_TRY(take_eviction(json, adapter));
  const Json serde = take(json, "serde");
  if (!serde.is_null()) {
    return wrong(
        "\"serde\": larder stores values as the engine gives them, neither compressed nor "
        "encrypted; leave it out, and encrypt the disk or the connection (rediss:)");
  }
  const Json tag = take(json, "affinity_tag");
  if (!tag.is_null() && tag != "_default") {
    return wrong("\"affinity_tag\": there is one L1, which is called _default; leave it out");
  }
  const Json persists = take(json, "persist_enabled");
  if (persists == false) {
    adapter.notices.emplace_back("\"persist_enabled\" false: larder deletes no files at its end");
  }
  static_cast<void>(take(json, "shared"));
  return {};
}

bool has_row(const ConnectorType* type, std::string_view name) {
  return type != nullptr &&
         std::ranges::find(type->parameters, name, &Parameter::name) != type->parameters.end();
}

SetupStatus take_tier(Json& json, const ConnectorType* type, LmcacheAdapter& adapter) {
  for (const std::string_view key : kTierKeys) {
    if (has_row(type, key) || !json.contains(key)) continue;
    LARDER_ASSIGN(adapter.tier[std::string{key}], text_of(key, take(json, key)));
  }
  return {};
}

// ---- plugin, native_plugin ----------------------------------------------------------------------

struct PluginClass {
  std::string module;
  std::string name;
  Json parameters;
  bool is_larders() const {
    return (module == "larder.lmcache" || module.starts_with("larder.lmcache.")) &&
           (name == "Connector" || name == "L2Adapter");
  }
};

SetupResult<PluginClass> take_class(Json& json, const std::string& type, LmcacheAdapter& adapter) {
  const Json module = take(json, "module_path");
  const Json name = take(json, "class_name");
  if (!module.is_string() || !name.is_string()) {
    return wrong(type + ": \"module_path\" and \"class_name\" must name a class of Python");
  }
  Json parameters = take(json, "adapter_params");
  if (parameters.is_null()) parameters = Json::object();
  if (!parameters.is_object()) return wrong(type + ": \"adapter_params\": expected an object");
  if (!take(json, "max_capacity_gb").is_null()) {
    adapter.notices.emplace_back(
        "\"max_capacity_gb\" is not used: LMCache counts with it, and larder's connectors have "
        "their own capacity");
  }
  if (!take(json, "config_class_name").is_null()) {
    return wrong(type +
                 ": \"config_class_name\" names a class of LMCache's configuration, which larder "
                 "does not have; name a class that takes adapter_params as keyword arguments");
  }
  if (!json.empty()) {
    return wrong(type + ": " + in_quotes(json.begin().key()) +
                 " is not known; expected module_path, "
                 "class_name and adapter_params");
  }
  return PluginClass{.module = module.get<std::string>(),
                     .name = name.get<std::string>(),
                     .parameters = std::move(parameters)};
}

/// Parameters of larder's doors besides the connector's own.
SetupStatus take_door_parameters(Json& parameters, LmcacheAdapter& adapter) {
  const Json evict = take(parameters, "evict");
  if (!evict.is_null() && evict != "larder") {
    return wrong(
        "\"evict\": in larder's own server the connector evicts, by its capacity; leave it out");
  }
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kOthers{{
      {"load_timeout", "--l2-load-timeout-seconds is the server's"},
      {"lookup_timeout", "--l2-load-timeout-seconds is the server's"},
      {"store_timeout", "stores are made behind, and nothing waits for them"},
      {"lmcache_capacity_gb", "the connector has its own capacity"},
  }};
  for (const auto& [key, why] : kOthers) {
    if (take(parameters, key).is_null()) continue;
    adapter.notices.push_back("\"" + std::string{key} + "\" is not used: " + std::string{why});
  }
  return {};
}

/// The spec that larder's own door would open.
SetupResult<Spec> spec_of_larders(Json parameters, LmcacheAdapter& adapter) {
  LARDER_TRY(take_door_parameters(parameters, adapter));
  if (parameters.contains("type")) return Spec::parse(parameters.dump());
  const Json url = take(parameters, "url");
  if (!url.is_string()) {
    return wrong(
        "\"adapter_params\" must have a \"url\", as in {\"url\": "
        "\"log:/data/kv?capacity=500GiB\"}");
  }
  LARDER_ASSIGN(Spec spec, Spec::parse(url.get<std::string>()));
  for (const auto& [key, value] : parameters.items()) {
    if (spec.parameters().contains(key)) {
      return wrong(in_quotes(key) + " is given in \"url\" and beside it; leave one out");
    }
    LARDER_ASSIGN(std::string text, text_of(key, value));
    spec.set(key, std::move(text));
  }
  return spec;
}

/// In the form that python_registry.cc reads: the arguments keep their JSON types.
SetupResult<Spec> spec_of_python(const PluginClass& named, const Registry& registry) {
  if (registry.find(kPython) == nullptr) {
    return wrong(in_quotes(named.module + ":" + named.name) +
                 " is a class of Python, and the command larder has no interpreter; " +
                 std::string{kStartFromPython});
  }
  if (named.parameters.contains("type")) {
    return wrong("\"adapter_params\": no argument of a class can be called \"type\" here");
  }
  Json arguments = named.parameters;
  arguments["type"] = "arguments";
  Spec spec;
  spec.set_type(std::string{kPython});
  spec.set("factory", named.module + ":" + named.name);
  spec.set("name", std::string{kPython});
  spec.set("arguments", arguments.dump());
  return spec;
}

SetupStatus read_plugin(Json json, const std::string& type, const Registry& registry,
                        LmcacheAdapter& adapter) {
  LARDER_TRY(take_tier(json, nullptr, adapter));
  LARDER_ASSIGN(PluginClass named, take_class(json, type, adapter));
  adapter.is_python = !named.is_larders();
  if (adapter.is_python) {
    LARDER_ASSIGN(adapter.spec, spec_of_python(named, registry));
  } else {
    LARDER_ASSIGN(adapter.spec, spec_of_larders(std::move(named.parameters), adapter));
  }
  return {};
}

}  // namespace

std::span<const std::pair<std::string_view, std::string_view>> absent_types() noexcept {
  return kInstead;
}

std::string_view instead_of(std::string_view type) noexcept {
  const auto found = std::ranges::find(kInstead, type, &decltype(kInstead)::value_type::first);
  return found == kInstead.end() ? std::string_view{} : found->second;
}

void take_tier_parameters(Spec& spec, const ConnectorType* type,
                          std::map<std::string, std::string, std::less<>>& tier) {
  Spec rest;
  rest.set_type(spec.type());
  for (const auto& [name, value] : spec.parameters()) {
    const bool is_tiers =
        std::ranges::find(kTierKeys, name) != kTierKeys.end() && !has_row(type, name);
    if (is_tiers) {
      tier.emplace(name, value);
    } else {
      rest.set(name, value);
    }
  }
  spec = std::move(rest);
}

SetupResult<LmcacheAdapter> parse_lmcache_adapter(std::string_view text, const Registry& registry) {
  LARDER_ASSIGN(Json json, parse_object(text));
  if (!json.is_object() || !json.contains("type") || !json["type"].is_string()) {
    const auto spec = Spec::parse(text);  // Says what is missing.
    return spec ? wrong("expected an object with a \"type\"") : spec.error();
  }
  const std::string type = json["type"].get<std::string>();
  LmcacheAdapter adapter;
  if (const std::string_view instead = instead_of(type);
      !instead.empty() && registry.find(type) == nullptr) {
    return wrong("type " + in_quotes(type) + ": " + std::string{instead});
  }
  LARDER_TRY(take_common(json, adapter));
  if (type == "plugin" || type == "native_plugin") {
    json.erase("type");
    LARDER_TRY(read_plugin(std::move(json), type, registry, adapter));
    return adapter;
  }
  LARDER_TRY(take_tier(json, registry.find(type), adapter));
  LARDER_TRY(translate_valkey(json, adapter.notices));
  LARDER_ASSIGN(adapter.spec, Spec::parse(json.dump()));
  return adapter;
}

}  // namespace larder::server
