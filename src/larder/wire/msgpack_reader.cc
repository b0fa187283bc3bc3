#include "larder/wire/msgpack_reader.h"

#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/wire/limits.h"

namespace larder::wire {
namespace {

template <class T>
T from_big_endian(const std::byte* bytes) noexcept {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value << 8U | static_cast<T>(bytes[i]));
  }
  return value;
}

Integer from_signed(std::int64_t value) noexcept {
  return {.bits = static_cast<std::uint64_t>(value), .is_negative = value < 0};
}

}  // namespace

bool MsgpackReader::fail(Fault fault) noexcept {
  fault_ = fault;
  rest_ = {};
  return false;
}

template <class T>
bool MsgpackReader::read_big_endian(T& value) noexcept {
  if (rest_.size() < sizeof(T)) return fail(Fault::kTruncated);
  if constexpr (sizeof(T) == 1) {
    value = static_cast<T>(rest_[0]);
  } else {
    value = from_big_endian<T>(rest_.data());
  }
  rest_ = rest_.subspan(sizeof(T));
  return true;
}

bool MsgpackReader::read_bytes(Value& value, std::size_t bytes) noexcept {
  if (bytes > rest_.size()) return fail(Fault::kTruncated);
  value.bytes = rest_.first(bytes);
  rest_ = rest_.subspan(bytes);
  return true;
}

bool MsgpackReader::read_count(Value& value, Type type, std::uint32_t count) noexcept {
  value.type = type;
  value.count = count;
  const std::uint64_t least_bytes = std::uint64_t{count} * (type == Type::kMap ? 2 : 1);
  return least_bytes <= rest_.size() || fail(Fault::kTruncated);
}

/// The codes 0xC0 to 0xDF.
bool MsgpackReader::read_sized(Value& value, std::uint8_t code) noexcept {
  const auto sized = [&]<class T>(T size, Type type) {
    value.type = type;
    if (!read_big_endian(size)) return false;
    if (type == Type::kArray || type == Type::kMap) return read_count(value, type, size);
    if (type == Type::kExtension && !read_big_endian(value.extension)) return false;
    return read_bytes(value, size);
  };
  const auto unsigned_integer = [&]<class T>(T number) {
    value.type = Type::kInteger;
    if (!read_big_endian(number)) return false;
    value.integer = {.bits = number, .is_negative = false};
    return true;
  };
  const auto signed_integer = [&]<class T>(T number) {
    value.type = Type::kInteger;
    if (!read_big_endian(number)) return false;
    value.integer = from_signed(static_cast<std::make_signed_t<T>>(number));
    return true;
  };
  const auto real = [&]<class Float, class Bits>(Float, Bits bits) {
    value.type = Type::kFloat;
    if (!read_big_endian(bits)) return false;
    value.real = static_cast<double>(std::bit_cast<Float>(bits));
    return true;
  };
  const auto fixed_extension = [&](std::size_t bytes) {
    value.type = Type::kExtension;
    return read_big_endian(value.extension) && read_bytes(value, bytes);
  };
  switch (code) {
    case 0xC0:
      value.type = Type::kNil;
      return true;
    case 0xC2:
    case 0xC3:
      value.type = Type::kBoolean;
      value.boolean = code == 0xC3;
      return true;
    case 0xC4:
      return sized(std::uint8_t{}, Type::kBinary);
    case 0xC5:
      return sized(std::uint16_t{}, Type::kBinary);
    case 0xC6:
      return sized(std::uint32_t{}, Type::kBinary);
    case 0xC7:
      return sized(std::uint8_t{}, Type::kExtension);
    case 0xC8:
      return sized(std::uint16_t{}, Type::kExtension);
    case 0xC9:
      return sized(std::uint32_t{}, Type::kExtension);
    case 0xCA:
      return real(float{}, std::uint32_t{});
    case 0xCB:
      return real(double{}, std::uint64_t{});
    case 0xCC:
      return unsigned_integer(std::uint8_t{});
    case 0xCD:
      return unsigned_integer(std::uint16_t{});
    case 0xCE:
      return unsigned_integer(std::uint32_t{});
    case 0xCF:
      return unsigned_integer(std::uint64_t{});
    case 0xD0:
      return signed_integer(std::uint8_t{});
    case 0xD1:
      return signed_integer(std::uint16_t{});
    case 0xD2:
      return signed_integer(std::uint32_t{});
    case 0xD3:
      return signed_integer(std::uint64_t{});
    case 0xD4:
    case 0xD5:
    case 0xD6:
    case 0xD7:
    case 0xD8:
      return fixed_extension(std::size_t{1} << (code - 0xD4U));
    case 0xD9:
      return sized(std::uint8_t{}, Type::kText);
    case 0xDA:
      return sized(std::uint16_t{}, Type::kText);
    case 0xDB:
      return sized(std::uint32_t{}, Type::kText);
    case 0xDC:
      return sized(std::uint16_t{}, Type::kArray);
    case 0xDD:
      return sized(std::uint32_t{}, Type::kArray);
    case 0xDE:
      return sized(std::uint16_t{}, Type::kMap);
    case 0xDF:
      return sized(std::uint32_t{}, Type::kMap);
    default:
      return fail(Fault::kReserved);
  }
}

