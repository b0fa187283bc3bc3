#include "larder/server/attach_command.h"

#include <nlohmann/json.hpp>

namespace larder::server {

std::string attach_command(const ServerOptions& options) {
  const bool is_any = options.host == "0.0.0.0" || options.host == "::" || options.host == "[::]";
  const std::string host = is_any ? "localhost" : options.host;
  const bool has_colon = host.find(':') != std::string::npos && !host.starts_with('[');
  const nlohmann::ordered_json transfer = {
      {"kv_connector", "LMCacheMPConnector"},
      {"kv_role", "kv_both"},
      {"kv_connector_module_path", "lmcache.integration.vllm.lmcache_mp_connector"},
      {"kv_connector_extra_config",
       {{"lmcache.mp.host", "tcp://" + (has_colon ? "[" + host + "]" : host)},
        {"lmcache.mp.port", options.port},
        {"lmcache.mp.mq_timeout", 10}}}};
  return "vllm serve MODEL --kv-transfer-config '" + transfer.dump() + "'";
}

}  // namespace larder::server
