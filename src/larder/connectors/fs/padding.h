#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "larder/base/result.h"

namespace larder::fs {

/// Files that are longer than their values.
///
/// With `use_odirect` LMCache's `fs_native` writes the whole slot of a value in its memory: a
/// multiple of its --l1-align-bytes whose end is not part of the value. A shorter file is no hit
/// for it. Such a file does not tell the length of its value. larder pads too, so that LMCache
/// finds its values, and writes their length behind the padding: LMCache reads what it needs from
/// the beginning of a file, in all its modes, and does not look further.
///
///   value | zeros to a multiple of 4096 (or more) | trailer of 32 bytes
///
/// The trailer is 16 bytes of magic, the length of the value, and XXH3-64 of both, little-endian. A
/// file has one only where its length is 32 more than a multiple of 4096, so that the length of all
/// others is known without reading them.
inline constexpr std::uint64_t kPaddingGrain = 4096;
inline constexpr std::size_t kTrailerBytes = 32;
using Trailer = std::array<std::byte, kTrailerBytes>;

constexpr std::uint64_t padded_to(std::uint64_t bytes, std::uint64_t multiple) noexcept {
  return (bytes + multiple - 1) / multiple * multiple;
}

constexpr bool may_have_trailer(std::uint64_t file_bytes) noexcept {
  return file_bytes > kTrailerBytes && file_bytes % kPaddingGrain == kTrailerBytes;
}

Trailer trailer_of(std::uint64_t value_bytes) noexcept;
/// The length of the value, if the last bytes of a file of this length are a trailer.
std::optional<std::uint64_t> parse_trailer(std::span<const std::byte, kTrailerBytes> bytes,
                                           std::uint64_t file_bytes) noexcept;

/// How many bytes of an open file are its value. Reads only if there may be a trailer. Takes
/// O_DIRECT away where it cannot be read so.
Result<std::uint64_t> value_bytes_in(int fd, std::uint64_t file_bytes) noexcept;
/// Pads a written file of `value_bytes` to `padded_bytes`, a multiple of kPaddingGrain and of the
/// alignment of direct transfers, and appends a trailer.
Status write_padding(int fd, std::uint64_t value_bytes, std::uint64_t padded_bytes) noexcept;

}  // namespace larder::fs
