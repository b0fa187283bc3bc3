#include "larder/base/random.h"

#include <cstring>

namespace larder {
namespace {

// Two words in a register, which every x86-64 and ARMv8 has. (GCC and clang support it.)
using Words = std::uint64_t __attribute__((vector_size(16)));

}  // namespace

void Random::fill(std::span<std::byte> bytes) noexcept {
  // Two generators (xoshiro256+, whose weak lowest bit does not matter for data) side by side. The
  // state is in plain variables, because compilers keep only those in registers.
  const auto pair = [this] { return Words{next(), next()}; };
  Words s0 = pair();
  Words s1 = pair();
  Words s2 = pair();
  Words s3 = pair();
  const auto next_words = [&]() -> Words {
    const Words result = s0 + s3;
    const Words shifted = s1 << 17;
    s2 ^= s0;
    s3 ^= s1;
    s1 ^= s2;
    s0 ^= s3;
    s2 ^= shifted;
    s3 = (s3 << 45) | (s3 >> 19);
    return result;
  };

  const std::size_t whole = bytes.size() / sizeof(Words) * sizeof(Words);
  for (std::size_t at = 0; at < whole; at += sizeof(Words)) {
    const Words words = next_words();
    std::memcpy(bytes.data() + at, &words, sizeof(words));
  }
  if (whole < bytes.size()) {
    const Words words = next_words();
    std::memcpy(bytes.data() + whole, &words, bytes.size() - whole);
  }
}

}  // namespace larder
