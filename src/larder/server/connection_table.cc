#include "larder/server/connection_table.h"

#include <algorithm>
#include <utility>

namespace larder::server {
namespace {

/// Bytes that a socket may receive between two messages.
constexpr std::uint64_t kOtherBytes = std::uint64_t{1} << 20;

/// libzmq's own ids begin with a zero byte, and are never reused.
bool is_chosen_by_peer(std::string_view identity) noexcept {
  return identity.empty() || identity.front() != '\0';
}

}  // namespace

void ConnectionTable::on_accepted(int fd) {
  on_disconnected(fd);  // libzmq closes some sockets without saying so.
  sockets_.try_emplace(fd);
}

void ConnectionTable::on_disconnected(int fd) {
  const auto at = sockets_.find(fd);
  if (at == sockets_.end()) return;
  for (const ConnectionId connection : at->second.connections) close(connection);
  sockets_.erase(at);
}

void ConnectionTable::close(ConnectionId connection) {
  const auto at = connections_.find(connection);
  if (at == connections_.end() || at->second.is_closed) return;
  at->second.is_closed = true;
  closed_.push_back(connection);
}

ConnectionId ConnectionTable::on_message(std::string_view identity, int fd,
                                         std::uint64_t wire_bytes) {
  const auto socket = sockets_.find(fd);
  if (socket != sockets_.end()) {
    socket->second.delivered_bytes += wire_bytes;
    socket->second.has_delivered = true;
  }
  const auto known = by_identity_.find(identity);
  if (known == by_identity_.end()) return add(identity, fd);
  const Connection& connection = connections_.at(known->second);
  const bool is_the_same =
      connection.fd == fd && !(connection.is_closed && is_chosen_by_peer(identity));
  if (is_the_same) return known->second;
  // The peer has come back with the identity that it has chosen.
  close(known->second);
  return add(identity, fd);
}

ConnectionId ConnectionTable::add(std::string_view identity, int fd) {
  const ConnectionId connection{++last_};
  connections_.emplace(connection, Connection{.identity = std::string{identity}, .fd = fd});
  by_identity_.insert_or_assign(std::string{identity}, connection);
  if (const auto socket = sockets_.find(fd); socket != sockets_.end()) {
    socket->second.connections.push_back(connection);
  } else {
    close(connection);
  }
  return connection;
}

const std::string* ConnectionTable::identity(ConnectionId connection) const noexcept {
  const auto at = connections_.find(connection);
  return at == connections_.end() || at->second.is_closed ? nullptr : &at->second.identity;
}

std::vector<ConnectionId> ConnectionTable::take_closed() {
  for (const ConnectionId connection : closed_) {
    const auto at = connections_.find(connection);
    const auto named = by_identity_.find(at->second.identity);
    if (named != by_identity_.end() && named->second == connection) by_identity_.erase(named);
    connections_.erase(at);
  }
  return std::exchange(closed_, {});
}

std::uint64_t ConnectionTable::unfinished_bytes(int fd, std::uint64_t received,
                                                bool is_drained) noexcept {
  const auto at = sockets_.find(fd);
  if (at == sockets_.end() || at->second.is_shut) return 0;
  Socket& socket = at->second;
  const std::uint64_t known = socket.delivered_bytes + socket.other_bytes;
  const std::uint64_t unknown = received > known ? received - known : 0;
  const bool has_delivered = std::exchange(socket.has_delivered, false);
  if (!is_drained && has_delivered) return 0;
  // A delivered message ended everything before it. So few bytes are treated like heartbeats, which
  // would add up.
  if (is_drained && has_delivered && unknown <= kOtherBytes) {
    socket.other_bytes += unknown;
    return 0;
  }
  return unknown;
}

void ConnectionTable::expect(ConnectionId connection, std::uint64_t bytes) noexcept {
  const auto known = connections_.find(connection);
  if (known == connections_.end()) return;
  const auto socket = sockets_.find(known->second.fd);
  if (socket == sockets_.end()) return;
  socket->second.expected_bytes = std::max(socket->second.expected_bytes, bytes);
}

std::uint64_t ConnectionTable::expected_bytes(int fd) const noexcept {
  const auto at = sockets_.find(fd);
  return at == sockets_.end() ? 0 : at->second.expected_bytes;
}

void ConnectionTable::note_shut(int fd) noexcept {
  if (const auto at = sockets_.find(fd); at != sockets_.end()) at->second.is_shut = true;
}

void ConnectionTable::for_each_socket(const std::function<void(int fd)>& visit) const {
  for (const auto& [fd, socket] : sockets_) visit(fd);
}

}  // namespace larder::server
