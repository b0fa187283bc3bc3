#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/resp/asked.h"

namespace larder::resp {

/// A server's address: a host and port, or a unix socket.
struct Endpoint {
  std::string host;
  std::uint16_t port = 6379;
  std::string path;  ///< Path of a unix socket; host and port are then unused.

  /// "127.0.0.1:6379", "[::1]:6379", "/run/redis.sock"
  std::string to_string() const;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
};

/// Resolves names without blocking the reactor: addresses and paths at once, names in a thread,
/// because the system's resolver may take many seconds and cannot be interrupted.
///
/// One thread at a time. `answered` is signalled when an answer is there.
class Resolver {
 public:
  Resolver(Endpoint endpoint, std::shared_ptr<EventFd> answered);

  /// An error: no such name, with the resolver's message. Empty: call again after the signal.
  Result<std::vector<SocketAddress>> resolve();

 private:
  const Endpoint endpoint_;
  Asked<Result<std::vector<SocketAddress>>> name_;
};

/// A non-blocking socket, close-on-exec, with TCP_NODELAY and keepalive, whose connect() has begun;
/// writable when that ended.
Result<UniqueFd> begin_connect(const SocketAddress& address) noexcept;
/// The result of connect().
Status end_connect(int fd) noexcept;

}  // namespace larder::resp
