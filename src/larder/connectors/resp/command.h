#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/connector/connector.h"

namespace larder::resp {

struct BatchState;

enum class CommandKind : std::uint8_t {
  kGet = 0,
  kSet,
  kSize,         ///< STRLEN: the size, or 0 for an absent key too.
  kAnyExists,    ///< EXISTS of several keys whose size was 0: tells whether all are absent.
  kSizeByValue,  ///< GET that drops the value: tells a value of 0 bytes from an absent key.
  kSizeOfKept,   ///< STRLEN after a Set with kIfAbsent that stored nothing: tells whether a Get
                 ///< could take the value.
  kDelete,
  kTouch,
  kInfo,
  kAudit,  ///< STRLEN of a key that this process stored, for the Audit.
};

/// The connector's own, for no batch.
constexpr bool is_own(CommandKind kind) noexcept {
  return kind == CommandKind::kInfo || kind == CommandKind::kAudit;
}

/// Must not be sent twice, and needs a primary.
constexpr bool changes(CommandKind kind) noexcept {
  return kind == CommandKind::kSet || kind == CommandKind::kDelete;
}

/// The first command of an item of a batch.
CommandKind first_command(Op op) noexcept;

/// The part of a batch that one command serves.
struct Operation {
  BatchState* batch = nullptr;  ///< Null: the item was given up; its answer is read and dropped.
  std::uint32_t item = 0;
  CommandKind kind = CommandKind::kGet;
  bool was_retried = false;
  bool is_begun = false;             ///< An answer that never ended has written to the buffer.
  std::vector<std::uint32_t> items;  ///< kAnyExists.
};

/// The items that its answer decides, within the operation.
inline std::span<const std::uint32_t> items_of(const Operation& operation) noexcept {
  if (operation.kind == CommandKind::kAnyExists) return operation.items;
  return {&operation.item, 1};
}

/// One request in flight: what is sent, partly from the caller's memory, and where its answer goes.
struct Command {
  Operation operation;
  std::string head;                ///< All bytes before the payload.
  std::span<const Slice> payload;  ///< Caller memory.
  std::string_view tail;           ///< All bytes after it; outlives the command.
  std::uint64_t payload_bytes = 0;
  std::uint64_t sent_bytes = 0;

  std::span<const Slice> target;  ///< Where the value is written.
  std::uint64_t target_bytes = 0;
  bool allows_shorter = false;

  std::uint64_t cost_bytes = 0;  ///< Value bytes in either direction, for the depth.

  std::uint64_t total_bytes() const noexcept { return head.size() + payload_bytes + tail.size(); }
  bool is_sent() const noexcept { return sent_bytes == total_bytes(); }
};

struct Reply {
  enum class Kind : std::uint8_t { kSimple = 0, kError, kInteger, kNull, kValue };
  Kind kind = Kind::kNull;
  std::string_view text = {};  ///< kSimple, kError; of kInfo's value its beginning.
  std::int64_t integer = 0;
  std::uint64_t value_bytes = 0;
  bool fits = false;  ///< kValue: it lies in the target.

  /// kInteger of a kSize, kValue: of more than kValueBytesMax, which no Get can take.
  bool is_too_large() const noexcept {
    const std::uint64_t bytes =
        kind == Kind::kInteger ? static_cast<std::uint64_t>(integer) : value_bytes;
    return bytes > kValueBytesMax;
  }
};

/// Appends "$5\r\nhello\r\n".
void append_bulk(std::string& text, std::string_view bulk);
/// "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
std::string encode_command(std::initializer_list<std::string_view> words);

}  // namespace larder::resp
