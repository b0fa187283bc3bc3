// The bytes of a connection: sending and receiving. connection.cc has its coming and going.
#include <algorithm>
#include <cstring>

#include "larder/base/check.h"
#include "larder/connectors/resp/connection.h"
#include "larder/connectors/resp/reply_error.h"

namespace larder::resp {
namespace {

constexpr std::size_t kCommandsMax = 512;
constexpr std::uint64_t kTurnBytes = std::uint64_t{1} << 20;  // Then the other connections.
constexpr std::size_t kTextBytesMax = std::size_t{64} << 10;

}  // namespace

// ---- Sending ------------------------------------------------------------------------------------

bool Connection::has_room(std::uint64_t cost_bytes) const noexcept {
  if (state_ != State::kReady || is_leaving_ || commands_.size() >= kCommandsMax) return false;
  return commands_.empty() || bytes_in_flight_ + cost_bytes <= context_.options.pipeline_bytes;
}

void Connection::push(Command command, std::uint64_t now_ns) {
  LARDER_CHECK(state_ == State::kReady);
  if (commands_.empty()) last_progress_ns_ = now_ns;
  was_asked_ = was_asked_ || !is_own(command.operation.kind);
  bytes_in_flight_ += command.cost_bytes;
  if (command.operation.kind == CommandKind::kGet) load_bytes_in_flight_ += command.cost_bytes;
  commands_.push_back(std::move(command));
}

const Command* Connection::half_sent() const noexcept {
  if (first_unsent_ >= commands_.size() || commands_[first_unsent_].sent_bytes == 0) return nullptr;
  return &commands_[first_unsent_];
}

void Connection::erase_unsent(std::size_t position) noexcept {
  LARDER_CHECK(position >= first_unsent_ && commands_[position].sent_bytes == 0);
  forget_bytes(commands_[position]);
  commands_.erase(commands_.begin() + static_cast<std::ptrdiff_t>(position));
}

void Connection::forget_bytes(const Command& command) noexcept {
  bytes_in_flight_ -= command.cost_bytes;
  if (command.operation.kind == CommandKind::kGet) load_bytes_in_flight_ -= command.cost_bytes;
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
    const std::size_t part = std::min<std::size_t>(size - skip, kTurnBytes - bytes);
    pieces[count++] = {static_cast<char*>(const_cast<void*>(data)) + skip, part};
    bytes += part;
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
    // `skip` counts everything that is left out only if the whole payload was visited.
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
    const bool was_half_sent = half_sent() != nullptr;
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
    sent += transfer.bytes;
    note_sent(transfer.bytes);
    // Sending new commands is not progress for those that wait for an answer.
    if (was_half_sent || half_sent() != nullptr) last_progress_ns_ = now_ns;
  }
  watch(wants_write);
}

// ---- Receiving ----------------------------------------------------------------------------------

bool Connection::is_sink_dropped() const noexcept {
  if (sink_.is_dropped) return true;
  return !commands_.empty() && commands_.front().operation.batch == nullptr && !sink_.is_text;
}

std::size_t Connection::add_sink_pieces(std::span<iovec> pieces, std::uint64_t& bytes) noexcept {
  const std::uint64_t left = std::min(parser_->payload_left(), kTurnBytes);
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

bool Connection::begin_value(std::uint64_t now_ns) noexcept {
  const Command& command = commands_.front();
  const std::uint64_t bytes = parser_->bulk_bytes();
  const Reply whole{.kind = Reply::Kind::kValue, .value_bytes = bytes};
  if (whole.is_too_large()) {
    // Only its length is needed, and a new connection costs less than reading its bytes.
    if (deliver(whole, now_ns)) lose(unavailable("a value on the server is above 1 GiB"), now_ns);
    return false;
  }
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
  return true;
}

bool Connection::deliver(const Reply& reply, std::uint64_t now_ns) noexcept {
  Command& command = commands_.front();
  if (reply.kind != Reply::Kind::kError) note_served();
  const bool is_wanted = command.operation.batch != nullptr || is_own(command.operation.kind);
  if (is_wanted && !context_.events.on_reply(*this, command, reply)) {
    lose(unavailable("an answer of the server is not one to what was asked"), now_ns);
    return false;
  }
  forget_bytes(command);
  commands_.pop_front();
  --first_unsent_;
  return true;
}

void Connection::note_served() noexcept {
  if (has_served_) return;
  has_served_ = true;
  unserved_ = 0;
  backoff_.reset();
  set_link(PeerState::Link::kConnected);
}

/// False: the connection goes.
bool Connection::end_error_reply(const ReplyError& known, CommandKind kind,
                                 std::uint64_t now_ns) noexcept {
  // A peer that has only answered with unknown errors may be a proxy without a server behind it.
  // An answer to INFO proves nothing: some servers do not have the command.
  const bool is_doubtful = !has_served_ && known.code.empty() && kind != CommandKind::kInfo;
  if (known.scope != ReplyError::Scope::kConnection && !is_doubtful) return true;
  lose(known.error, now_ns);
  return false;
}

bool Connection::on_event(RespParser::Event event, std::uint64_t now_ns) noexcept {
  using Event = RespParser::Event;
  if (state_ == State::kGreeting) return on_greeting(event, now_ns);
  if (first_unsent_ == 0) {
    // Arrived before anything was sent: a last message before the server closes.
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
      const CommandKind kind = commands_.front().operation.kind;
      if (!deliver({.kind = Reply::Kind::kError, .text = parser_->text()}, now_ns)) return false;
      return end_error_reply(known, kind, now_ns);
    }
    case Event::kInteger:
      return deliver({.kind = Reply::Kind::kInteger, .integer = parser_->integer()}, now_ns);
    case Event::kNull:
      return deliver({.kind = Reply::Kind::kNull}, now_ns);
    case Event::kBulk:
      return begin_value(now_ns);
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
  // Before a large value only its header is read into the inbox, so that the whole value goes
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
    // Nothing more is due, so another read would find nothing. (TLS may hold bytes back.)
    if (state_ == State::kReady && commands_.empty() && !context_.options.tls) return;
  }
}

}  // namespace larder::resp
