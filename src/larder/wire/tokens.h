#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "larder/wire/decode_error.h"

namespace larder::wire {

/// How a key carries its tokens: 0.5.6 sends an array of integers, 0.5.7 sends them packed.
enum class TokenForm : std::uint8_t {
  kIds,    ///< `token_ids`: MessagePack integers, 1 to 9 bytes each.
  kBytes,  ///< `token_bytes`: 32 bits each, big-endian.
};

/// The integers that a run of array elements holds, packed.
struct Unpacked {
  std::size_t tokens = 0;
  std::size_t bytes = 0;  ///< Of the encoded elements.
};

/// Packs the tokens of form kIds at the front of `encoded`: 4 bytes each, big-endian, as many as
/// `packed` has room for. Stops early at the first that is no integer from 0 to 2^32 - 1 or is not
/// there in full. Any width is accepted. About 2 ns a token.
Unpacked unpack_ids(std::span<const std::byte> encoded, std::span<std::byte> packed) noexcept;

}  // namespace larder::wire
