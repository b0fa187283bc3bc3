#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace larder::io {

/// What SimulatedDisk::history_hash() tells apart.
enum SimulatedEvent : std::uint64_t {
  kCreated = 1,
  kRemoved,
  kDirectorySynced,
  kAllocated,
  kLocked,
  kPatched,
  kStarted,
  kLanded,
  kEnded,
  kKilled,
  kPowerCut,
};

/// Not cryptographic: it finds differences that nobody made on purpose.
constexpr std::uint64_t mix_history(std::uint64_t hash, std::uint64_t word) noexcept {
  return std::rotl(hash ^ (word * 0x9E3779B97F4A7C15U), 29) * 0xBF58476D1CE4E5B9U;
}

inline std::uint64_t mix_history(std::uint64_t hash, std::span<const std::byte> bytes) noexcept {
  for (; bytes.size() >= sizeof(std::uint64_t); bytes = bytes.subspan(sizeof(std::uint64_t))) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    hash = mix_history(hash, word);
  }
  for (const std::byte byte : bytes) hash = mix_history(hash, std::to_integer<std::uint64_t>(byte));
  return hash;
}

}  // namespace larder::io
