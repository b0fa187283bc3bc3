#include "larder/wire/fields.h"

#include <cmath>

#include "larder/base/key_text.h"

namespace larder::wire {
namespace {

std::string range_text(std::uint64_t least, std::uint64_t most) {
  return "an integer from " + std::to_string(least) + " to " + std::to_string(most);
}

}  // namespace

DecodeError wrong_value(std::string_view field, std::span<const std::byte> before,
                        std::string_view remedy) {
  return {.field = std::string{field}, .value = show_value(before), .remedy = std::string{remedy}};
}

DecodeResult<Integer> read_integer(MsgpackReader& reader, std::string_view field) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kInteger) return wrong_value(field, before, "an integer");
  return value->integer;
}

DecodeResult<std::uint64_t> read_number(MsgpackReader& reader, std::string_view field,
                                        std::uint64_t least, std::uint64_t most) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kInteger || value->integer.is_negative ||
      value->integer.bits < least || value->integer.bits > most) {
    return wrong_value(field, before, range_text(least, most));
  }
  return value->integer.bits;
}

DecodeResult<bool> read_boolean(MsgpackReader& reader, std::string_view field) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kBoolean) return wrong_value(field, before, "true or false");
  return value->boolean;
}

DecodeResult<double> read_real(MsgpackReader& reader, std::string_view field) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (value && value->type == Type::kFloat && !std::isnan(value->real)) return value->real;
  if (value && value->type == Type::kInteger) {
    return value->integer.is_negative
               ? static_cast<double>(static_cast<std::int64_t>(value->integer.bits))
               : static_cast<double>(value->integer.bits);
  }
  return wrong_value(field, before, "a number");
}

DecodeResult<std::string_view> read_text(MsgpackReader& reader, std::string_view field,
                                         std::size_t bytes_max) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kText || value->bytes.size() > bytes_max ||
      !utf8_characters(as_text(value->bytes))) {
    return wrong_value(field, before,
                       "text in UTF-8 of at most " + std::to_string(bytes_max) + " bytes");
  }
  return as_text(value->bytes);
}

DecodeResult<std::span<const std::byte>> read_binary(MsgpackReader& reader,
                                                     std::string_view field) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kBinary) return wrong_value(field, before, "binary");
  return value->bytes;
}

DecodeResult<std::uint32_t> read_array(MsgpackReader& reader, std::string_view field,
                                       std::size_t count_max) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kArray || value->count > count_max) {
    return wrong_value(field, before, "an array of at most " + std::to_string(count_max));
  }
  return value->count;
}

DecodeResult<std::uint32_t> read_map(MsgpackReader& reader, std::string_view field) {
  const auto before = reader.rest();
  const auto value = reader.next();
  if (!value || value->type != Type::kMap) return wrong_value(field, before, "a map");
  return value->count;
}

DecodeStatus pass_value(MsgpackReader& reader, std::string_view field, std::size_t& values) {
  const auto before = reader.rest();
  if (reader.skip(values)) return {};
  switch (reader.fault()) {
    case Fault::kTooDeep:
      return wrong_value(field, before,
                         "nested at most " + std::to_string(limits::kDepth) + " deep");
    case Fault::kTooMany:
      return wrong_value(field, before, "smaller: the message has more values than larder reads");
    default:
      return wrong_value(field, before, "whole MessagePack");
  }
}

DecodeStatus expect_end(const MsgpackReader& reader, std::string_view field) {
  if (reader.fault() == Fault::kNone && reader.at_end()) return {};
  return DecodeError{.field = std::string{field},
                     .value = "followed by " + std::to_string(reader.rest().size()) + " more bytes",
                     .remedy = "one MessagePack value a frame"};
}

bool take_nil(MsgpackReader& reader) noexcept {
  constexpr std::byte kNilCode{0xC0};
  if (reader.at_end() || reader.rest().front() != kNilCode) return false;
  reader.advance(1);
  return true;
}

std::optional<std::size_t> utf8_characters(std::string_view text) noexcept {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++characters) {
    const auto lead = static_cast<unsigned char>(text[i++]);
    if (lead < 0x80) continue;
    if (lead < 0xC2 || lead > 0xF4) return std::nullopt;
    const std::size_t more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    if (text.size() - i < more) return std::nullopt;
    std::uint32_t code = lead & (0x3FU >> more);
    for (std::size_t k = 0; k < more; ++k) {
      const auto byte = static_cast<unsigned char>(text[i++]);
      if ((byte & 0xC0U) != 0x80U) return std::nullopt;
      code = code << 6U | (byte & 0x3FU);
    }
    constexpr std::uint32_t kLeast[] = {0x80, 0x800, 0x10000};  // No longer form than needed.
    const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (code < kLeast[more - 1] || code > 0x10FFFF || is_surrogate) return std::nullopt;
  }
  return characters;
}

DecodeStatus SeenFields::add(unsigned number, std::string_view field) {
  if (has(number)) {
    return DecodeError{.field = std::string{field}, .value = "given twice", .remedy = "given once"};
  }
  bits_ |= std::uint64_t{1} << number;
  return {};
}

DecodeError missing_field(std::string_view field) {
  return {.field = std::string{field}, .value = "missing", .remedy = "given"};
}

}  // namespace larder::wire
