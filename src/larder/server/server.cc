#include "larder/server/server.h"

namespace larder::server {

SetupResult<DrainReport> run_server(
    const ServerOptions& /*options*/, const Registry& /*registry*/,
    const std::atomic<bool>& /*stop*/, int /*wake_fd*/,
    const std::function<void(const ServerAddress&)>& /*on_listening*/) {
  return SetupError{ErrorCode::kUnimplemented, "server: the sockets are not built yet"};
}

}  // namespace larder::server