std::optional<Value> MsgpackReader::next() noexcept {
  if (fault_ != Fault::kNone) return std::nullopt;
  std::uint8_t code = 0;
  if (!read_big_endian(code)) return std::nullopt;
  Value value;
  bool is_good = true;
  if (code < 0x80) {
    value.type = Type::kInteger;
    value.integer.bits = code;
  } else if (code >= 0xE0) {
    value.type = Type::kInteger;
    value.integer = from_signed(static_cast<std::int8_t>(code));
  } else if (code >= 0xC0) {
    is_good = read_sized(value, code);
  } else if (code >= 0xA0) {
    value.type = Type::kText;
    is_good = read_bytes(value, code & 0x1FU);
  } else {
    is_good = read_count(value, code >= 0x90 ? Type::kArray : Type::kMap, code & 0x0FU);
  }
  if (!is_good) return std::nullopt;
  return value;
}

bool MsgpackReader::skip(std::size_t& values) noexcept {
  // How many values are still to come on each level that has been entered.
  std::array<std::uint64_t, limits::kDepth + 1> open{1};
  std::size_t level = 0;
  for (;;) {
    while (open[level] == 0) {
      if (level == 0) return true;
      --level;
    }
    --open[level];
    if (values == 0) return fail(Fault::kTooMany);
    --values;
    const auto value = next();
    if (!value) return false;
    const bool is_map = value->type == Type::kMap;
    if ((!is_map && value->type != Type::kArray) || value->count == 0) continue;
    if (level == limits::kDepth) return fail(Fault::kTooDeep);
    open[++level] = std::uint64_t{value->count} * (is_map ? 2 : 1);
  }
}

void MsgpackReader::advance(std::size_t bytes) noexcept {
  LARDER_CHECK(bytes <= rest_.size());
  rest_ = rest_.subspan(bytes);
}

std::string Integer::to_string() const {
  return is_negative ? std::to_string(static_cast<std::int64_t>(bits)) : std::to_string(bits);
}

std::string show_value(std::span<const std::byte> bytes) {
  if (bytes.empty()) return "nothing";
  const auto value = MsgpackReader{bytes}.next();
  if (!value) return "broken MessagePack";
  switch (value->type) {
    case Type::kNil:
      return "nil";
    case Type::kBoolean:
      return value->boolean ? "true" : "false";
    case Type::kInteger:
      return value->integer.to_string();
    case Type::kFloat:
      return "float " + std::to_string(value->real);
    case Type::kText: {
      const std::string_view text = as_text(value->bytes);
      const bool is_long = text.size() > limits::kShownValueBytes;
      return "text \"" + printable(text.substr(0, limits::kShownValueBytes)) + "\"" +
             (is_long ? " and more" : "");
    }
    case Type::kBinary:
      return "binary of " + std::to_string(value->bytes.size()) + " bytes";
    case Type::kArray:
      return "an array of " + std::to_string(value->count);
    case Type::kMap:
      return "a map of " + std::to_string(value->count);
    case Type::kExtension:
      return "extension " + std::to_string(value->extension);
  }
  return "nothing";
}

}  // namespace larder::wire
