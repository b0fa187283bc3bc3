#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/fork_guard.h"
#include "larder/base/result.h"
#include "larder/connector/peer_state.h"
#include "larder/connectors/resp/command.h"
#include "larder/connectors/resp/options.h"
#include "larder/connectors/resp/reply_error.h"
#include "larder/connectors/resp/resp_parser.h"
#include "larder/connectors/resp/secret_files.h"
#include "larder/connectors/resp/stream.h"

namespace larder::resp {

class Connection;

/// The listener for a connection's events. Must not change the connection inside a call.
class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  virtual void on_ready(Connection& connection) noexcept = 0;
  /// False: this is no answer to that command, and the connection must go.
  virtual bool on_reply(Connection& connection, Command& command, const Reply& reply) noexcept = 0;
  /// The socket is closed. `commands` had no answer; `error` is why. `was_ready`: it had greeted.
  virtual void on_lost(Connection& connection, std::deque<Command> commands, const Error& error,
                       bool was_ready) noexcept = 0;
};

/// State shared by the connections of one server. Not owned; outlives them.
struct ConnectionContext {
  const RespOptions& options;
  Resolver& resolver;
  SecretFiles& secrets;
  ConnectionEvents& events;
  int epoll_fd = -1;
  std::array<std::byte, std::size_t{64} << 10> drain{};  ///< For unwanted payloads.
};

/// State shared by the connections for one kind of operations. Not owned; outlives them.
struct ConnectionKind {
  PeerState& peer;
  std::string probe;  ///< A harmless command of that kind, encoded.
};

/// One socket to a server with a queue of pipelined commands; answers come in order. Connects by
/// itself, greets (AUTH, SELECT, CLIENT SETNAME, PING) and comes back with growing waits.
///
/// A greeting proves little: a proxy without a server behind it may greet as well. A connection
/// that greeted, was used and served nothing counts as failed, and the next one is ready only when
/// its greeting's last command, the kind's probe, was answered too. Only an answer to a caller's
/// command makes the waits short again.
///
///   waiting -> resolving -> connecting -> securing (TLS) -> greeting -> ready -> waiting ...
///
/// Payloads are written from and read into the caller's memory. An answer that has the wrong size,
/// that is no longer wanted, or that is an error is read to its end, so that the next one is found;
/// bytes that are not an answer at all close the socket.
///
/// Threads: the reactor's. Nothing here waits.
/// Invariant: commands_[0, first_unsent_) are on the wire whole; replies belong to commands_[0].
class Connection {
 public:
  Connection(ConnectionContext& context, const ConnectionKind& kind, std::uint32_t index,
             std::uint64_t seed);
  ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  std::uint32_t index() const noexcept { return index_; }
  bool is_ready() const noexcept { return state_ == State::kReady; }
  /// The last attempt to connect failed, or two connections served nothing, and none has been ready
  /// since.
  bool is_down() const noexcept { return is_down_; }
  const Error& last_error() const noexcept { return last_error_; }

  /// It may lead to a server that the name does not lead to any more; see Relocation. A new socket
  /// is not.
  bool is_suspect() const noexcept { return is_suspect_; }
  void suspect(bool is_suspect) noexcept { is_suspect_ = is_suspect; }
  /// Takes no more commands, and connects again when the pending ones are answered, at once. Events
  /// that it is not ready for do no harm. May be called inside of an event.
  void renew() noexcept { is_leaving_ = state_ == State::kReady; }

  /// Whether a command with that many value bytes may be added.
  bool has_room(std::uint64_t cost_bytes) const noexcept;
  std::uint64_t bytes_in_flight() const noexcept { return bytes_in_flight_; }
  /// The part of loads in it.
  std::uint64_t load_bytes_in_flight() const noexcept { return load_bytes_in_flight_; }
  std::deque<Command>& commands() noexcept { return commands_; }
  void push(Command command, std::uint64_t now_ns);
  /// Sends as much as can be sent now. Bounded: see wants_turn().
  void flush(std::uint64_t now_ns) noexcept;
  /// The command of which a part is on the wire; null when there is none.
  const Command* half_sent() const noexcept;
  /// Removes a command of which nothing was sent.
  void erase_unsent(std::size_t position) noexcept;

  /// Handles epoll's events for this connection's socket.
  void on_io(std::uint32_t epoll_events, std::uint32_t generation, std::uint64_t now_ns) noexcept;
  void on_time(std::uint64_t now_ns) noexcept;
  /// The resolver or the reading of the secrets may have an answer.
  void on_resolved(std::uint64_t now_ns) noexcept;
  /// When on_time() is worth calling; kNever.
  std::uint64_t next_time_ns() const noexcept;
  /// It stopped for fairness: call on_turn() before waiting.
  bool wants_turn() const noexcept { return wants_turn_; }
  void on_turn(std::uint64_t now_ns) noexcept;

