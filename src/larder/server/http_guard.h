#pragma once

#include <string_view>

namespace larder::server {

// Against pages of foreign sites that make a browser send requests to this server (S29): a page can
// send a request to any address, and can point a name of its own at this machine, but the request's
// headers show it.

/// `host`: from a request's Host header, with or without a port. Addresses are accepted, as no name
/// led here; of names localhost, the one that the server listens at, and this machine's own.
bool is_own_host(std::string_view host, std::string_view bound_host, std::string_view machine);

/// `origin`: of a request's Origin header, which only browsers send.
bool is_own_origin(std::string_view origin, std::string_view bound_host, std::string_view machine);

}  // namespace larder::server
