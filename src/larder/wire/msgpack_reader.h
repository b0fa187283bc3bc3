#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace larder::wire {

/// Any integer of MessagePack, -2^63 to 2^64 - 1. The encoded width is not part of it.
struct Integer {
  std::uint64_t bits = 0;    ///< Two's complement where negative.
  bool is_negative = false;  ///< False for zero.

  std::string to_string() const;  ///< In decimal.
  friend bool operator==(const Integer&, const Integer&) = default;
};

enum class Type : std::uint8_t {
  kNil,
  kBoolean,
  kInteger,
  kFloat,
  kText,
  kBinary,
  kArray,
  kMap,
  kExtension,
};

/// One value, or the head of an array or a map, whose elements follow in the frame.
struct Value {
  Type type = Type::kNil;
  bool boolean = false;
  std::int8_t extension = 0;  ///< The extension's type.
  std::uint32_t count = 0;    ///< Elements of an array; pairs of a map.
  Integer integer;
  double real = 0;
  std::span<const std::byte> bytes;  ///< Of text, binary, extension: a view into the frame.
};

enum class Fault : std::uint8_t {
  kNone,
  kTruncated,  ///< The frame ends within a value, or an array claims more than the frame can hold.
  kReserved,   ///< The byte 0xC1, which MessagePack never uses.
  kTooDeep,    ///< Beyond limits::kDepth.
  kTooMany,    ///< Beyond the caller's count of values to skip.
};

/// Reads MessagePack from one frame, value by value, as views into it.
///
/// A reader of our own instead of msgpack-cxx: the decoders know what they expect next, so they
/// need neither a tree of objects (allocated before any of our limits is checked) nor a visitor.
/// Nothing here allocates or throws. A head never claims more than the frame still holds: a text
/// lies in it whole, and each element of an array takes at least a byte.
///
/// After a fault every further call fails with the same error. The frame outlives the reader and
/// the views that it returned. One thread at a time.
class MsgpackReader {
 public:
  MsgpackReader() = default;
  explicit MsgpackReader(std::span<const std::byte> frame) noexcept : rest_(frame) {}

  /// The next value or head; empty after a fault.
  std::optional<Value> next() noexcept;

  /// Skips the next value with everything in it. `values` is how many values may be skipped, heads
  /// included, and is counted down. At most limits::kDepth nested arrays and maps.
  bool skip(std::size_t& values) noexcept;

  /// Passes bytes that the caller has read by itself. At most rest().size().
  void advance(std::size_t bytes) noexcept;

  std::span<const std::byte> rest() const noexcept { return rest_; }
  bool at_end() const noexcept { return rest_.empty(); }
  Fault fault() const noexcept { return fault_; }

 private:
  template <class T>
  bool read_big_endian(T& value) noexcept;
  bool read_bytes(Value& value, std::size_t bytes) noexcept;
  bool read_count(Value& value, Type type, std::uint32_t count) noexcept;
  bool read_sized(Value& value, std::uint8_t code) noexcept;
  bool fail(Fault fault) noexcept;

  std::span<const std::byte> rest_;
  Fault fault_ = Fault::kNone;
};

/// The first value of `bytes` in a few words for an error's text: `float 1.5`, `text "abc"`,
/// `an array of 3`, `nothing`, `broken MessagePack`. Printable and one line, whatever the bytes
/// are.
std::string show_value(std::span<const std::byte> bytes);

}  // namespace larder::wire
