#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/base/clock.h"
#include "larder/wire/msgpack_writer.h"
#include "larder/wire/request.h"

namespace larder::server {

/// The number of a client's connection: from 1, never used again. A client that reconnects has
/// another one.
enum class ConnectionId : std::uint64_t {};

/// The PINGs of one client.
struct Heartbeat {
  std::uint64_t pinged_ns = 0;       ///< The last one; 0: none yet.
  std::uint64_t period_ns = kNever;  ///< The shortest time between two.
};

/// One message as it came, behind the identity of its connection. Owns the memory that its frames
/// point to, which does not move.
class Message {
 public:
  Message() = default;
  virtual ~Message() = default;
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  std::span<const wire::Frame> frames() const noexcept { return frames_; }
  /// Takes the last frame away, and gives its memory back.
  virtual void drop_last_frame() noexcept { frames_.pop_back(); }

 protected:
  std::vector<wire::Frame> frames_;
};

/// Takes the replies. Never blocks: a peer that is gone or does not read loses its reply, and the
/// sink counts it (S5). Threads: the loop's.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  /// The frames of one reply, copied. `payload` null: there is no third frame.
  virtual void send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
                    const wire::Bytes* payload) noexcept = 0;
  /// A message of about so many bytes may come on the connection, and is no attack (S13). For as
  /// long as the connection lasts; the largest of several calls counts.
  virtual void expect(ConnectionId connection, std::uint64_t bytes) noexcept = 0;
};

}  // namespace larder::server