  std::uint64_t last_progress_ns() const noexcept { return last_progress_ns_; }
  /// Closes the socket; it connects again later. on_lost() is called.
  void lose(const Error& error, std::uint64_t now_ns) noexcept;
  /// Closes it for good.
  void close(const Error& error) noexcept;

 private:
  enum class State : std::uint8_t {
    kWaiting = 0,  ///< No socket; the next attempt is at backoff_.retry_at_ns().
    kResolving,
    kConnecting,
    kSecuring,
    kGreeting,
    kReady,
    kClosed,
  };
  enum class Greeting : std::uint8_t { kAuth = 0, kSelect, kName, kPing, kProbe };
  /// Where the current payload goes.
  struct Sink {
    std::span<const Slice> slices;
    std::size_t slice = 0;
    std::size_t offset = 0;
    bool is_dropped = true;
    bool is_text = false;
  };

  void begin_attempt(std::uint64_t now_ns) noexcept;
  Status begin(const SocketAddress& address) noexcept;
  void connect_next(std::uint64_t now_ns) noexcept;
  void fail_address(const Error& error, std::uint64_t now_ns) noexcept;
  void secure(std::uint64_t now_ns) noexcept;
  void greet(std::uint64_t now_ns) noexcept;
  bool on_greeting(RespParser::Event event, std::uint64_t now_ns) noexcept;
  bool may_fail(Greeting step, std::uint64_t now_ns) noexcept;
  void leave(std::uint64_t now_ns) noexcept;
  void drop_socket() noexcept;
  void set_link(PeerState::Link link) noexcept;
  void watch(bool wants_write) noexcept;

  void receive(std::uint64_t now_ns) noexcept;
  bool read_inbox(std::uint64_t now_ns) noexcept;
  bool on_event(RespParser::Event event, std::uint64_t now_ns) noexcept;
  bool begin_value(std::uint64_t now_ns) noexcept;
  bool deliver(const Reply& reply, std::uint64_t now_ns) noexcept;
  void note_served() noexcept;
  bool end_error_reply(const ReplyError& known, CommandKind kind, std::uint64_t now_ns) noexcept;
  std::size_t add_sink_pieces(std::span<iovec> pieces, std::uint64_t& bytes) noexcept;
  void advance_sink(std::uint64_t bytes) noexcept;
  void copy_to_sink(std::span<const std::byte> bytes) noexcept;
  bool is_sink_dropped() const noexcept;
  std::size_t header_bytes_wanted() const noexcept;

  void send(std::uint64_t now_ns) noexcept;
  std::size_t gather(std::span<iovec> pieces) noexcept;
  void note_sent(std::uint64_t bytes) noexcept;
  void forget_bytes(const Command& command) noexcept;

  static constexpr std::size_t kInboxBytes = std::size_t{16} << 10;

  ConnectionContext& context_;
  const ConnectionKind& kind_;
  const std::uint32_t index_;
  State state_ = State::kWaiting;
  PeerState::Link link_ = PeerState::Link::kIdle;
  ReconnectBackoff backoff_;
  bool is_down_ = false;
  bool is_first_attempt_ = true;
  bool was_asked_ = false;      ///< Whether a caller has used it since it was ready.
  bool has_served_ = false;     ///< Since it is ready: an answer that was not an error.
  std::uint32_t unserved_ = 0;  ///< Connections in a row that were used and served nothing.
  bool is_suspect_ = false;
  bool is_leaving_ = false;
  bool must_prove_ = false;  ///< The last one that was ready served nothing.
  Error last_error_;
  std::uint32_t generation_ = 0;  ///< Events of an earlier socket are ignored.
  std::uint64_t attempt_ends_ns_ = kNever;
  std::vector<SocketAddress> addresses_;    ///< Left to try in this attempt.
  std::shared_ptr<const Secrets> secrets_;  ///< Used by this attempt, until it has greeted.

  UniqueFd socket_;  ///< While connecting; later the stream owns it.
  std::unique_ptr<Stream> stream_;
  ForkGuard guard_;  ///< For the socket: a child's copy would keep the connection open.
  bool is_write_watched_ = false;
  bool wants_turn_ = false;
  std::string greeting_;  ///< Bytes left to send.
  std::deque<Greeting> greeting_steps_;

  std::optional<RespParser> parser_;
  Sink sink_;
  bool value_fits_ = false;
  std::string text_;                  ///< Of a value that is read as text.
  std::span<const std::byte> inbox_;  ///< Bytes of inbox_bytes_ not read yet.
  std::vector<std::byte> inbox_bytes_;

  std::deque<Command> commands_;
  std::size_t first_unsent_ = 0;
  std::uint64_t bytes_in_flight_ = 0;
  std::uint64_t load_bytes_in_flight_ = 0;
  std::uint64_t last_progress_ns_ = 0;
};

}  // namespace larder::resp
