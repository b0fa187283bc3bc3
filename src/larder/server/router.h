#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/server/message.h"

namespace larder::server {

struct RouterOptions {
  std::string host = "localhost";
  std::uint16_t port = 5555;  ///< 0: any free one.
  std::string ipc_path = {};  ///< "": none.
};

/// The ZeroMQ ROUTER socket (S5, S12 to S14, S16): messages of numbered connections in, replies
/// out.
///
/// Connections: a ROUTER names a peer by an identity, which changes when the peer reconnects; each
///   one gets a number here. `on_closed` of the handler is called when its socket was seen to
///   close, which ends the number. It may be late, but comes for every connection in the end: TCP
///   detects after two minutes that a peer's machine has vanished.
/// Bounds: frames up to 4 GiB, because a worker may send values inline. FloodGuard bounds the bytes
///   of unfinished messages that libzmq holds (S13; except at `ipc_path`, where peers run as the
///   server's user). A peer that does not read loses replies. For a message of too many frames the
///   handler sees one more than limits::kFrames, and the rest is dropped.
/// Threads: the loop's; beside it runs libzmq's one I/O thread. No call blocks or throws.
class Router final : public ReplySink {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void on_message(ConnectionId connection, std::unique_ptr<Message> message) = 0;
    virtual void on_closed(ConnectionId connection) = 0;
  };

  static SetupResult<std::unique_ptr<Router>> open(const RouterOptions& options);
  ~Router() override;
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  /// Edge-triggered (ZMQ_FD): when it becomes readable, call receive() until it returns false. A
  /// send() may take the edge away: ask has_input() before waiting for the next one.
  int event_fd() const noexcept;
  bool has_input() const noexcept;
  /// Readable when a connection opened or closed: call receive(), too.
  int monitor_fd() const noexcept;

  /// Hands at most `messages_max` messages to the handler, and the closes that were seen once
  /// there are no messages before them. False: nothing is left.
  bool receive(Handler& handler, std::size_t messages_max) noexcept;
  /// S13, several times a second: see FloodGuard::look(). `is_drained`: receive() has just returned
  /// false. False: there is nothing to check until a connection opens.
  bool look_for_floods(bool is_drained) noexcept;

  void expect(ConnectionId connection, std::uint64_t bytes) noexcept override;
  void send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
            const wire::Bytes* payload) noexcept override;

  std::uint16_t port() const noexcept;  ///< The bound one.
  std::uint64_t replies_dropped() const noexcept;
  std::uint64_t connections_shut() const noexcept;
  std::uint64_t connections() const noexcept;  ///< Open now, silent ones included.

 private:
  class Impl;
  explicit Router(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder::server
