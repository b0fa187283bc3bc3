#pragma once

#include <string>

#include "larder/server/options.h"

namespace larder::server {

/// The command that connects a vLLM on this machine, as the server says it when it starts and on
/// its page. `options` has the port that was bound. Pure.
std::string attach_command(const ServerOptions& options);

}  // namespace larder::server
