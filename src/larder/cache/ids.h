#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "larder/cache/policies/policy.h"

namespace larder::cache {

/// The content hash of a chunk and of everything before it. Computed by the driver; equal hashes
/// mean equal tokens.
struct alignas(8) ChunkHash {
  std::array<std::byte, 32> bytes{};

  friend bool operator==(const ChunkHash&, const ChunkHash&) = default;

  /// 64 bits for tables and ghosts. Mixed, because a driver may fill only a few of the bytes.
  std::uint64_t fingerprint() const noexcept {
    std::array<std::uint64_t, 4> words{};
    std::memcpy(words.data(), bytes.data(), sizeof words);
    std::uint64_t mixed =
        words[0] ^ std::rotl(words[1], 17) ^ std::rotl(words[2], 31) ^ std::rotl(words[3], 47);
    mixed ^= mixed >> 32;
    mixed *= 0x9E3779B97F4A7C15U;
    return mixed ^ (mixed >> 29);
  }
};

/// Strong numbers of the engine's driver. An id that has ended is never mistaken for a later one:
/// owners, reads and writes carry a generation in their upper half.
enum class LayoutId : std::uint32_t {};
enum class SpaceId : std::uint32_t {};  ///< Model, world size and salt.
enum class SaltId : std::uint32_t {};   ///< The driver's own numbers, dense from 0.
enum class OwnerId : std::uint64_t {};  ///< A registered worker instance.
enum class ReadId : std::uint64_t {};
enum class WriteId : std::uint64_t {};
enum class Ticket : std::uint64_t {};  ///< The driver's own; comes back with the answer.

/// Places in the engine's slabs, as ColumnId is (policies/policy.h); they are used again after
/// their thing has ended.
using SlotId = std::uint32_t;
using SessionId = std::uint32_t;
using TierId = std::uint32_t;  ///< Index into the engine's tiers.

/// A set of tiers: bit i is tier i.
using TierMask = std::uint16_t;
inline constexpr std::size_t kTiersMax = 16;
constexpr TierMask bit_of(TierId tier) noexcept {
  return static_cast<TierMask>(1U << tier);
}

inline constexpr std::uint32_t kNone = 0xFFFF'FFFF;  ///< No column, slot, session.

template <class Id>
constexpr std::uint32_t index_of(Id id) noexcept {
  return static_cast<std::uint32_t>(id);
}

/// How a worker's request is named on the wire. Two connections may use the same request id.
struct SessionKey {
  std::uint64_t connection = 0;
  std::string_view request;
};

/// Chunks [begin, end) of a request.
struct ChunkRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  std::uint32_t size() const noexcept { return end > begin ? end - begin : 0; }
};

/// A cell within its column: rank and object group, the groups of one rank side by side.
using Row = std::uint16_t;

}  // namespace larder::cache
