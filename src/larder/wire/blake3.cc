#include "larder/wire/blake3.h"

#include <bit>
#include <vector>

#include "larder/wire/blake3_tree.h"

namespace larder::wire {
namespace blake3_internal {
namespace {

struct Portable {
  static void compress(ChainingValue& value, const std::byte* blocks, std::size_t count,
                       std::uint64_t number, std::uint32_t bytes, std::uint32_t first,
                       std::uint32_t last) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      const bool is_last = i + 1 == count;
      compress_one(value, blocks + i * kBlockBytes, number, is_last ? bytes : kBlockBytes,
                   (i == 0 ? first : 0) | (is_last ? last : 0));
    }
  }

 private:
  static void compress_one(ChainingValue& value, const std::byte* block, std::uint64_t number,
                           std::uint32_t bytes, std::uint32_t flags) noexcept {
    std::uint32_t words[16];
    std::memcpy(words, block, sizeof(words));
    std::uint32_t state[16]{value[0],
                            value[1],
                            value[2],
                            value[3],
                            value[4],
                            value[5],
                            value[6],
                            value[7],
                            kInitial[0],
                            kInitial[1],
                            kInitial[2],
                            kInitial[3],
                            static_cast<std::uint32_t>(number),
                            static_cast<std::uint32_t>(number >> 32U),
                            bytes,
                            flags};
    for (const auto& order : kSchedule) {
      const auto mix = [&](int a, int b, int c, int d, std::size_t pair) {
        state[a] += state[b] + words[order[2 * pair]];
        state[d] = std::rotr(state[d] ^ state[a], 16);
        state[c] += state[d];
        state[b] = std::rotr(state[b] ^ state[c], 12);
        state[a] += state[b] + words[order[2 * pair + 1]];
        state[d] = std::rotr(state[d] ^ state[a], 8);
        state[c] += state[d];
        state[b] = std::rotr(state[b] ^ state[c], 7);
      };
      mix(0, 4, 8, 12, 0);
      mix(1, 5, 9, 13, 1);
      mix(2, 6, 10, 14, 2);
      mix(3, 7, 11, 15, 3);
      mix(0, 5, 10, 15, 4);
      mix(1, 6, 11, 12, 5);
      mix(2, 7, 8, 13, 6);
      mix(3, 4, 9, 14, 7);
    }
    for (std::size_t i = 0; i < 8; ++i) value[i] = state[i] ^ state[i + 8];
  }
};

}  // namespace

Blake3Hash hash_portable(std::span<const std::byte> data) noexcept {
  return hash_data<Portable>(data);
}

}  // namespace blake3_internal

std::span<const Blake3Implementation> blake3_implementations() noexcept {
  static const std::vector<Blake3Implementation> kAll = [] {
    std::vector<Blake3Implementation> all;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
      all.push_back({.name = "avx512vl", .hash = blake3_internal::hash_avx512vl});
    }
    if (__builtin_cpu_supports("sse4.1")) {
      all.push_back({.name = "sse4.1", .hash = blake3_internal::hash_sse41});
    }
#endif
    all.push_back({.name = "portable", .hash = blake3_internal::hash_portable});
    return all;
  }();
  return kAll;
}

Blake3Hash blake3(std::span<const std::byte> data) noexcept {
  static const auto kHash = blake3_implementations().front().hash;
  return kHash(data);
}

}  // namespace larder::wire
