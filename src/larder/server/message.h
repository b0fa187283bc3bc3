#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/wire/msgpack_writer.h"
#include "larder/wire/request.h"

namespace larder::server {

/// The number of a client's connection: from 1, never used again. A client that reconnects has
/// another one.
enum class ConnectionId : std::uint64_t {};

/// One message as it came, behind the identity of its connection. Owns what its frames point to,
/// which does not move.
class Message {
 public:
  Message() = default;
  virtual ~Message() = default;
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  std::span<const wire::Frame> frames() const noexcept { return frames_; }

 protected:
  std::vector<wire::Frame> frames_;
};

/// Takes the replies. Never blocks: a peer that is gone or does not read loses its reply, and
/// the sink counts it (S5). Threads: the loop's.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  /// The frames of one reply, copied. `payload` null: there is no third frame.
  virtual void send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
                    const wire::Bytes* payload) noexcept = 0;
  /// Nothing is known of the connection any more; a later message of its peer is that of a new one.
  virtual void forget(ConnectionId connection) noexcept = 0;
};

}  // namespace larder::server
