#include "larder/server/router.h"

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/server/connection_table.h"
#include "larder/server/endpoint.h"
#include "larder/server/flood_guard.h"
#include "larder/server/zmq_socket.h"

namespace larder::server {
namespace {

/// The limit of values that a worker sends inline (wire::CommitStore); a longer message gets that
/// answer. For replies in flight at the end. Without a linger time, libzmq 4.3.4 aborts when it
/// closes in the middle of a reply to a client that closes at the same time (session_base.cpp,
/// clean_pipes()).
constexpr int kLingerMs = 200;
constexpr std::int64_t kFrameBytesMax = std::int64_t{4} << 30;
constexpr int kMessagesQueuedMax = 64;  ///< A connection; then TCP pushes back.
constexpr int kRepliesQueuedMax = 1000;
constexpr int kBacklog = 4096;
/// Limit of one receive(): a message of a million frames takes its time, but not all at once.
constexpr std::size_t kFramesAtOnce = 4096;
/// While the socket does not run dry, closes wait for messages that came before them, but no
/// longer.
constexpr std::size_t kClosesWaitingMax = 64;
constexpr const char* kMonitorAddress = "inproc://monitor";

/// Framing of ZMTP 3: flags and a length of one byte or of eight.
std::uint64_t wire_bytes_of(std::size_t frame_bytes) noexcept {
  return frame_bytes + (frame_bytes <= 255 ? 2 : 9);
}

SetupError zmq_error(const char* what) {
  return SetupError{ErrorCode::kUnavailable, std::string{"the server's socket "} + what + ": " +
                                                 ::zmq_strerror(::zmq_errno())};
}

}  // namespace

class Router::Impl {
 public:
  SetupStatus open(const RouterOptions& options);
  ~Impl() {
    // The monitor stops first, so that it does not report the router's own closes.
    if (router_) ::zmq_socket_monitor(router_.get(), nullptr, 0);
  }

  int event_fd() const noexcept { return router_.number(ZMQ_FD); }
  int monitor_fd() const noexcept { return monitor_.number(ZMQ_FD); }
  bool has_input() const noexcept {
    const int events = router_.number(ZMQ_EVENTS);
    return events >= 0 && (events & ZMQ_POLLIN) != 0;
  }
  bool receive(Handler& handler, std::size_t messages_max);
  bool look_for_floods(bool is_drained) noexcept;
  void expect(ConnectionId connection, std::uint64_t bytes) noexcept;
  void send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
            const wire::Bytes* payload) noexcept;

  std::uint16_t port() const noexcept { return port_; }
  std::uint64_t replies_dropped() const noexcept { return replies_dropped_; }
  std::uint64_t connections_shut() const noexcept { return guard_.connections_shut(); }
  std::uint64_t connections() const noexcept { return table_.sockets(); }

 private:
  SetupStatus bind(const RouterOptions& options);
  SetupStatus watch();
  void read_monitor();
  /// False: nothing is there. True, and `finished`: it was the last frame of a message.
  bool receive_frame(bool& finished);
  ConnectionId connection_of_message();

  ZmqContext context_;
  ZmqSocket router_{context_, ZMQ_ROUTER};
  ZmqSocket monitor_{context_, ZMQ_PAIR};
  std::optional<UnixListener> ipc_;
  std::uint16_t port_ = 0;
  ConnectionTable table_;
  FloodGuard guard_{table_};

  // The message that is being received.
  bool is_begun_ = false;
  std::string identity_;
  int fd_ = -1;
  std::uint64_t wire_bytes_ = 0;
  std::unique_ptr<ZmqMessage> message_;

  std::uint64_t replies_dropped_ = 0;
};

// --- Opening ------------------------------------------------------------------------------------

