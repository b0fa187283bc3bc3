#include "larder/connectors/resp/address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace larder::resp {
namespace {

constexpr int kKeepaliveIdleSeconds = 30;
constexpr int kKeepaliveIntervalSeconds = 10;
constexpr int kKeepaliveProbes = 3;

using Addresses = std::vector<SocketAddress>;

Result<Addresses> look_up(const Endpoint& endpoint, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found);
  if (error != 0) {
    // gai_strerror() gives literals in the C library's catalogue of the moment.
    return Error{ErrorCode::kUnavailable, "resp: the server's name cannot be resolved",
                 ::gai_strerror(error)};
  }
  Addresses addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    SocketAddress address;
    address.bytes = one->ai_addrlen;
    std::memcpy(&address.storage, one->ai_addr, one->ai_addrlen);
    addresses.push_back(address);
  }
  ::freeaddrinfo(found);
  return addresses;
}

Result<Addresses> unix_address(const std::string& path) {
  SocketAddress address;
  auto* const name = reinterpret_cast<sockaddr_un*>(&address.storage);
  if (path.size() >= sizeof(name->sun_path)) {
    return Error{ErrorCode::kInvalidArgument, "resp", "the path of the unix socket is too long"};
  }
  name->sun_family = AF_UNIX;
  std::memcpy(name->sun_path, path.c_str(), path.size() + 1);
  address.bytes = sizeof(sockaddr_un);
  return Addresses{address};
}

Error connect_error(int sys_errno) noexcept {
  switch (sys_errno) {
    case ECONNREFUSED:
      return {ErrorCode::kUnavailable, "resp", "the server refuses the connection: is it running?"};
    case ENOENT:
      return {ErrorCode::kUnavailable, "resp",
              "there is no such unix socket: is the server running?"};
    case EACCES:
    case EPERM:
      return {ErrorCode::kUnavailable, "resp", "this user may not connect to the server's socket"};
    case EHOSTUNREACH:
    case ENETUNREACH:
      return {ErrorCode::kUnavailable, "resp", "there is no route to the server"};
    case EMFILE:
    case ENFILE:
      return {ErrorCode::kUnavailable, "resp", "the process has no file descriptors left"};
    default:
      return {ErrorCode::kUnavailable, "resp", "connecting to the server failed"};
  }
}

void set_option(int fd, int level, int option, int value) noexcept {
  // Best effort: a connection without keepalive or with delays still is one.
  ::setsockopt(fd, level, option, &value, sizeof(value));
}

}  // namespace

std::string Endpoint::to_string() const {
  if (!path.empty()) return path;
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return (is_ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Resolver::Resolver(Endpoint endpoint, std::shared_ptr<EventFd> answered)
    : endpoint_(std::move(endpoint)),
      name_(
          "larder-resolve",
          [endpoint = endpoint_] {
            auto answer = look_up(endpoint, AI_ADDRCONFIG);
            // AI_ADDRCONFIG finds nothing on a machine with loopback only.
            return answer ? std::move(answer) : look_up(endpoint, 0);
          },
          std::move(answered)) {}

Result<Addresses> Resolver::resolve() {
  if (!endpoint_.path.empty()) return unix_address(endpoint_.path);
  if (auto numeric = look_up(endpoint_, AI_NUMERICHOST)) return numeric;
  LARDER_ASSIGN(const Result<Addresses>* const answer, name_.ask());
  return answer == nullptr ? Addresses{} : *answer;
}

Result<UniqueFd> begin_connect(const SocketAddress& address) noexcept {
  UniqueFd fd{::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (!fd) return connect_error(errno);
  if (address.storage.ss_family != AF_UNIX) {
    set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
    set_option(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
    set_option(fd.get(), IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  }
  const auto* const name = reinterpret_cast<const sockaddr*>(&address.storage);
  if (::connect(fd.get(), name, address.bytes) != 0 && errno != EINPROGRESS && errno != EINTR) {
    return connect_error(errno);
  }
  return fd;
}

Status end_connect(int fd) noexcept {
  int error = 0;
  socklen_t bytes = sizeof(error);
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
  if (error != 0) return connect_error(error);
  return {};
}

}  // namespace larder::resp
