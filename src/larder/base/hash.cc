#include "larder/base/hash.h"

#include <new>
#include <type_traits>

#define XXH_STATIC_LINKING_ONLY  // Shows the state's size, which is the same in all of 0.8.
#if defined(LARDER_XXHASH_HAS_DISPATCH)
#include <immintrin.h>
#include <xxh_x86dispatch.h>  // Replaces the names of xxhash.h by those of the dispatch.
#endif

#include <xxhash.h>

#include "larder/base/check.h"

namespace larder {
namespace {

#if defined(LARDER_XXHASH_HAS_DISPATCH)
const bool kHasAvx = __builtin_cpu_supports("avx") != 0;

// The library's AVX functions return with the upper halves of the vector registers in use, which
// slows all SSE code of the thread (by half on Zen 4) until they are cleared.
__attribute__((target("avx"))) void clear_upper_halves() noexcept {
  _mm256_zeroupper();
}

void clear_after_vector_code() noexcept {
  if (kHasAvx) clear_upper_halves();
}
#else
void clear_after_vector_code() noexcept {}
#endif

constexpr std::size_t kLongestWithoutVectors = 240;  // The algorithm's XXH3_MIDSIZE_MAX.

// The library chooses its functions in the first call over long data and writes the choice down
// without synchronisation. That call is made here, before main() makes threads.
[[maybe_unused]] const std::uint64_t kChosenBeforeThreads = [] {
  const std::byte data[1024]{};
  return hash128(data).low;
}();

Hash128 from_library(const XXH128_hash_t& hash) noexcept {
  return {.low = hash.low64, .high = hash.high64};
}

XXH3_state_t* library_state(std::byte* state) noexcept {
  return std::launder(reinterpret_cast<XXH3_state_t*>(state));
}

}  // namespace

Hash128 hash128(std::span<const std::byte> data, std::uint64_t seed) noexcept {
  const Hash128 hash = from_library(XXH3_128bits_withSeed(data.data(), data.size(), seed));
  if (data.size() > kLongestWithoutVectors) clear_after_vector_code();
  return hash;
}

std::uint64_t hash64(std::span<const std::byte> data, std::uint64_t seed) noexcept {
  const std::uint64_t hash = XXH3_64bits_withSeed(data.data(), data.size(), seed);
  if (data.size() > kLongestWithoutVectors) clear_after_vector_code();
  return hash;
}

void StreamingHash128::reset(std::uint64_t seed) noexcept {
  static_assert(sizeof(XXH3_state_t) == sizeof(state_));
  static_assert(alignof(XXH3_state_t) == alignof(StreamingHash128));
  static_assert(std::is_trivially_copyable_v<XXH3_state_t>);
  // The library compares with the previous seed, so there must be one.
  auto* state = ::new (static_cast<void*>(state_)) XXH3_state_t{};
  LARDER_CHECK(XXH3_128bits_reset_withSeed(state, seed) == XXH_OK);
}

void StreamingHash128::update(std::span<const std::byte> data) noexcept {
  if (data.empty()) return;
  LARDER_CHECK(XXH3_128bits_update(library_state(state_), data.data(), data.size()) == XXH_OK);
  clear_after_vector_code();
}

Hash128 StreamingHash128::digest() const noexcept {
  return from_library(
      XXH3_128bits_digest(std::launder(reinterpret_cast<const XXH3_state_t*>(state_))));
}

std::string_view hash_implementation() noexcept {
#if defined(LARDER_XXHASH_HAS_DISPATCH)
  // The same questions in the same order as the library's own choice, which it does not tell.
  if (__builtin_cpu_supports("avx512f")) return "avx512";
  if (__builtin_cpu_supports("avx2")) return "avx2";
#endif
#if defined(__SSE2__)
  return "sse2";
#else
  return "scalar";
#endif
}

}  // namespace larder