SetupStatus Router::Impl::open(const RouterOptions& options) {
  if (!router_ || !monitor_) return zmq_error("cannot be made");
  const bool is_set =
      router_.set(ZMQ_ROUTER_MANDATORY, 1) && router_.set(ZMQ_LINGER, kLingerMs) &&
      router_.set(ZMQ_MAXMSGSIZE, kFrameBytesMax) && router_.set(ZMQ_RCVHWM, kMessagesQueuedMax) &&
      router_.set(ZMQ_SNDHWM, kRepliesQueuedMax) && router_.set(ZMQ_BACKLOG, kBacklog) &&
      // A host that vanished without a message is detected after two minutes.
      router_.set(ZMQ_TCP_KEEPALIVE, 1) && router_.set(ZMQ_TCP_KEEPALIVE_IDLE, 60) &&
      router_.set(ZMQ_TCP_KEEPALIVE_INTVL, 10) && router_.set(ZMQ_TCP_KEEPALIVE_CNT, 6);
  if (!is_set) return zmq_error("does not take its options");
  LARDER_TRY(watch());
  return bind(options);
}

/// Before bind(), so that no connection is missed.
SetupStatus Router::Impl::watch() {
  // libzmq's I/O thread waits for the monitor's reader where the queue has a bound.
  const bool is_watched = ::zmq_socket_monitor(router_.get(), kMonitorAddress,
                                               ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) == 0 &&
                          monitor_.set(ZMQ_RCVHWM, 0) && monitor_.set(ZMQ_LINGER, 0) &&
                          ::zmq_connect(monitor_.get(), kMonitorAddress) == 0;
  if (!is_watched) return zmq_error("cannot be watched");
  return {};
}

SetupStatus Router::Impl::bind(const RouterOptions& options) {
  LARDER_ASSIGN(const TcpEndpoint endpoint, resolve_endpoint(options.host, options.port, "--host"));
  if (endpoint.is_ipv6() && !router_.set(ZMQ_IPV6, 1)) return zmq_error("cannot use IPv6");
  if (::zmq_bind(router_.get(), endpoint.to_url().c_str()) != 0) {
    return listen_error(endpoint, "--port", ::zmq_errno());
  }
  std::array<char, 256> bound{};
  std::size_t bytes = bound.size();
  if (::zmq_getsockopt(router_.get(), ZMQ_LAST_ENDPOINT, bound.data(), &bytes) != 0) {
    return zmq_error("does not say where it listens");
  }
  const std::string_view url{bound.data()};
  port_ = static_cast<std::uint16_t>(std::stoul(std::string{url.substr(url.rfind(':') + 1)}));
  if (options.ipc_path.empty()) return {};
  LARDER_ASSIGN(UnixListener listener, UnixListener::open(options.ipc_path));
  ipc_.emplace(std::move(listener));
  const bool is_bound = router_.set(ZMQ_USE_FD, ipc_->release_fd()) &&
                        ::zmq_bind(router_.get(), ("ipc://" + options.ipc_path).c_str()) == 0 &&
                        router_.set(ZMQ_USE_FD, -1);
  if (!is_bound) return zmq_error("cannot listen at the path of --ipc-path");
  return {};
}

// --- Receiving ----------------------------------------------------------------------------------

bool Router::Impl::receive(Handler& handler, std::size_t messages_max) {
  read_monitor();
  std::size_t messages = 0;
  std::size_t frames = 0;
  bool is_empty = false;
  while (!is_empty && messages < messages_max && frames < kFramesAtOnce) {
    bool is_finished = false;
    is_empty = !receive_frame(is_finished);
    ++frames;
    if (!is_finished) continue;
    ++messages;
    const ConnectionId connection = connection_of_message();
    handler.on_message(connection, std::move(message_));
  }
  if (is_empty || table_.closed() >= kClosesWaitingMax) {
    for (const ConnectionId connection : table_.take_closed()) handler.on_closed(connection);
  }
  return !is_empty;
}

void Router::Impl::read_monitor() {
  struct Event {
    std::uint16_t kind = 0;
    std::uint32_t value = 0;
  };
  for (;;) {
    ZmqPart part;
    if (!monitor_.receive(part.get())) return;
    Event event;
    const std::span<const std::byte> bytes = part.bytes();
    const bool is_event = bytes.size() == sizeof event.kind + sizeof event.value;
    if (is_event) {
      std::memcpy(&event.kind, bytes.data(), sizeof event.kind);
      std::memcpy(&event.value, bytes.data() + sizeof event.kind, sizeof event.value);
    }
    for (bool has_more = part.has_more(); has_more;) {  // The address.
      ZmqPart rest;
      has_more = monitor_.receive(rest.get()) && rest.has_more();
    }
    const int fd = static_cast<int>(event.value);
    if (event.kind == ZMQ_EVENT_ACCEPTED) table_.on_accepted(fd);
    if (event.kind == ZMQ_EVENT_DISCONNECTED) table_.on_disconnected(fd);
  }
}

