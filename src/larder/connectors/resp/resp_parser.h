#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace larder::resp {

struct ParserLimits {
  std::uint64_t bulk_bytes_max = std::uint64_t{512} << 20;  ///< Redis' own proto-max-bulk-len.
  std::uint64_t array_elements_max = std::uint64_t{1} << 20;
  std::size_t line_bytes_max = std::size_t{64} << 10;  ///< Of a simple or an error reply.
};

/// Reads replies of the Redis protocol (RESP2) as they arrive, in pieces of any length.
///
/// Its results are events. The payload of a bulk string does not pass through here: after kBulk the
/// caller takes payload_left() bytes from wherever it has them, straight into their place, and
/// tells so by took_payload(); then next() reads the end. An array is its header only; its elements
/// follow as events of their own.
///
/// Bounded: it allocates nothing, keeps the first kTextBytesMax bytes of a line, and refuses
/// lengths beyond the limits before it uses them. Once broken, it stays broken: the start of the
/// next reply cannot be found.
/// One thread at a time.
class RespParser {
 public:
  enum class Event : std::uint8_t {
    kNeedMore = 0,  ///< The input is used up.
    kSimple,        ///< text()
    kError,         ///< text(), without the '-'.
    kInteger,       ///< integer()
    kNull,          ///< A null bulk string or a null array.
    kBulk,          ///< bulk_bytes() bytes of payload follow.
    kBulkEnd,       ///< All elements were taken, and the end is right.
    kArray,         ///< integer() elements follow.
    kBroken,        ///< Not RESP2, or beyond a limit: broken_why().
  };
  static constexpr std::size_t kTextBytesMax = 256;

  explicit RespParser(const ParserLimits& limits = {}) noexcept : limits_(limits) {}

  /// Takes bytes off the front of `input` until something is known. Not while payload_left() > 0.
  Event next(std::span<const std::byte>& input) noexcept;

  std::uint64_t payload_left() const noexcept { return payload_left_; }
  /// At most payload_left().
  void took_payload(std::uint64_t bytes) noexcept;

  /// Of the last kSimple or kError; cut at kTextBytesMax. Valid until the next call of next().
  std::string_view text() const noexcept { return {text_.data(), text_bytes_}; }
  std::int64_t integer() const noexcept { return integer_; }
  std::uint64_t bulk_bytes() const noexcept { return bulk_bytes_; }
  /// A literal.
  const char* broken_why() const noexcept { return broken_why_; }
  /// Between two replies: none has begun without its end. (Arrays: between two elements.)
  bool is_between_replies() const noexcept { return state_ == State::kStart; }

 private:
  enum class State : std::uint8_t { kStart = 0, kLine, kLineEnd, kPayload, kPayloadEnd, kBroken };

  Event start(std::byte type) noexcept;
  Event add_to_line(std::byte byte) noexcept;
  Event end_line() noexcept;
  Event end_number_line() noexcept;
  Event break_with(const char* why) noexcept;

  const ParserLimits limits_;
  State state_ = State::kStart;
  char type_ = 0;
  bool has_cr_ = false;  ///< kPayloadEnd: the CR was there.
  std::size_t line_bytes_ = 0;
  std::size_t text_bytes_ = 0;
  std::int64_t integer_ = 0;
  std::uint64_t bulk_bytes_ = 0;
  std::uint64_t payload_left_ = 0;
  const char* broken_why_ = "";
  std::array<char, kTextBytesMax> text_{};
};

}  // namespace larder::resp
