#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <utility>

#include "larder/server/read_options.h"

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;
using Pair = std::pair<std::string_view, std::string_view>;

/// Its keys, by the options that they set.
constexpr std::array<Pair, 8> kKeys{{
    {"size_gb", "l1-size-gb"},
    {"align_bytes", "l1-align-bytes"},
    {"shm_name", "shm-name"},
    {"read_ttl_seconds", "l1-read-ttl-seconds"},
    {"write_ttl_seconds", "l1-write-ttl-seconds"},
    {"use_lazy", "l1-use-lazy"},
    {"init_size_gb", "l1-init-size-gb"},
    {"use_hugepages", "l1-use-hugepages"},
}};
constexpr std::array<Pair, 3> kEvictionKeys{{
    {"eviction_policy", "eviction-policy"},
    {"trigger_watermark", "eviction-trigger-watermark"},
    {"eviction_ratio", "eviction-ratio"},
}};

SetupError wrong(const Setting& setting, const std::string& text) {
  return SetupError{ErrorCode::kInvalidArgument, setting.where + ": " + text};
}

SetupStatus expand(const Setting& setting, const Json& json, std::span<const Pair> keys,
                   std::vector<Setting>& expanded) {
  for (const auto& [key, value] : json.items()) {
    const auto found = std::ranges::find(keys, key, &Pair::first);
    if (found == keys.end()) {
      return wrong(setting, "\"" + key +
                                "\" is not known; an L1 of type DRAM has tag, size_gb, "
                                "align_bytes, shm_name, eviction, read_ttl_seconds and "
                                "write_ttl_seconds");
    }
    if (!value.is_string() && !value.is_number() && !value.is_boolean()) {
      return wrong(setting, "\"" + key + "\": expected a text, a number, true or false");
    }
    std::string text = value.is_string() ? value.get_ref<const std::string&>() : value.dump();
    expanded.push_back({.row = find_option(found->second),
                        .values = {std::move(text)},
                        .source = setting.source,
                        .where = setting.where + ": " + key});
  }
  return {};
}

}  // namespace

SetupResult<std::vector<Setting>> expand_l1_manager(const Setting& setting) {
  if (setting.values.size() != 1) {
    return wrong(setting, "is given " + std::to_string(setting.values.size()) +
                              " times; larder has one L1, so give --l1-size-gb alone");
  }
  Json json = Json::parse(setting.values.front(), nullptr, false);
  if (!json.is_object()) {
    return wrong(setting, R"(expected a JSON object, as in {"type": "DRAM", "size_gb": 8})");
  }
  if (json.value("type", Json{}) != "DRAM") {
    return wrong(setting,
                 "larder's L1 is memory, \"type\": \"DRAM\"; name a disk as --l2-adapter "
                 "log:PATH?capacity=SIZE");
  }
  json.erase("type");
  json.erase("tag");  // There is one.
  const Json eviction = json.value("eviction", Json::object());
  json.erase("eviction");
  std::vector<Setting> expanded;
  LARDER_TRY(expand(setting, json, kKeys, expanded));
  if (!eviction.is_null()) LARDER_TRY(expand(setting, eviction, kEvictionKeys, expanded));
  return expanded;
}

}  // namespace larder::server