bool Router::Impl::receive_frame(bool& finished) {
  if (!is_begun_) {
    ZmqPart identity;
    if (!router_.receive(identity.get())) return false;
    identity_ = as_text(identity.bytes());
    fd_ = -1;
    wire_bytes_ = 0;
    message_ = std::make_unique<ZmqMessage>();
    is_begun_ = identity.has_more();
    finished = !is_begun_;
    return true;
  }
  ZmqPart dropped;
  const bool is_kept = !message_->is_full();
  ZmqPart& part = is_kept ? message_->next() : dropped;
  if (!router_.receive(part.get())) return false;
  // The identity itself is of no socket where libzmq made it while it was asked for events.
  if (wire_bytes_ == 0) fd_ = ::zmq_msg_get(&part.get(), ZMQ_SRCFD);
  wire_bytes_ += wire_bytes_of(part.bytes().size());
  is_begun_ = part.has_more();
  finished = !is_begun_;
  if (is_kept) message_->add();
  return true;
}

ConnectionId Router::Impl::connection_of_message() {
  // Its socket was accepted earlier, which the monitor has reported by now.
  if (!table_.knows(identity_)) read_monitor();
  return table_.on_message(identity_, fd_, wire_bytes_);
}

// --- Sending ------------------------------------------------------------------------------------

void Router::Impl::send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
                        const wire::Bytes* payload) noexcept {
  const std::string* const identity = table_.identity(connection);
  std::array<ZmqPart, 4> parts;
  // All memory first: once a reply has begun it must be sent completely, or the next one would
  // become a part of it.
  const bool is_ready = identity != nullptr && parts[0].copy(std::as_bytes(std::span{*identity})) &&
                        parts[1].copy(uid) && parts[2].copy(operation) &&
                        (payload == nullptr || parts[3].copy(*payload));
  if (!is_ready || !router_.send(parts[0].get(), true)) {
    ++replies_dropped_;
    return;
  }
  // After the first one no part is refused; libzmq drops those of a peer that closes meanwhile.
  router_.send(parts[1].get(), true);
  router_.send(parts[2].get(), payload != nullptr);
  if (payload != nullptr) router_.send(parts[3].get(), false);
}

void Router::Impl::expect(ConnectionId connection, std::uint64_t bytes) noexcept {
  table_.expect(connection, bytes);
}

bool Router::Impl::look_for_floods(bool is_drained) noexcept {
  read_monitor();
  return guard_.look(port_, is_drained);
}

// --- The class itself ---------------------------------------------------------------------------

Router::Router(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Router::~Router() = default;

SetupResult<std::unique_ptr<Router>> Router::open(const RouterOptions& options) {
  auto impl = std::make_unique<Impl>();
  LARDER_TRY(impl->open(options));
  return std::unique_ptr<Router>{new Router{std::move(impl)}};
}

int Router::event_fd() const noexcept {
  return impl_->event_fd();
}
int Router::monitor_fd() const noexcept {
  return impl_->monitor_fd();
}
bool Router::has_input() const noexcept {
  return impl_->has_input();
}
bool Router::receive(Handler& handler, std::size_t messages_max) noexcept {
  return impl_->receive(handler, messages_max);
}
bool Router::look_for_floods(bool is_drained) noexcept {
  return impl_->look_for_floods(is_drained);
}
void Router::expect(ConnectionId connection, std::uint64_t bytes) noexcept {
  impl_->expect(connection, bytes);
}
void Router::send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
                  const wire::Bytes* payload) noexcept {
  impl_->send(connection, uid, operation, payload);
}
std::uint16_t Router::port() const noexcept {
  return impl_->port();
}
std::uint64_t Router::replies_dropped() const noexcept {
  return impl_->replies_dropped();
}
std::uint64_t Router::connections_shut() const noexcept {
  return impl_->connections_shut();
}
std::uint64_t Router::connections() const noexcept {
  return impl_->connections();
}

}  // namespace larder::server
