#include "larder/server/valkey_adapter.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;

/// The parameter for each of LMCache's keys, and the suffix of its value.
struct Renamed {
  std::string_view from;
  std::string_view to;
  std::string_view suffix = {};
};

constexpr std::array<Renamed, 6> kRenamed{{
    {.from = "key_prefix", .to = "prefix", .suffix = "@"},
    {.from = "tls_enable", .to = "tls"},
    {.from = "database_id", .to = "database"},
    {.from = "request_timeout", .to = "timeout", .suffix = "s"},
    {.from = "connection_timeout", .to = "connect_timeout", .suffix = "s"},
    {.from = "ttl_seconds", .to = "ttl", .suffix = "s"},
}};

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, "valkey: " + std::move(text)};
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

SetupStatus set_address(Json& adapter, std::vector<std::string>& notices) {
  std::string nodes = text_of(adapter["startup_nodes"]);
  adapter.erase("startup_nodes");
  if (const std::size_t comma = nodes.find(','); comma != std::string::npos) {
    nodes.resize(comma);
    notices.emplace_back("\"startup_nodes\": the first is used, as LMCache does without a cluster");
  }
  const std::size_t colon = nodes.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return wrong("\"startup_nodes\": expected HOST:PORT");
  }
  adapter["host"] = nodes.substr(0, colon);
  adapter["port"] = nodes.substr(colon + 1);
  return {};
}

}  // namespace

SetupStatus translate_valkey(Json& adapter, std::vector<std::string>& notices) {
  if (adapter["type"] != "valkey" || !adapter.contains("startup_nodes")) return {};
  if (adapter.value("cluster_mode", Json(false)) == true) {
    return wrong(
        "\"cluster_mode\": larder speaks to one server and not to a cluster; name a server that is "
        "in none");
  }
  adapter.erase("cluster_mode");
  LARDER_TRY(set_address(adapter, notices));
  for (const Renamed& renamed : kRenamed) {
    const auto found = adapter.find(renamed.from);
    if (found == adapter.end()) continue;
    std::string text = text_of(*found);
    const bool is_set = !found->is_null() && !text.empty();
    adapter.erase(found);
    if (is_set) adapter[std::string{renamed.to}] = text.append(renamed.suffix);
  }
  return {};
}

}  // namespace larder::server
