#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "larder/server/message.h"
#include "larder/wire/request.h"

namespace larder::server {

/// A request that is answered later. Its views point into the message.
struct Request {
  ConnectionId connection{};
  std::unique_ptr<Message> message;
  wire::Frame uid;
  wire::Frame operation_frame;
  wire::Operation operation{};
  wire::Arguments arguments;
  std::uint64_t received_ns = 0;
  bool was_waiting = false;  ///< It was found waiting after a stall (S15).

  std::size_t bytes() const noexcept;
};

/// One client's connection.
struct Connection {
  ConnectionId id{};
  bool is_closed = false;   ///< Only its requests are left.
  bool owes_false = false;  ///< S4: its next PING gets the answer false.
  Heartbeat heartbeat;      ///< The scheduler's.
  /// Requests that need a key, or that must not overtake one that does, in their order.
  std::deque<Request> requests;
  std::uint32_t lookups = 0;  ///< Of these.
  std::uint32_t waits = 0;    ///< WAITs that the engine has.
};

/// The connections that have sent something, and their requests in turn (S11): each connection's in
/// their order, one piece of work for each connection at a time.
///
/// A connection is forgotten when it has closed, its requests are answered and its WAITs have
/// ended. Bounded: kRequestsMax a connection, kBytesMax in all. Threads: the service's. Cost: O(1);
/// pop() of the last one is O(connections with requests).
class Connections {
 public:
  static constexpr std::size_t kRequestsMax = 1024;
  static constexpr std::size_t kBytesMax = std::size_t{256} << 20;

  /// The connection, which has just been heard. `is_new`: seen for the first time.
  Connection& heard(ConnectionId id, bool& is_new);
  Connection* find(ConnectionId id) noexcept;
  /// It sends no more requests.
  void note_closed(Connection& connection);

  /// False: there is no room for it; it is untouched.
  bool push(Connection& connection, Request& request);
  /// The first request is answered. A closed connection may end with it.
  void pop(Connection& connection);
  /// The same for a WAIT.
  void end_wait(Connection& connection);
  /// The connection whose turn it is; the next call returns the next one. Null: no requests wait.
  Connection* take_turn() noexcept;
  bool has_requests() const noexcept { return !turns_.empty(); }
  std::uint64_t requests() const noexcept { return requests_; }

  /// kNever: none has sent two PINGs. O(connections).
  std::uint64_t shortest_heartbeat_ns() const noexcept;

 private:
  void forget_if_done(const Connection& connection);

  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> by_id_;
  std::deque<Connection*> turns_;  ///< Connections with requests, each once.
  std::uint64_t requests_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace larder::server
