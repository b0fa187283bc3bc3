#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>

#include "larder/base/unique_fd.h"

namespace larder::testing {

/// The socket on which a service manager hears its services, in the environment of this process and
/// of those it starts for as long as this lives. `name` is a path, or @ and an abstract name.
class NotifySocket {
 public:
  explicit NotifySocket(const std::string& name) : socket_{::socket(AF_UNIX, SOCK_DGRAM, 0)} {
    ::sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    std::size_t bytes = sizeof address;
    if (name.front() == '@') {
      address.sun_path[0] = '\0';
      bytes = offsetof(::sockaddr_un, sun_path) + name.size();
    }
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const ::sockaddr*>(&address),
                     static_cast<::socklen_t>(bytes)),
              0);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~NotifySocket() { ::unsetenv("NOTIFY_SOCKET"); }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  /// The next message; "nothing" if none has arrived.
  std::string heard() const {
    std::array<char, 256> text{};
    const ::ssize_t got = ::recv(socket_.get(), text.data(), text.size(), MSG_DONTWAIT);
    return got < 0 ? "nothing" : std::string{text.data(), static_cast<std::size_t>(got)};
  }

 private:
  UniqueFd socket_;
};

}  // namespace larder::testing
