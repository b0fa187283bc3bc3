#include "larder/wire/tokens.h"

#include <gtest/gtest.h>

#include <vector>

#include "larder/base/random.h"
#include "larder/wire/chunk_hash.h"
#include "larder/wire/msgpack_writer.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

/// Appends a token in one of the encodings that MessagePack has for it.
void append_any_width(Bytes& out, std::uint32_t token, Random& random) {
  MsgpackWriter writer{out};
  const auto wide = [&](unsigned code, unsigned bytes) {
    out.push_back(static_cast<std::byte>(code));
    for (unsigned shift = 8 * bytes; shift > 0;) {
      shift -= 8;
      out.push_back(static_cast<std::byte>(std::uint64_t{token} >> shift));
    }
  };
  switch (random.below(8)) {
    case 0:
      return wide(0xCF, 8);
    case 1:
      return wide(0xD3, 8);
    case 2:
      return wide(0xCE, 4);
    case 3:
      return token <= 0x7FFF'FFFF ? wide(0xD2, 4) : wide(0xCE, 4);
    default:
      writer.integer(token);
  }
}

TEST(TokensTest, UnpacksEveryWidthAtEveryEnd) {
  constexpr std::uint64_t kSeed = 31;
  SCOPED_TRACE(kSeed);
  Random random{kSeed};
  for (int round = 0; round < 500; ++round) {
    std::vector<std::uint32_t> tokens(1 + random.below(40));
    Bytes bytes;
    std::vector<std::size_t> ends{0};
    for (std::uint32_t& token : tokens) {
      token = static_cast<std::uint32_t>(random.next() >> (32 + random.below(32)));
      append_any_width(bytes, token, random);
      ends.push_back(bytes.size());
    }
    const Bytes expected = pack(tokens);
    // Every wanted number, and every available length: the short forms must not be read beyond
    // their end.
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
      const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
      Bytes packed(expected.size());
      const Unpacked unpacked = unpack_ids(cut, packed);
      std::size_t whole = 0;
      while (whole < tokens.size() && ends[whole + 1] <= size) ++whole;
      ASSERT_EQ(unpacked.tokens, whole);
      ASSERT_EQ(unpacked.bytes, ends[whole]);
      packed.resize(whole * kTokenBytes);
      ASSERT_EQ(hex(packed), hex(std::span{expected}.first(whole * kTokenBytes)));
    }
    Bytes first(kTokenBytes);
    ASSERT_EQ(unpack_ids(bytes, first).tokens, 1U);
    ASSERT_EQ(hex(first), hex(std::span{expected}.first(kTokenBytes)));
  }
}

TEST(TokensTest, StopsAtWhatIsNoToken) {
  for (const char* const text : {"ff", "d0ff", "cf0000000100000000", "d3ffffffffffffffff", "c0",
                                 "c3", "ca3f800000", "a131", "c40101", "91", "c1", "cd01"}) {
    Bytes bytes = from_hex("05cd0100");
    const Bytes wrong = from_hex(text);
    bytes.insert(bytes.end(), wrong.begin(), wrong.end());
    Bytes packed(3 * kTokenBytes);
    const Unpacked unpacked = unpack_ids(bytes, packed);
    EXPECT_EQ(unpacked.tokens, 2U) << text;
    EXPECT_EQ(unpacked.bytes, 4U) << text;
  }
}

}  // namespace
}  // namespace larder::wire
