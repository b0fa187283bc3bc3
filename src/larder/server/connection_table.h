#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "larder/server/message.h"

namespace larder::server {

/// Which connection a message is of. A ROUTER names the peer of a message by an identity, which a
/// peer may choose itself, and by the descriptor of its socket, which the system uses again. The
/// socket monitor reports both ends of a socket, in their order, but not in the order of the
/// messages.
///
/// Invariant: every open connection belongs to exactly one open socket, so there are no more of
///   them than sockets (and a few whose only messages were read late).
/// Threads: one. Cost: one or two look-ups in a hash table per message.
class ConnectionTable {
 public:
  // ---- What the socket monitor says.
  void on_accepted(int fd);
  void on_disconnected(int fd);

  bool knows(std::string_view identity) const noexcept {
    return by_identity_.find(identity) != by_identity_.end();
  }
  /// A message was delivered: the number of its connection. `wire_bytes`: its size on the wire.
  ConnectionId on_message(std::string_view identity, int fd, std::uint64_t wire_bytes);

  /// Where a reply goes; null: the connection is closed or unknown.
  const std::string* identity(ConnectionId connection) const noexcept;

  /// Connections whose socket has closed since the last call; this call forgets them.
  std::vector<ConnectionId> take_closed();
  std::size_t closed() const noexcept { return closed_.size(); }

  // ---- Messages that do not end (S13).
  /// How many of the bytes that the socket has `received` belong to a message that has not ended.
  /// `is_drained`: every message that has ended was delivered. Otherwise 0 for a socket that has
  /// delivered one since the last call, because more may wait.
  std::uint64_t unfinished_bytes(int fd, std::uint64_t received, bool is_drained) noexcept;
  /// A message of so many bytes may come.
  void expect(ConnectionId connection, std::uint64_t bytes) noexcept;
  std::uint64_t expected_bytes(int fd) const noexcept;
  /// The socket's bytes no longer count; it will close soon.
  void note_shut(int fd) noexcept;
  void for_each_socket(const std::function<void(int fd)>& visit) const;

  std::size_t sockets() const noexcept { return sockets_.size(); }

 private:
  struct Socket {
    std::vector<ConnectionId> connections;  ///< One; more where some message was read late.
    std::uint64_t delivered_bytes = 0;
    std::uint64_t other_bytes = 0;  ///< Received and of no message: handshake, heartbeats.
    std::uint64_t expected_bytes = 0;
    bool has_delivered = false;  ///< Since the last unfinished_bytes().
    bool is_shut = false;
  };
  struct Connection {
    std::string identity;
    int fd = -1;
    bool is_closed = false;
  };
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };

  ConnectionId add(std::string_view identity, int fd);
  void close(ConnectionId connection);

  std::unordered_map<int, Socket> sockets_;  ///< By descriptor.
  std::unordered_map<ConnectionId, Connection> connections_;
  std::unordered_map<std::string, ConnectionId, TextHash, std::equal_to<>> by_identity_;
  std::vector<ConnectionId> closed_;
  std::uint64_t last_ = 0;
};

}  // namespace larder::server
