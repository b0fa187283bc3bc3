#include "larder/server/http_guard.h"

#include <arpa/inet.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

namespace larder::server {
namespace {

bool is_equal(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool is_port(std::string_view text) noexcept {
  return !text.empty() && text.size() <= 5 &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_address(int family, std::string_view text) {
  std::array<std::byte, sizeof(::in6_addr)> address{};
  return ::inet_pton(family, std::string{text}.c_str(), address.data()) == 1;
}

/// Without the port; empty if the text is not a host.
std::string_view without_port(std::string_view host) noexcept {
  const std::size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || host.ends_with(']')) return host;
  return is_port(host.substr(colon + 1)) ? host.substr(0, colon) : std::string_view{};
}

}  // namespace

bool is_own_host(std::string_view host, std::string_view bound_host, std::string_view machine) {
  const std::string_view name = without_port(host);
  if (name.empty()) return false;
  if (name.starts_with('[') && name.ends_with(']')) {
    return is_address(AF_INET6, name.substr(1, name.size() - 2));
  }
  return is_address(AF_INET, name) || is_equal(name, "localhost") || is_equal(name, bound_host) ||
         is_equal(name, machine);
}

bool is_own_origin(std::string_view origin, std::string_view bound_host, std::string_view machine) {
  constexpr std::string_view kScheme = "http://";
  return origin.starts_with(kScheme) &&
         is_own_host(origin.substr(kScheme.size()), bound_host, machine);
}

}  // namespace larder::server
