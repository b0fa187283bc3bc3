#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "larder/wire/decode_error.h"
#include "larder/wire/limits.h"
#include "larder/wire/msgpack_reader.h"

// The parts of typed decoders: one expected value each, with an error that names the field. All are
// pure and allocate for errors only; views point into the frame.

namespace larder::wire {

/// The error for the value that `reader` stood at with `before` as its rest.
DecodeError wrong_value(std::string_view field, std::span<const std::byte> before,
                        std::string_view remedy);

DecodeResult<Integer> read_integer(MsgpackReader& reader, std::string_view field);
/// An integer from `least` to `most`.
DecodeResult<std::uint64_t> read_number(MsgpackReader& reader, std::string_view field,
                                        std::uint64_t least, std::uint64_t most);
DecodeResult<bool> read_boolean(MsgpackReader& reader, std::string_view field);
/// An integer, or a float that is not NaN.
DecodeResult<double> read_real(MsgpackReader& reader, std::string_view field);
/// UTF-8 of at most `bytes_max`.
DecodeResult<std::string_view> read_text(MsgpackReader& reader, std::string_view field,
                                         std::size_t bytes_max);
DecodeResult<std::span<const std::byte>> read_binary(MsgpackReader& reader, std::string_view field);
/// The head of an array of at most `count_max`.
DecodeResult<std::uint32_t> read_array(MsgpackReader& reader, std::string_view field,
                                       std::size_t count_max);
DecodeResult<std::uint32_t> read_map(MsgpackReader& reader, std::string_view field);
/// Passes a value that larder has no use for. `values` as in MsgpackReader::skip().
DecodeStatus pass_value(MsgpackReader& reader, std::string_view field, std::size_t& values);
/// The frame ends here.
DecodeStatus expect_end(const MsgpackReader& reader, std::string_view field);

/// A frame that holds one value and nothing else.
template <class Read>
auto read_frame(std::span<const std::byte> frame, std::string_view field, Read read)
    -> decltype(read(std::declval<MsgpackReader&>(), field)) {
  MsgpackReader reader{frame};  // NOLINT(misc-const-correctness): read() changes it.
  auto value = read(reader, field);
  if (value) LARDER_TRY(expect_end(reader, field));
  return value;
}

/// True, and passes it, when the next value is nil.
bool take_nil(MsgpackReader& reader) noexcept;

/// The number of characters in valid UTF-8; empty when it is invalid.
std::optional<std::size_t> utf8_characters(std::string_view text) noexcept;

/// The fields of a map that are there, by number.
class SeenFields {
 public:
  /// An error when the field came before: LMCache takes the later one, no client of it sends two.
  DecodeStatus add(unsigned number, std::string_view field);
  bool has(unsigned number) const noexcept { return (bits_ >> number & 1U) != 0; }

 private:
  std::uint64_t bits_ = 0;
};

DecodeError missing_field(std::string_view field);

}  // namespace larder::wire
