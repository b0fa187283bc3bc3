#pragma once

#include <cstdint>

#include "larder/server/connection_table.h"

namespace larder::server {

/// Bounds the bytes of unfinished messages that libzmq holds (S13); libzmq buffers them without a
/// limit.
///
/// A connection is closed when it has sent more than kConnectionBytes of such a message, beyond the
///   size that ConnectionTable::expect() has announced. The largest sender is closed when all of
///   them have sent more than kTotalBytes beyond that, or when the process's private memory has
///   grown by kMemoryBytes more than twice what they sent: libzmq takes 64 bytes for a frame of one
///   byte.
/// Threads: the loop's. Cost of look(): a system call for each connection.
class FloodGuard {
 public:
  static constexpr std::uint64_t kConnectionBytes = std::uint64_t{64} << 20;
  static constexpr std::uint64_t kTotalBytes = std::uint64_t{256} << 20;
  /// The same with announced sizes.
  static constexpr std::uint64_t kHeldBytes = std::uint64_t{4} << 30;
  static constexpr std::uint64_t kMemoryBytes = std::uint64_t{512} << 20;

  /// Watches the TCP connections that the table has.
  explicit FloodGuard(ConnectionTable& table);

  /// `port` is that of the server. `is_drained`: the socket has just reported that no message is
  /// left; otherwise only connections that have delivered nothing since the last look are checked.
  /// False: there is nothing to check until a connection opens.
  bool look(std::uint16_t port, bool is_drained) noexcept;

  std::uint64_t connections_shut() const noexcept { return connections_shut_; }

 private:
  struct Held {
    int fd = -1;
    std::uint64_t bytes = 0;
  };

  void look_at_memory(std::uint16_t port, const Held& most, std::uint64_t held) noexcept;
  void shut(std::uint16_t port, const Held& held, const char* why) noexcept;

  ConnectionTable& table_;
  std::uint64_t calm_bytes_;  ///< The private memory when no message was unfinished.
  std::uint64_t connections_shut_ = 0;
  int trims_left_ = 0;
};

}  // namespace larder::server
