#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace larder {

/// 128 bits of XXH3. Guards against accidents, not against people: see mac.h for those.
struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

/// XXH3-128 and XXH3-64 with the widest vector instructions that this machine has. Any thread.
Hash128 hash128(std::span<const std::byte> data, std::uint64_t seed = 0) noexcept;
std::uint64_t hash64(std::span<const std::byte> data, std::uint64_t seed = 0) noexcept;

/// XXH3-128 over data that comes in pieces: digest() equals hash128() of their concatenation. One
/// thread at a time. About 600 bytes, no allocation; make it once and reset() it.
class StreamingHash128 {
 public:
  explicit StreamingHash128(std::uint64_t seed = 0) noexcept { reset(seed); }

  void reset(std::uint64_t seed = 0) noexcept;
  void update(std::span<const std::byte> data) noexcept;
  Hash128 digest() const noexcept;  ///< May be called at any point; update() goes on after it.

 private:
  alignas(64) std::byte state_[576];  ///< An XXH3_state_t.
};

/// "avx512", "avx2", "sse2" or "scalar": what the hashes of this process run on.
std::string_view hash_implementation() noexcept;

}  // namespace larder
