#include "larder/server/connections.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "larder/base/check.h"

namespace larder::server {
namespace {

bool is_lookup(const Request& request) noexcept {
  return request.operation == wire::Operation::kLookup;
}

}  // namespace

std::size_t Request::bytes() const noexcept {
  std::size_t bytes = sizeof(Request);
  for (const wire::Frame& frame : message->frames()) bytes += frame.size();
  return bytes;
}

Connection& Connections::heard(ConnectionId id, bool& is_new) {
  std::unique_ptr<Connection>& place = by_id_[static_cast<std::uint64_t>(id)];
  is_new = place == nullptr;
  if (is_new) {
    place = std::make_unique<Connection>();
    place->id = id;
  }
  return *place;
}

Connection* Connections::find(ConnectionId id) noexcept {
  const auto found = by_id_.find(static_cast<std::uint64_t>(id));
  return found == by_id_.end() ? nullptr : found->second.get();
}

void Connections::note_closed(Connection& connection) {
  connection.is_closed = true;
  forget_if_done(connection);
}

void Connections::forget_if_done(const Connection& connection) {
  const bool is_done = connection.is_closed && connection.requests.empty() && connection.waits == 0;
  if (is_done) by_id_.erase(static_cast<std::uint64_t>(connection.id));
}

void Connections::end_wait(Connection& connection) {
  --connection.waits;
  forget_if_done(connection);
}

bool Connections::push(Connection& connection, Request& request) {
  const std::size_t bytes = request.bytes();
  if (connection.requests.size() == kRequestsMax || bytes > kBytesMax - bytes_) return false;
  if (connection.requests.empty()) turns_.push_back(&connection);
  bytes_ += bytes;
  ++requests_;
  if (is_lookup(request)) ++connection.lookups;
  connection.requests.push_back(std::move(request));
  return true;
}

void Connections::pop(Connection& connection) {
  LARDER_CHECK(!connection.requests.empty());
  const Request& request = connection.requests.front();
  bytes_ -= request.bytes();
  --requests_;
  if (is_lookup(request)) --connection.lookups;
  connection.requests.pop_front();
  if (!connection.requests.empty()) return;
  std::erase(turns_, &connection);
  forget_if_done(connection);
}

std::uint64_t Connections::shortest_heartbeat_ns() const noexcept {
  std::uint64_t shortest_ns = kNever;
  for (const auto& [id, connection] : by_id_) {
    shortest_ns = std::min(shortest_ns, connection->heartbeat.period_ns);
  }
  return shortest_ns;
}

Connection* Connections::take_turn() noexcept {
  if (turns_.empty()) return nullptr;
  Connection* const first = turns_.front();
  turns_.pop_front();
  turns_.push_back(first);
  return first;
}

}  // namespace larder::server
