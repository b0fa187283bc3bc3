#pragma once

#include <httplib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "larder/base/unique_fd.h"

namespace larder::server {

/// One connection, as the HTTP library reads and writes it.
///
/// Bounds: the library would wait for a client as long as that sends a byte every few seconds, and
///   take a line without an end. This stream ends the input after the allowed bytes and time, and
///   fails a client that is silent for two seconds.
/// Threads: one.
class HttpStream final : public httplib::Stream {
 public:
  /// The bytes and the time are of the request's head.
  explicit HttpStream(int fd) noexcept;

  /// A body of so many bytes may follow.
  void allow_body(std::size_t bytes) noexcept;
  /// After the reply: discards what the client still sends, for a bounded time. Closing a socket
  /// that has unread input resets the connection, and the client would lose the reply.
  void discard_input() noexcept;

  bool is_readable() const override;
  bool is_writable() const override;
  ::ssize_t read(char* data, std::size_t bytes) override;
  ::ssize_t write(const char* data, std::size_t bytes) override;
  /// No handler asks.
  void get_remote_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  /// The library only checks that select() could take the number. This class uses poll().
  socket_t socket() const override { return 0; }

 private:
  bool wait(short events, std::uint64_t until_ns) const noexcept;
  ::ssize_t receive() noexcept;

  const int fd_;
  std::uint64_t read_until_ns_;
  std::uint64_t write_until_ns_ = 0;  ///< 0: nothing was written.
  std::size_t bytes_left_;            ///< Bytes that may still be received.
  std::array<char, 16384> buffer_{};
  std::size_t begin_ = 0;  ///< Of the bytes that were received and not read.
  std::size_t end_ = 0;
};

}  // namespace larder::server
