#include "larder/connectors/resp/connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "larder/base/check.h"
#include "larder/connectors/resp/reply_error.h"

namespace larder::resp {
Connection::Connection(ConnectionContext& context, const ConnectionKind& kind, std::uint32_t index,
                       std::uint64_t seed)
    : context_(context),
      kind_(kind),
      index_(index),
      backoff_(context.options.reconnect, seed),
      inbox_bytes_(kInboxBytes) {
  kind_.peer.add_worker();
}

void Connection::set_link(PeerState::Link link) noexcept {
  if (link == link_) return;
  kind_.peer.change(link_, link);
  link_ = link;
}

void Connection::begin_attempt(std::uint64_t now_ns) noexcept {
  is_first_attempt_ = false;
  attempt_ends_ns_ = now_ns + context_.options.connect_timeout_ns;
  backoff_.note_connected();  // Nothing is due while this attempt runs.
  secrets_ = nullptr;
  state_ = State::kResolving;
  on_resolved(now_ns);
}

void Connection::on_resolved(std::uint64_t now_ns) noexcept {
  if (state_ != State::kResolving) return;
  if (secrets_ == nullptr) secrets_ = context_.secrets.current();
  auto addresses = context_.resolver.resolve();
  if (!addresses) return lose(addresses.error(), now_ns);
  if (addresses->empty() || secrets_ == nullptr) return;
  addresses_ = std::move(*addresses);
  connect_next(now_ns);
}

Status Connection::begin(const SocketAddress& address) noexcept {
  const NoFork no_fork;
  LARDER_ASSIGN(socket_, begin_connect(address));
  guard_ = ForkGuard{socket_.get()};
  return {};
}

void Connection::connect_next(std::uint64_t now_ns) noexcept {
  const Status begun = begin(addresses_.front());
  addresses_.erase(addresses_.begin());
  if (!begun) return fail_address(begun.error(), now_ns);
  state_ = State::kConnecting;
  epoll_event watched{};
  watched.events = EPOLLIN | EPOLLOUT;
  watched.data.u64 = (std::uint64_t{index_} << 32) | ++generation_;
  is_write_watched_ = true;
  if (::epoll_ctl(context_.epoll_fd, EPOLL_CTL_ADD, socket_.get(), &watched) != 0) {
    fail_address(unavailable("the socket cannot be waited for"), now_ns);
  }
}

void Connection::fail_address(const Error& error, std::uint64_t now_ns) noexcept {
  if (addresses_.empty()) return lose(error, now_ns);
  drop_socket();
  connect_next(now_ns);
}

void Connection::secure(std::uint64_t now_ns) noexcept {
  const Transfer transfer = stream_->handshake();
  switch (transfer.kind) {
    case Transfer::Kind::kDone:
      state_ = State::kGreeting;
      return greet(now_ns);
    case Transfer::Kind::kWantRead:
      return watch(false);
    case Transfer::Kind::kWantWrite:
      return watch(true);
    case Transfer::Kind::kEnded:
      return lose(unavailable("the server closed the connection"), now_ns);
    case Transfer::Kind::kFailed:
      return lose(transfer.error, now_ns);
  }
}

void Connection::greet(std::uint64_t now_ns) noexcept {
  const RespOptions& options = context_.options;
  greeting_.clear();
  greeting_steps_.clear();
  const std::string& password = secrets_->password;
  if (!password.empty()) {
    greeting_ += options.username.empty() ? encode_command({"AUTH", password})
                                          : encode_command({"AUTH", options.username, password});
    greeting_steps_.push_back(Greeting::kAuth);
  }
  if (options.database != 0) {
    greeting_ += encode_command({"SELECT", std::to_string(options.database)});
    greeting_steps_.push_back(Greeting::kSelect);
  }
  greeting_ += encode_command({"CLIENT", "SETNAME", "larder"});
  greeting_steps_.push_back(Greeting::kName);
  // LOADING, BUSY and NOAUTH show here: a server that answers +OK may still refuse to work.
  greeting_ += encode_command({"PING"});
  greeting_steps_.push_back(Greeting::kPing);
  if (must_prove_) {
    greeting_ += kind_.probe;
    greeting_steps_.push_back(Greeting::kProbe);
  }
  sink_ = Sink{};  // Should the probe's key have a value, it is dropped.
  // Values that are too large are for begin_value() to see.
  parser_.emplace(ParserLimits{.bulk_bytes_max = std::numeric_limits<std::int64_t>::max()});
  send(now_ns);
}

bool Connection::on_greeting(RespParser::Event event, std::uint64_t now_ns) noexcept {
  using Event = RespParser::Event;
  const bool is_probe = !greeting_steps_.empty() && greeting_steps_.front() == Greeting::kProbe;
  if (is_probe && event == Event::kBulk) return true;
  const bool is_value =
      event == Event::kNull || event == Event::kInteger || event == Event::kBulkEnd;
  const bool is_answer =
      event == Event::kError || event == Event::kSimple || (is_probe && is_value);
  if (!is_answer || greeting_steps_.empty()) {
    lose(unavailable("what answers there is not a Redis server"), now_ns);
    return false;
  }
  const Greeting step = greeting_steps_.front();
  greeting_steps_.pop_front();
  if (event == Event::kError && !may_fail(step, now_ns)) return false;
  if (!greeting_steps_.empty()) return true;
  state_ = State::kReady;
  attempt_ends_ns_ = kNever;
  addresses_.clear();
  is_down_ = false;
  is_suspect_ = false;
  is_leaving_ = false;
  must_prove_ = false;
  was_asked_ = false;
  has_served_ = false;
  last_progress_ns_ = now_ns;
  set_link(PeerState::Link::kGreeted);
  context_.events.on_ready(*this);
  return true;
}

/// Whether the greeting may continue after this error. If not, the connection is lost.
bool Connection::may_fail(Greeting step, std::uint64_t now_ns) noexcept {
  const ReplyError& known = find_reply_error(parser_->text());
  Error error = known.error;
  if (known.code.empty()) {
    switch (step) {
      case Greeting::kAuth:
        error = unavailable(
            "the server refuses AUTH: is it set up with a password, and for this user?");
        break;
      case Greeting::kSelect:
        error = unavailable("the server has no database of that number; see its 'databases'");
        break;
      case Greeting::kName:
        return true;
      case Greeting::kPing:
        error = unavailable("the server answers PING with an error");
        break;
      case Greeting::kProbe:
        error = unavailable("the server greets and answers everything else with an error");
        break;
    }
  }
  // A server that refuses every client says so once, unasked.
  const bool is_everybody = known.scope == ReplyError::Scope::kConnection;
  const bool is_optional = step == Greeting::kName ||
                           // A client that may not PING, but needs no password, may work.
                           (step == Greeting::kPing && known.code == "NOPERM") ||
                           (step == Greeting::kProbe && known.scope == ReplyError::Scope::kSome);
  if (is_optional && !is_everybody) return true;
  lose(error, now_ns);
  return false;
}

void Connection::drop_socket() noexcept {
  guard_ = {};
  stream_.reset();
  socket_.reset();
  parser_.reset();
  inbox_ = {};
  greeting_.clear();
  wants_turn_ = false;
}

void Connection::leave(std::uint64_t now_ns) noexcept {
  drop_socket();
  set_link(PeerState::Link::kIdle);
  begin_attempt(now_ns);
}

void Connection::lose(const Error& error, std::uint64_t now_ns) noexcept {
  if (state_ == State::kWaiting || state_ == State::kClosed) return;
  const bool was_ready = state_ == State::kReady;
  drop_socket();
  state_ = State::kWaiting;
  addresses_.clear();
  attempt_ends_ns_ = kNever;
  last_error_ = error;
  // A connection that served and was lost (a restart, CLIENT KILL, an idle time-out) is no failure
  // yet, nor is one that was never used; one that was used and served nothing is.
  const bool has_failed = !was_ready || (!has_served_ && was_asked_);
  if (was_ready && has_failed) {
    must_prove_ = true;
    ++unserved_;
  }
  if (was_ready && has_served_) backoff_.reset();
  backoff_.note_failure(now_ns);
  if (has_failed) {
    // After the first one that served nothing its commands may wait for the next.
    is_down_ = !was_ready || unserved_ > 1;
    kind_.peer.note_failure(error);
  }
  set_link(has_failed ? PeerState::Link::kDown : PeerState::Link::kIdle);
  std::deque<Command> commands;
  commands.swap(commands_);
  first_unsent_ = 0;
  bytes_in_flight_ = 0;
  load_bytes_in_flight_ = 0;
  context_.events.on_lost(*this, std::move(commands), error, was_ready);
}

void Connection::close(const Error& error) noexcept {
  drop_socket();
  state_ = State::kClosed;
  set_link(PeerState::Link::kIdle);
  std::deque<Command> commands;
  commands.swap(commands_);
  first_unsent_ = 0;
  bytes_in_flight_ = 0;
  load_bytes_in_flight_ = 0;
  context_.events.on_lost(*this, std::move(commands), error, false);
}

void Connection::watch(bool wants_write) noexcept {
  if (wants_write == is_write_watched_) return;
  is_write_watched_ = wants_write;
  epoll_event watched{};
  watched.events = wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN;
  watched.data.u64 = (std::uint64_t{index_} << 32) | generation_;
  ::epoll_ctl(context_.epoll_fd, EPOLL_CTL_MOD, stream_->fd(), &watched);
}

void Connection::on_io(std::uint32_t epoll_events, std::uint32_t generation,
                       std::uint64_t now_ns) noexcept {
  if (generation != generation_) return;
  if (state_ == State::kConnecting) {
    if (const Status connected = end_connect(socket_.get()); !connected) {
      return fail_address(connected.error(), now_ns);
    }
    stream_ = secrets_->tls == nullptr ? make_plain_stream(std::move(socket_))
                                       : secrets_->tls->connect(std::move(socket_));
    if (stream_ == nullptr) return lose(unavailable("OpenSSL gives no connection"), now_ns);
    state_ = State::kSecuring;
  }
  if (state_ == State::kSecuring) return secure(now_ns);
  if (state_ != State::kGreeting && state_ != State::kReady) return;
  // Writing may have waited for the peer's bytes (TLS), so it is tried whatever the event.
  if ((epoll_events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) receive(now_ns);
  if (state_ == State::kGreeting || state_ == State::kReady) send(now_ns);
}

void Connection::on_turn(std::uint64_t now_ns) noexcept {
  wants_turn_ = false;
  if (state_ != State::kReady) return;
  receive(now_ns);
  if (state_ == State::kReady) send(now_ns);
}

std::uint64_t Connection::next_time_ns() const noexcept {
  switch (state_) {
    case State::kWaiting:
      return is_first_attempt_ ? 0 : backoff_.retry_at_ns();
    case State::kResolving:
      if (secrets_ != nullptr) return attempt_ends_ns_;
      return std::min(attempt_ends_ns_, context_.secrets.patience_ends_ns());
    case State::kConnecting:
    case State::kSecuring:
    case State::kGreeting:
      return attempt_ends_ns_;
    case State::kReady:
      if (commands_.empty()) return is_leaving_ ? 0 : kNever;
      return last_progress_ns_ + context_.options.timeout_ns;
    case State::kClosed:
      break;
  }
  return kNever;
}

void Connection::on_time(std::uint64_t now_ns) noexcept {
  if (now_ns < next_time_ns()) return;
  switch (state_) {
    case State::kWaiting:
      return begin_attempt(now_ns);
    case State::kReady:
      if (commands_.empty()) return leave(now_ns);
      return lose(unavailable("the server does not answer"), now_ns);
    case State::kResolving:
      if (now_ns < attempt_ends_ns_) return on_resolved(now_ns);
      return lose(
          unavailable(secrets_ == nullptr ? "the password and TLS files cannot be read in time"
                                          : "the server's name has no answer in time"),
          now_ns);
    case State::kConnecting:
      return fail_address(unavailable("the server does not accept the connection in time"), now_ns);
    case State::kSecuring:
      return lose(unavailable("the server does not answer the TLS handshake in time; does it speak "
                              "TLS on this port?"),
                  now_ns);
    case State::kGreeting:
      return lose(unavailable("the server accepts the connection but does not answer"), now_ns);
    case State::kClosed:
      return;
  }
}

}  // namespace larder::resp
