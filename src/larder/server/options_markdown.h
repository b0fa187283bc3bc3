#pragma once

#include <string>

namespace larder::server {

/// docs/server_options.md, written from the table of options (`larder server --markdown`).
std::string options_markdown();

}  // namespace larder::server
