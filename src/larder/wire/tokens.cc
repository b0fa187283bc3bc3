#include "larder/wire/tokens.h"

#include <bit>
#include <cstring>

#include "larder/wire/chunk_hash.h"
#include "larder/wire/msgpack_reader.h"

namespace larder::wire {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t kFastBytes = 9;  ///< What the fast path may read of one element.

void put_token(std::uint32_t token, std::byte* out) noexcept {
  const std::uint32_t swapped = __builtin_bswap32(token);
  std::memcpy(out, &swapped, sizeof(swapped));
}

/// An element of any width, by the general reader. False when it is no token.
bool unpack_slowly(std::span<const std::byte> encoded, std::size_t& bytes,
                   std::uint32_t& token) noexcept {
  MsgpackReader reader{encoded};
  const auto value = reader.next();
  if (!value || value->type != Type::kInteger || value->integer.is_negative ||
      value->integer.bits > 0xFFFF'FFFF) {
    return false;
  }
  bytes = encoded.size() - reader.rest().size();
  token = static_cast<std::uint32_t>(value->integer.bits);
  return true;
}

}  // namespace

Unpacked unpack_ids(std::span<const std::byte> encoded, std::span<std::byte> packed) noexcept {
  const std::size_t wanted = packed.size() / kTokenBytes;
  const std::byte* at = encoded.data();
  const std::byte* const end = at + encoded.size();
  std::byte* out = packed.data();
  std::size_t tokens = 0;
  for (; tokens < wanted && at < end; ++tokens, out += kTokenBytes) {
    const auto code = static_cast<unsigned>(*at);
    if (code < 0x80) {
      put_token(code, out);
      ++at;
      continue;
    }
    // 0xCC, 0xCD, 0xCE: unsigned integers of 1, 2 and 4 bytes. The length comes by arithmetic: the
    // widths of tokens follow no pattern that a branch predictor could learn.
    const unsigned width_log = code - 0xCCU;
    if (width_log <= 2 && static_cast<std::size_t>(end - at) >= kFastBytes) {
      const unsigned width = 1U << width_log;
      std::uint64_t word;
      std::memcpy(&word, at + 1, sizeof(word));
      word = __builtin_bswap64(word) >> (64U - 8U * width);
      put_token(static_cast<std::uint32_t>(word), out);
      at += 1 + width;
      continue;
    }
    std::size_t bytes = 0;
    std::uint32_t token = 0;
    if (!unpack_slowly({at, end}, bytes, token)) break;
    put_token(token, out);
    at += bytes;
  }
  return {.tokens = tokens, .bytes = static_cast<std::size_t>(at - encoded.data())};
}

}  // namespace larder::wire
