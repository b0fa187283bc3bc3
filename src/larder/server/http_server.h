#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/server/http_message.h"

namespace larder::server {

/// Where HTTP is served, and by which options.
struct HttpSite {
  std::string host{};
  std::uint16_t port = 0;  ///< 0: any free one.
  const char* host_option = "--http-host";
  const char* port_option = "--http-port (or --no-http)";
  std::string unix_path{};  ///< Not empty: a unix socket, and neither host nor port.
  const char* unix_option = "--admin-socket";
  std::size_t threads = 4;  ///< Number of requests that are answered at a time.
  /// Monitors use host names of their own, and read nothing secret.
  bool is_any_name_own = false;
};

/// A listener for HTTP with threads of its own. The handler says which paths exist.
///
/// Access: over TCP a foreign Host or Origin is refused (S29), unless HttpSite allows it. A unix
/// socket has mode 0600,
///   and a peer of another user is refused as well.
/// Bounds: HttpSite::threads requests at a time and 64 that wait; further ones wait in the system's
/// queue. A connection carries one request: its head may have 64 KiB and take five seconds, its
///   body as much as the handler allows and take twenty seconds. Bodies that are compressed are
///   refused.
/// Ownership: the handler outlives it.
class HttpServer {
 public:
  /// Listens when it returns, and accepts after start().
  static SetupResult<std::unique_ptr<HttpServer>> open(HttpSite site);
  SetupStatus start(HttpHandler& handler);
  /// Ends the threads; requests that are being answered have a second to end. Close whatever the
  /// handler waits for before, or it may wait for seconds.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// The address in numbers; empty for a unix socket.
  const std::string& address() const noexcept;
  std::uint16_t port() const noexcept;  ///< 0: a unix socket.

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder::server
