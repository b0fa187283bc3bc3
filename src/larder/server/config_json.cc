#include "larder/server/config_json.h"

#include <nlohmann/json.hpp>

namespace larder::server {

nlohmann::json config_json(const ServerOptions& options, const std::string& pool_name) {
  return {{"mp",
           {{"transport", "zmq"},
            {"host", options.host},
            {"port", options.port},
            {"chunk_size", options.chunk_tokens},
            {"hash_algorithm", "blake3"},
            {"separate_object_groups", false},
            {"shm_name", pool_name},
            {"instance_id", options.instance_id}}}};
}

}  // namespace larder::server
