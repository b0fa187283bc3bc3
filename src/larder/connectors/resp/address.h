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

/// Where a server listens: a host and port, or a unix socket.
struct Endpoint {
  std::string host;
  std::uint16_t port = 6379;
  std::string path;  ///< Of a unix socket; then host and port do not count.

  /// "127.0.0.1:6379", "[::1]:6379", "/run/redis.sock"
  std::string to_string() const;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
};

/// Names to addresses, without making the reactor wait: addresses and paths are answered at once,
/// names by a thread, because the system's resolver may take many seconds and cannot be told to
/// stop.
///
/// One thread at a time. `answered` is signalled when an answer is there.
class Resolver {
 public:
  Resolver(Endpoint endpoint, std::shared_ptr<EventFd> answered);

  /// An error: no such name, with what the resolver said. Empty: ask again after the signal.
  Result<std::vector<SocketAddress>> resolve();

 private:
  const Endpoint endpoint_;
  Asked<Result<std::vector<SocketAddress>>> name_;
};

/// A non-blocking socket, close-on-exec, with TCP_NODELAY and keepalive, whose connect() has begun;
/// writable when that ended.
Result<UniqueFd> begin_connect(const SocketAddress& address) noexcept;
/// What connect() came to.
Status end_connect(int fd) noexcept;

}  // namespace larder::resp
