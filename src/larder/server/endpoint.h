#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::server {

/// An address to listen at, in numbers.
struct TcpEndpoint {
  std::string address;  ///< "127.0.0.1" or "::1".
  std::uint16_t port = 0;

  bool is_ipv6() const noexcept { return address.find(':') != std::string::npos; }
  /// In libzmq's form; port 0 is any free one.
  std::string to_url() const;
};

/// `host`: an address (IPv6 with or without brackets), a name, or "*" for all of IPv4. A name is
/// looked up, which may block; of its addresses the first of IPv4 is taken if there is one.
/// `option` names the option that sets the host.
SetupResult<TcpEndpoint> resolve_endpoint(std::string_view host, std::uint16_t port,
                                          std::string_view option);

/// A socket that listens there, which does not block. `option` sets the port.
SetupResult<UniqueFd> listen_at(const TcpEndpoint& endpoint, int backlog, std::string_view option);

/// A unix socket that listens under a name. Mode 0600 from its first moment.
///
/// A name that a live server listens at is refused, and so is a name that is not a socket; a stale
/// socket is replaced. The destructor removes the name if it still is this socket's.
class UnixListener {
 public:
  /// `option` names the option that sets the path.
  static SetupResult<UnixListener> open(const std::string& path,
                                        std::string_view option = "--ipc-path");
  ~UnixListener();
  UnixListener(UnixListener&& other) noexcept;
  UnixListener& operator=(UnixListener&&) = delete;
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  int fd() const noexcept { return fd_.get(); }
  /// For libzmq, which closes it.
  [[nodiscard]] int release_fd() noexcept { return fd_.release(); }

 private:
  UnixListener(std::string path, UniqueFd fd, ::dev_t device, ::ino_t inode) noexcept
      : path_(std::move(path)), fd_(std::move(fd)), device_(device), inode_(inode) {}

  std::string path_;  ///< Empty: moved from.
  UniqueFd fd_;
  ::dev_t device_;
  ::ino_t inode_;
};

/// Why listening at a TCP address failed, and the remedy. `option` sets the port.
SetupError listen_error(const TcpEndpoint& endpoint, std::string_view option, int sys_errno);

}  // namespace larder::server
