#include "larder/base/mac.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace larder {
namespace {

// Key 00 01 .. 0f, message 00 01 .. (n - 1) for n = 0..63: vectors_sip128 of the reference
// implementation, as OpenSSL's SIPHASH with size 16 gives them.
constexpr std::array<Mac128, 64> kVectors{{
    {.low = 0xe6a825ba047f81a3, .high = 0x930255c71472f66d},
    {.low = 0x44af996bd8c187da, .high = 0x45fc229b11597634},
    {.low = 0xc75da4a48d227781, .high = 0xe4ff0af6de8ba3fc},
    {.low = 0x4ea967520cb6709c, .high = 0x51ed8529b0b6335f},
    {.low = 0xaf8f9c2dc16481f8, .high = 0x7955cd7b7c6e0f7d},
    {.low = 0x886f778059876813, .high = 0x27960e69077a5254},
    {.low = 0x1386208b33caee14, .high = 0x5ea1d78f30a05e48},
    {.low = 0x53c1dbd8beebf1a1, .high = 0x3982f01fa64ab8c0},
    {.low = 0x61f55862baa9623b, .high = 0xb49714f364e2830f},
    {.low = 0xabbad90a06994426, .high = 0xed716dbb028b7fc4},
    {.low = 0x56691478c30d1100, .high = 0xbafbd0f3d34754c9},
    {.low = 0x77666b3868c55101, .high = 0x18dce5816fdcb4a2},
    {.low = 0x58f35e9066b226d6, .high = 0x25c13285f64d6382},
    {.low = 0x108bc0e947e26998, .high = 0xf752b9c44f9329d0},
    {.low = 0x9cded766aceffc31, .high = 0x024949e45f48c77e},
    {.low = 0x11a8b03399e99354, .high = 0xd9c3cf970fec087e},
    {.low = 0xbb54b067caa4e26e, .high = 0x77052385bf1533fd},
    {.low = 0x98b88d73e8063d47, .high = 0x4077e47ac466c054},
    {.low = 0x8548bf23e4e526a4, .high = 0x23f7aefe81a44d29},
    {.low = 0xb0fa65cf31770178, .high = 0xb12e51528920d574},
    {.low = 0x7390223f83fc259e, .high = 0xeb3938e8a544933e},
    {.low = 0x215a52be5a498e56, .high = 0x121d073ecd14228a},
    {.low = 0x9a6bd15245b5294a, .high = 0xae0aff8e52109c46},
    {.low = 0xe0f5a9d5dd84d1c9, .high = 0x1c69bf9a9ae28ccf},
    {.low = 0xd850bd78ae79b42d, .high = 0xad32618a178a2a88},
    {.low = 0x7b445e2d045fce8e, .high = 0x6f8f8dcbeab95150},
    {.low = 0xe807c3b3b4530b9c, .high = 0x661f147886e0ae7e},
    {.low = 0xe4eaa669af48f2ab, .high = 0x94eb9e122febd3bf},
    {.low = 0x884b576816da6406, .high = 0xf4ae587302f335b9},
    {.low = 0xe97d33bfc49d4baa, .high = 0xb76a7c463cfdd40c},
    {.low = 0xde6baf1f477f5cea, .high = 0x87226d68d4d71a2b},
    {.low = 0xfcfa233218b03929, .high = 0x353dc4524fde2317},
    {.low = 0x3efcea5eca56397c, .high = 0x68eb4665559d3e36},
    {.low = 0x321cf0467107c677, .high = 0xcfffa94e5f9db6b6},
    {.low = 0xdf7e84b86c98a637, .high = 0xde549b30f1f02509},
    {.low = 0xf9a8a99de6f005a7, .high = 0xc88c3c922e1a2407},
    {.low = 0x4648c4291f7dc43d, .high = 0x11674f90ed769e1e},
    {.low = 0x1a0efce601bf620d, .high = 0x2b69d3c551473c0d},
    {.low = 0x9e667cca8b46038c, .high = 0xb5e7be4b085efde4},
    {.low = 0x9c2caf3bb95b8a52, .high = 0xd92bd2d0e5cc7344},
    {.low = 0xad5dc9951e306adf, .high = 0xd83b91c6c80cae97},
    {.low = 0x397f852c90891180, .high = 0xdbb6705e289135e7},
    {.low = 0xbb31c2c96a3417e6, .high = 0x5b0ccacc34ae5036},
    {.low = 0xaa21b7ef3734d927, .high = 0x89df5aecdc211840},
    {.low = 0x785e9ced9d7d2389, .high = 0x4273cc66b1c9b1d8},
    {.low = 0x657d5ebf91806d4a, .high = 0x4cb150a294fa8911},
    {.low = 0x89aee75560f9330e, .high = 0x022949cf3d0efc3f},
    {.low = 0xd1190b722b431ce6, .high = 0x1b1563dc4bd8c88e},
    {.low = 0xcf82f749f5aee5f7, .high = 0x169b2608a6559037},
    {.low = 0x4fa5b7d00f038d43, .high = 0x03641a20adf237a8},
    {.low = 0xe304bf4feed390a5, .high = 0x3f4286f2270d7e24},
    {.low = 0xc493fe72a1c1e25f, .high = 0x38f5f9ae7cd35cb1},
    {.low = 0x6eb306bd5c32972c, .high = 0x7c013a8bd03d13b2},
    {.low = 0x94ca6b7a2214c892, .high = 0x9ed32a009f65f09f},
    {.low = 0x8c32d80b1150e8dc, .high = 0x871d91d64108d5fb},
    {.low = 0x1279dac78449f167, .high = 0xda832592b52be348},
    {.low = 0xe94ed572cff23819, .high = 0x362a1da96f16947e},
    {.low = 0xfe49ed46961e4874, .high = 0x8e6904163024620f},
    {.low = 0xd8d6a998dea5fc57, .high = 0x1d8a3d58d0386400},
    {.low = 0xbe1cdcef1cdeec9f, .high = 0x595357d9743676d4},
    {.low = 0x53f128eb000c04e3, .high = 0x40e772d8cb73ca66},
    {.low = 0xfe1d836a9a009776, .high = 0x7a0f6793591ca9cc},
    {.low = 0xa067f52123545358, .high = 0xbd5947f0a447d505},
    {.low = 0x4a83502f77d15051, .high = 0x7cbd3f979a063e50},
}};
constexpr MacKey kKey{.k0 = 0x0706050403020100, .k1 = 0x0f0e0d0c0b0a0908};

std::vector<std::byte> counting_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

TEST(MacTest, GivesTheReferenceVectorsForEveryLengthBelow64) {
  for (std::size_t length = 0; length < kVectors.size(); ++length) {
    const Mac128 mac = mac128(kKey, counting_bytes(length));
    EXPECT_EQ(mac.low, kVectors[length].low) << length;
    EXPECT_EQ(mac.high, kVectors[length].high) << length;
  }
}

TEST(MacTest, EveryBitOfTheKeyAndOfTheMessageMatters) {
  const auto message = counting_bytes(100);
  const Mac128 expected = mac128(kKey, message);
  for (unsigned bit = 0; bit < 64; ++bit) {
    const std::uint64_t flip = std::uint64_t{1} << bit;
    EXPECT_NE(mac128({.k0 = kKey.k0 ^ flip, .k1 = kKey.k1}, message), expected) << bit;
    EXPECT_NE(mac128({.k0 = kKey.k0, .k1 = kKey.k1 ^ flip}, message), expected) << bit;
  }
  for (std::size_t bit = 0; bit < message.size() * 8; ++bit) {
    auto changed = message;
    changed[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_NE(mac128(kKey, changed), expected) << bit;
  }
}

TEST(MacTest, ReadsUnalignedMessages) {
  const auto message = counting_bytes(64);
  for (std::size_t offset = 0; offset < 8; ++offset) {
    std::vector<std::byte> shifted(offset + message.size());
    std::ranges::copy(message, shifted.begin() + static_cast<std::ptrdiff_t>(offset));
    EXPECT_EQ(mac128(kKey, std::span{shifted}.subspan(offset)), mac128(kKey, message)) << offset;
  }
}

}  // namespace
}  // namespace larder
