#include "larder/connectors/resp/connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>

#include "larder/base/check.h"
#include "larder/connectors/resp/reply_error.h"

namespace larder::resp {
namespace {

constexpr std::size_t kCommandsMax = 512;
constexpr std::uint64_t kTurnBytes = std::uint64_t{1} << 20;  // Then the other connections.
constexpr std::size_t kTextBytesMax = std::size_t{64} << 10;

Error unavailable(const char* what) noexcept {
  return {ErrorCode::kUnavailable, "resp", what};
}

}  // namespace

Connection::Connection(ConnectionContext& context, std::uint32_t index, std::uint64_t seed)
    : context_(context),
      index_(index),
      backoff_(context.options.reconnect, seed),
      inbox_bytes_(kInboxBytes) {
  context_.peer.add_worker();
}

// ---- Coming and going ---------------------------------------------------------------------------

void Connection::set_link(PeerState::Link link) noexcept {
  if (link == link_) return;
  context_.peer.change(link_, link);
  link_ = link;
}

void Connection::begin_attempt(std::uint64_t now_ns) noexcept {
  is_first_attempt_ = false;
  attempt_ends_ns_ = now_ns + context_.options.connect_timeout_ns;
  backoff_.note_connected();  // Nothing is due while this attempt runs.
  state_ = State::kResolving;
  on_resolved(now_ns);
}

void Connection::on_resolved(std::uint64_t now_ns) noexcept {
  if (state_ != State::kResolving) return;
  auto addresses = context_.resolver.resolve();
  if (!addresses) return lose(addresses.error(), now_ns);
  if (addresses->empty()) return;
  addresses_ = std::move(*addresses);
  connect_next(now_ns);
}

void Connection::connect_next(std::uint64_t now_ns) noexcept {
  auto socket = begin_connect(addresses_.front());
  addresses_.erase(addresses_.begin());
  if (!socket) return fail_address(socket.error(), now_ns);
  socket_ = std::move(*socket);
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
  if (!options.password.empty()) {
    greeting_ += options.username.empty()
                     ? encode_command({"AUTH", options.password})
                     : encode_command({"AUTH", options.username, options.password});
    greeting_steps_.push_back(Greeting::kAuth);
  }
  if (options.database != 0) {
    greeting_ += encode_command({"SELECT", std::to_string(options.database)});
    greeting_steps_.push_back(Greeting::kSelect);
  }
  greeting_ += encode_command({"CLIENT", "SETNAME", "larder"});
  greeting_steps_.push_back(Greeting::kName);
  // Answers +OK to nobody who may not work yet: LOADING, BUSY and NOAUTH show here.
  greeting_ += encode_command({"PING"});
  greeting_steps_.push_back(Greeting::kPing);
  parser_.emplace(ParserLimits{.bulk_bytes_max = kValueBytesMax});
  send(now_ns);
}

bool Connection::on_greeting(RespParser::Event event, std::uint64_t now_ns) noexcept {
  const bool is_error = event == RespParser::Event::kError;
  if ((event != RespParser::Event::kSimple && !is_error) || greeting_steps_.empty()) {
    lose(unavailable("what answers there is not a Redis server"), now_ns);
    return false;
  }
  const Greeting step = greeting_steps_.front();
  greeting_steps_.pop_front();
  // Who may not PING but is asked for no password may work.
  const bool may_fail =
      step == Greeting::kName || (step == Greeting::kPing && parser_->text().starts_with("NOPERM"));
  if (is_error && !may_fail) {
    Error error = find_reply_error(parser_->text()).error;
    if (find_reply_error(parser_->text()).code.empty()) {
      error = unavailable(step == Greeting::kAuth ? "the server refuses AUTH: is it set up with a "
                                                    "password, and for this user?"
                          : step == Greeting::kSelect
                              ? "the server has no database of that number; see its 'databases'"
                              : "the server answers PING with an error");
    }
    lose(error, now_ns);
    return false;
  }
  // A server that refuses everybody says so once, in answer to nothing.
  if (is_error && find_reply_error(parser_->text()).scope == ReplyError::Scope::kConnection) {
    lose(find_reply_error(parser_->text()).error, now_ns);
    return false;
  }
  if (!greeting_steps_.empty()) return true;
  state_ = State::kReady;
  attempt_ends_ns_ = kNever;
  addresses_.clear();
  is_down_ = false;
  has_answered_ = false;
  last_progress_ns_ = now_ns;
  set_link(PeerState::Link::kConnected);
  context_.events.on_ready(*this);
  return true;
}

void Connection::drop_socket() noexcept {
  stream_.reset();
  socket_.reset();
  parser_.reset();
  inbox_ = {};
  greeting_.clear();
  wants_turn_ = false;
}

void Connection::lose(const Error& error, std::uint64_t now_ns) noexcept {
  if (state_ == State::kWaiting || state_ == State::kClosed) return;
  const bool was_ready = state_ == State::kReady;
  drop_socket();
  state_ = State::kWaiting;
  addresses_.clear();
  attempt_ends_ns_ = kNever;
  last_error_ = error;
  // A connection that served and went (a restart, CLIENT KILL, an idle time-out) is no failure yet.
  if (was_ready && has_answered_) backoff_.reset();
  backoff_.note_failure(now_ns);
  if (!was_ready) {
    is_down_ = true;
    context_.peer.note_failure(error);
  }
  set_link(was_ready ? PeerState::Link::kIdle : PeerState::Link::kDown);
  std::deque<Command> commands;
  commands.swap(commands_);
  first_unsent_ = 0;
  bytes_in_flight_ = 0;
  context_.events.on_lost(*this, std::move(commands), error);
}

void Connection::close(const Error& error) noexcept {
  drop_socket();
  state_ = State::kClosed;
  set_link(PeerState::Link::kIdle);
  std::deque<Command> commands;
  commands.swap(commands_);
  first_unsent_ = 0;
  bytes_in_flight_ = 0;
  context_.events.on_lost(*this, std::move(commands), error);
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
    stream_ = context_.tls == nullptr ? make_plain_stream(std::move(socket_))
                                      : context_.tls->connect(std::move(socket_));
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
    case State::kConnecting:
    case State::kSecuring:
    case State::kGreeting:
      return attempt_ends_ns_;
    case State::kReady:
      return commands_.empty() ? kNever : last_progress_ns_ + context_.options.timeout_ns;
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
      return lose(unavailable("the server does not answer"), now_ns);
    case State::kResolving:
      return lose(unavailable("the server's name has no answer in time"), now_ns);
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

// ---- Sending ------------------------------------------------------------------------------------

bool Connection::has_room(std::uint64_t cost_bytes) const noexcept {
  if (state_ != State::kReady || commands_.size() >= kCommandsMax) return false;
  return commands_.empty() || bytes_in_flight_ + cost_bytes <= context_.options.pipeline_bytes;
}

void Connection::push(Command command, std::uint64_t now_ns) {
  LARDER_CHECK(state_ == State::kReady);
  if (commands_.empty()) last_progress_ns_ = now_ns;
  bytes_in_flight_ += command.cost_bytes;
  commands_.push_back(std::move(command));
}

const Command* Connection::half_sent() const noexcept {
  if (first_unsent_ >= commands_.size() || commands_[first_unsent_].sent_bytes == 0) return nullptr;
  return &commands_[first_unsent_];
}

void Connection::erase_unsent(std::size_t position) noexcept {
  LARDER_CHECK(position >= first_unsent_ && commands_[position].sent_bytes == 0);
  bytes_in_flight_ -= commands_[position].cost_bytes;
  commands_.erase(commands_.begin() + static_cast<std::ptrdiff_t>(position));
}

void Connection::flush(std::uint64_t now_ns) noexcept {
  if (state_ == State::kReady && first_unsent_ < commands_.size() && !is_write_watched_) {
    send(now_ns);
  }
}

std::size_t Connection::gather(std::span<iovec> pieces) noexcept {
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  const auto add = [&](const void* data, std::size_t size, std::uint64_t& skip) {
    if (skip >= size) {
      skip -= size;
      return;
    }
    if (count == pieces.size() || bytes >= kTurnBytes) return;
    pieces[count++] = {static_cast<char*>(const_cast<void*>(data)) + skip, size - skip};
    bytes += size - skip;
    skip = 0;
  };
  std::uint64_t skip = 0;
  if (!greeting_.empty()) add(greeting_.data(), greeting_.size(), skip);
  for (std::size_t i = first_unsent_; i < commands_.size(); ++i) {
    if (count == pieces.size() || bytes >= kTurnBytes) break;
    const Command& command = commands_[i];
    skip = command.sent_bytes;
    add(command.head.data(), command.head.size(), skip);
    for (const Slice& slice : command.payload) {
      if (count == pieces.size() || bytes >= kTurnBytes) break;
      add(slice.data, slice.bytes, skip);
    }
    // `skip` counts all that is left out only if all of the payload was looked at.
    if (count < pieces.size() && bytes < kTurnBytes) {
      add(command.tail.data(), command.tail.size(), skip);
    }
  }
  return count;
}

void Connection::note_sent(std::uint64_t bytes) noexcept {
  const std::uint64_t greeted = std::min<std::uint64_t>(bytes, greeting_.size());
  greeting_.erase(0, greeted);
  bytes -= greeted;
  while (bytes > 0) {
    Command& command = commands_[first_unsent_];
    const std::uint64_t left = command.total_bytes() - command.sent_bytes;
    const std::uint64_t part = std::min(bytes, left);
    command.sent_bytes += part;
    bytes -= part;
    if (command.is_sent()) ++first_unsent_;
  }
}

void Connection::send(std::uint64_t now_ns) noexcept {
  std::array<iovec, 64> pieces{};
  std::uint64_t sent = 0;
  bool wants_write = false;
  for (;;) {
    const std::size_t count = gather(pieces);
    if (count > 0 && sent >= kTurnBytes) {
      wants_turn_ = true;
      break;
    }
    const Transfer transfer =
        count == 0 ? stream_->flush() : stream_->write(std::span{pieces}.first(count));
    if (transfer.kind == Transfer::Kind::kFailed || transfer.kind == Transfer::Kind::kEnded) {
      // An error reply may say why the server closed.
      receive(now_ns);
      if (stream_ != nullptr) {
        lose(transfer.kind == Transfer::Kind::kFailed
                 ? transfer.error
                 : unavailable("the server closed the connection"),
             now_ns);
      }
      return;
    }
    wants_write = transfer.kind == Transfer::Kind::kWantWrite;
    if (transfer.kind != Transfer::Kind::kDone || count == 0) break;
    last_progress_ns_ = now_ns;
    sent += transfer.bytes;
    note_sent(transfer.bytes);
  }
  watch(wants_write);
}

// ---- Receiving ----------------------------------------------------------------------------------

bool Connection::is_sink_dropped() const noexcept {
  if (sink_.is_dropped) return true;
  return !commands_.empty() && commands_.front().operation.batch == nullptr && !sink_.is_text;
}

std::size_t Connection::add_sink_pieces(std::span<iovec> pieces, std::uint64_t& bytes) noexcept {
  const std::uint64_t left = parser_->payload_left();
  bytes = 0;
  if (is_sink_dropped() || sink_.is_text) {
    bytes = std::min<std::uint64_t>(left, context_.drain.size());
    pieces[0] = {context_.drain.data(), static_cast<std::size_t>(bytes)};
    return 1;
  }
  std::size_t count = 0;
  std::size_t offset = sink_.offset;
  for (std::size_t i = sink_.slice; i < sink_.slices.size() && count < pieces.size(); ++i) {
    const Slice& slice = sink_.slices[i];
    const std::uint64_t part = std::min<std::uint64_t>(slice.bytes - offset, left - bytes);
    if (part > 0) {
      pieces[count++] = {slice.data + offset, static_cast<std::size_t>(part)};
      bytes += part;
    }
    offset = 0;
    if (bytes == left) break;
  }
  return count;
}

void Connection::advance_sink(std::uint64_t bytes) noexcept {
  parser_->took_payload(bytes);
  if (is_sink_dropped() || sink_.is_text) return;
  if (bytes > 0) commands_.front().operation.is_begun = true;
  while (bytes > 0) {
    const Slice& slice = sink_.slices[sink_.slice];
    const std::uint64_t part = std::min<std::uint64_t>(slice.bytes - sink_.offset, bytes);
    sink_.offset += part;
    bytes -= part;
    if (sink_.offset == slice.bytes) {
      ++sink_.slice;
      sink_.offset = 0;
    }
  }
}

void Connection::copy_to_sink(std::span<const std::byte> bytes) noexcept {
  if (is_sink_dropped() || sink_.is_text) {
    if (sink_.is_text && text_.size() < kTextBytesMax) {
      text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return advance_sink(bytes.size());
  }
  while (!bytes.empty()) {
    std::array<iovec, 1> piece{};
    std::uint64_t room = 0;
    add_sink_pieces(piece, room);
    const std::size_t part = std::min<std::size_t>(bytes.size(), room);
    std::memcpy(piece[0].iov_base, bytes.data(), part);
    advance_sink(part);
    bytes = bytes.subspan(part);
  }
}

void Connection::begin_value() noexcept {
  const Command& command = commands_.front();
  const std::uint64_t bytes = parser_->bulk_bytes();
  sink_ = Sink{};
  value_fits_ = false;
  if (command.operation.kind == CommandKind::kInfo) {
    text_.clear();
    sink_.is_text = true;
    sink_.is_dropped = false;
  } else if (command.operation.kind == CommandKind::kGet && command.operation.batch != nullptr) {
    value_fits_ =
        bytes == command.target_bytes || (bytes < command.target_bytes && command.allows_shorter);
    sink_.is_dropped = !value_fits_;
    sink_.slices = command.target;
  }
}

bool Connection::deliver(const Reply& reply, std::uint64_t now_ns) noexcept {
  Command& command = commands_.front();
  has_answered_ = true;
  const bool is_wanted =
      command.operation.batch != nullptr || command.operation.kind == CommandKind::kInfo;
  if (is_wanted && !context_.events.on_reply(*this, command, reply)) {
    lose(unavailable("an answer of the server is not one to what was asked"), now_ns);
    return false;
  }
  bytes_in_flight_ -= command.cost_bytes;
  commands_.pop_front();
  --first_unsent_;
  backoff_.reset();
  return true;
}

bool Connection::on_event(RespParser::Event event, std::uint64_t now_ns) noexcept {
  using Event = RespParser::Event;
  if (state_ == State::kGreeting) return on_greeting(event, now_ns);
  if (first_unsent_ == 0) {
    // Before what was asked has left: only a last word before the server closes.
    lose(event == Event::kError ? find_reply_error(parser_->text()).error
                                : unavailable("the server speaks without being asked"),
         now_ns);
    return false;
  }
  switch (event) {
    case Event::kSimple:
      return deliver({.kind = Reply::Kind::kSimple, .text = parser_->text()}, now_ns);
    case Event::kError: {
      const ReplyError& known = find_reply_error(parser_->text());
      if (!deliver({.kind = Reply::Kind::kError, .text = parser_->text()}, now_ns)) return false;
      if (known.scope != ReplyError::Scope::kConnection) return true;
      lose(known.error, now_ns);
      return false;
    }
    case Event::kInteger:
      return deliver({.kind = Reply::Kind::kInteger, .integer = parser_->integer()}, now_ns);
    case Event::kNull:
      return deliver({.kind = Reply::Kind::kNull}, now_ns);
    case Event::kBulk:
      begin_value();
      return true;
    case Event::kBulkEnd:
      return deliver({.kind = Reply::Kind::kValue,
                      .text = sink_.is_text ? std::string_view{text_} : std::string_view{},
                      .value_bytes = parser_->bulk_bytes(),
                      .fits = value_fits_ && !is_sink_dropped()},
                     now_ns);
    case Event::kArray:
    case Event::kBroken:
    case Event::kNeedMore:
      break;
  }
  lose(unavailable("the server answers with a list"), now_ns);
  return false;
}

bool Connection::read_inbox(std::uint64_t now_ns) noexcept {
  for (;;) {
    if (parser_->payload_left() > 0) {
      if (inbox_.empty()) return true;
      const auto part = inbox_.first(
          std::min<std::size_t>(inbox_.size(), static_cast<std::size_t>(parser_->payload_left())));
      inbox_ = inbox_.subspan(part.size());
      copy_to_sink(part);
      continue;
    }
    const RespParser::Event event = parser_->next(inbox_);
    if (event == RespParser::Event::kNeedMore) return true;
    if (event == RespParser::Event::kBroken) {
      lose(unavailable(parser_->broken_why()), now_ns);
      return false;
    }
    if (!on_event(event, now_ns)) return false;
  }
}

std::size_t Connection::header_bytes_wanted() const noexcept {
  // Before a large value only its header is read to the inbox, so that all of the value goes
  // straight to its place.
  constexpr std::size_t kHeaderBytes = 64;
  constexpr std::uint64_t kLargeBytes = 8192;
  const bool is_large = !commands_.empty() && commands_.front().target_bytes >= kLargeBytes &&
                        parser_->is_between_replies();
  return is_large ? kHeaderBytes : kInboxBytes;
}

void Connection::receive(std::uint64_t now_ns) noexcept {
  std::uint64_t received = 0;
  for (;;) {
    if (received >= kTurnBytes) {
      wants_turn_ = true;
      return;
    }
    std::array<iovec, 64> pieces{};
    std::uint64_t payload = 0;
    std::size_t count = 0;
    if (parser_->payload_left() > 0) {
      count = add_sink_pieces(std::span{pieces}.first(pieces.size() - 1), payload);
    }
    const bool is_text = parser_->payload_left() > 0 && sink_.is_text;
    if (payload == parser_->payload_left()) {
      pieces[count++] = {inbox_bytes_.data(), payload > 0 ? kInboxBytes : header_bytes_wanted()};
    }
    const Transfer transfer = stream_->read(std::span{pieces}.first(count));
    switch (transfer.kind) {
      case Transfer::Kind::kDone:
        break;
      case Transfer::Kind::kWantRead:
        return;
      case Transfer::Kind::kWantWrite:
        return watch(true);
      case Transfer::Kind::kEnded:
        return lose(unavailable("the server closed the connection"), now_ns);
      case Transfer::Kind::kFailed:
        return lose(transfer.error, now_ns);
    }
    last_progress_ns_ = now_ns;
    received += transfer.bytes;
    const std::uint64_t to_sink = std::min(transfer.bytes, payload);
    if (is_text) {
      copy_to_sink(std::span{context_.drain}.first(static_cast<std::size_t>(to_sink)));
    } else if (to_sink > 0) {
      advance_sink(to_sink);
    }
    inbox_ = std::span{inbox_bytes_}.first(static_cast<std::size_t>(transfer.bytes - to_sink));
    if (!read_inbox(now_ns)) return;
    // Nothing more is due, so one more read would only find nothing. (TLS may hold bytes back.)
    if (state_ == State::kReady && commands_.empty() && context_.tls == nullptr) return;
  }
}

}  // namespace larder::resp
