#include "larder/connectors/resp/resp_parser.h"

#include <charconv>

#include "larder/base/check.h"

namespace larder::resp {
namespace {

/// The longest number is -9223372036854775808.
constexpr std::size_t kNumberBytesMax = 20;

}  // namespace

RespParser::Event RespParser::break_with(const char* why) noexcept {
  state_ = State::kBroken;
  broken_why_ = why;
  payload_left_ = 0;
  return Event::kBroken;
}

RespParser::Event RespParser::start(std::byte type) noexcept {
  type_ = static_cast<char>(type);
  if (type_ != '+' && type_ != '-' && type_ != ':' && type_ != '$' && type_ != '*') {
    return break_with("a reply begins with an unknown type");
  }
  line_bytes_ = 0;
  text_bytes_ = 0;
  state_ = State::kLine;
  return Event::kNeedMore;
}

RespParser::Event RespParser::add_to_line(std::byte byte) noexcept {
  const char c = static_cast<char>(byte);
  if (c == '\r') {
    state_ = State::kLineEnd;
    return Event::kNeedMore;
  }
  if (c == '\n') return break_with("a line feed stands alone in a reply");
  const bool is_number = type_ == ':' || type_ == '$' || type_ == '*';
  if (++line_bytes_ > (is_number ? kNumberBytesMax : limits_.line_bytes_max)) {
    return break_with(is_number ? "a number in a reply is too long" : "a reply's line is too long");
  }
  if (text_bytes_ < text_.size()) text_[text_bytes_++] = c;
  return Event::kNeedMore;
}

RespParser::Event RespParser::end_number_line() noexcept {
  const char* const end = text_.data() + text_bytes_;
  const auto [stopped, error] = std::from_chars(text_.data(), end, integer_);
  // from_chars() takes "-0" and leading zeros, which no server writes, but which do no harm.
  if (error != std::errc{} || stopped != end) return break_with("a number in a reply is not one");
  if (type_ == ':') return Event::kInteger;
  if (integer_ == -1) return Event::kNull;
  if (integer_ < 0) return break_with("a length in a reply is negative");
  const auto length = static_cast<std::uint64_t>(integer_);
  if (type_ == '*') {
    if (length > limits_.array_elements_max) return break_with("an array in a reply is too long");
    return Event::kArray;
  }
  if (length > limits_.bulk_bytes_max) return break_with("a value in a reply is too long");
  bulk_bytes_ = length;
  payload_left_ = length;
  has_cr_ = false;
  state_ = length == 0 ? State::kPayloadEnd : State::kPayload;
  return Event::kBulk;
}

RespParser::Event RespParser::end_line() noexcept {
  state_ = State::kStart;
  if (type_ == '+') return Event::kSimple;
  if (type_ == '-') return Event::kError;
  return end_number_line();
}

RespParser::Event RespParser::next(std::span<const std::byte>& input) noexcept {
  LARDER_CHECK(payload_left_ == 0);
  if (state_ == State::kBroken) return Event::kBroken;
  while (!input.empty()) {
    const std::byte byte = input.front();
    input = input.subspan(1);
    Event event = Event::kNeedMore;
    switch (state_) {
      case State::kStart:
        event = start(byte);
        break;
      case State::kLine:
        event = add_to_line(byte);
        break;
      case State::kLineEnd:
        event = byte == std::byte{'\n'} ? end_line()
                                        : break_with("a carriage return stands alone in a reply");
        break;
      case State::kPayload:
      case State::kPayloadEnd:
        if (byte != std::byte(has_cr_ ? '\n' : '\r')) {
          return break_with("a value in a reply does not end where it should");
        }
        if (has_cr_) {
          state_ = State::kStart;
          event = Event::kBulkEnd;
        }
        has_cr_ = true;
        break;
      case State::kBroken:
        break;
    }
    if (event != Event::kNeedMore) return event;
  }
  return Event::kNeedMore;
}

void RespParser::took_payload(std::uint64_t bytes) noexcept {
  LARDER_CHECK(bytes <= payload_left_);
  payload_left_ -= bytes;
  if (payload_left_ == 0 && state_ == State::kPayload) state_ = State::kPayloadEnd;
}

}  // namespace larder::resp
