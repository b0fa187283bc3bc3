#include "larder/server/tcp_socket.h"

// The kernel's own tcp_info: the C library's ends before the field that is needed, and the two
// headers exclude each other.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstring>

namespace larder::server {

std::optional<std::uint64_t> tcp_bytes_received(int fd) noexcept {
  ::tcp_info info{};
  ::socklen_t bytes = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return std::nullopt;
  constexpr std::size_t kEnd = offsetof(::tcp_info, tcpi_bytes_received) + sizeof(__u64);
  if (bytes < kEnd) return std::nullopt;
  return info.tcpi_bytes_received;
}

std::uint16_t local_port_of(int fd) noexcept {
  ::sockaddr_storage address{};
  ::socklen_t bytes = sizeof address;
  if (::getsockname(fd, reinterpret_cast<::sockaddr*>(&address), &bytes) != 0) return 0;
  if (address.ss_family == AF_INET) {
    ::sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    return ntohs(v4.sin_port);
  }
  if (address.ss_family != AF_INET6) return 0;
  ::sockaddr_in6 v6{};
  std::memcpy(&v6, &address, sizeof v6);
  return ntohs(v6.sin6_port);
}

}  // namespace larder::server
