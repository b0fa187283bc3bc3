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
  std::string ipc_path;       ///< "": none.
};

/// The ZeroMQ ROUTER socket (S5, S12 to S14, S16): messages of numbered connections in, replies
/// out.
///
/// Connections: a ROUTER names a peer by an identity, which changes when the peer reconnects; each
///   one gets a number here. `on_closed` of the handler is called when its socket was seen to
///   close, and is a hint: it may be late, and never comes for a peer that simply went silent.
/// Bounds: frames up to 64 MiB; a connection that sends a multipart message without an end is shut
///   once libzmq holds 128 MiB of it (S13); a peer that does not read loses replies.
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

  /// Edge-triggered (ZMQ_FD): when it becomes readable, or after any send(), call receive() until
  /// it says that nothing is left.
  int event_fd() const noexcept;
  /// Readable when a connection opened or closed: call receive(), too.
  int monitor_fd() const noexcept;

  /// Hands at most `messages_max` messages, and all closes, to the handler. False: nothing is left.
  bool receive(Handler& handler, std::size_t messages_max) noexcept;
  /// S13, once a second, when receive() has just said that nothing is left.
  void look_after_unfinished() noexcept;

  void send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
            const wire::Bytes* payload) noexcept override;
  void forget(ConnectionId connection) noexcept override;

  std::uint16_t port() const noexcept;  ///< That was bound.
  std::uint64_t replies_dropped() const noexcept;
  std::uint64_t connections_shut() const noexcept;
  std::uint64_t connections() const noexcept;

 private:
  class Impl;
  explicit Router(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder::server
