#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder::tools {

/// Reads the text behind `address`: "unix:PATH" or the path of a socket, "HOST:PORT", "PORT" of
/// this machine, "http://HOST[:PORT][/PATH]", the path of a file, or "-" for standard input.
/// Blocks for `timeout` at most, except for the system's resolver and for a file. Errors name the
/// address and the remedy.
SetupResult<std::string> read_metrics(const std::string& address,
                                      std::chrono::milliseconds timeout);

/// The same of another page of the HTTP server there, such as "/degraded". An error of the code
/// kUnimplemented where no such page is, as at a file.
SetupResult<std::string> read_page(const std::string& address, const std::string& page,
                                   std::chrono::milliseconds timeout);

}  // namespace larder::tools
