#include "larder/base/mac.h"

#include <bit>
#include <cstring>

namespace larder {
namespace {

static_assert(std::endian::native == std::endian::little, "SipHash reads little-endian words");

// SipHash's state and names as in the paper: https://www.aumasson.jp/siphash/siphash.pdf
struct SipState {
  std::uint64_t v0;
  std::uint64_t v1;
  std::uint64_t v2;
  std::uint64_t v3;

  void round() noexcept {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }

  void absorb(std::uint64_t word) noexcept {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }

  std::uint64_t finish() noexcept {
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

Mac128 mac128(const MacKey& key, std::span<const std::byte> data) noexcept {
  SipState state{.v0 = key.k0 ^ 0x736f6d6570736575U,
                 .v1 = key.k1 ^ 0x646f72616e646f6dU ^ 0xeeU,
                 .v2 = key.k0 ^ 0x6c7967656e657261U,
                 .v3 = key.k1 ^ 0x7465646279746573U};
  std::uint64_t last = static_cast<std::uint64_t>(data.size()) << 56;
  while (data.size() >= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, data.data(), sizeof(word));
    state.absorb(word);
    data = data.subspan(sizeof(word));
  }
  for (std::size_t i = 0; i < data.size(); ++i) {
    last |= std::to_integer<std::uint64_t>(data[i]) << (8 * i);
  }
  state.absorb(last);

  Mac128 mac;
  state.v2 ^= 0xeeU;
  mac.low = state.finish();
  state.v1 ^= 0xddU;
  mac.high = state.finish();
  return mac;
}

}  // namespace larder
