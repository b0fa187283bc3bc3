#include <gtest/gtest.h>

#include <fstream>

#include "larder/base/random.h"
#include "larder/server/router_test_support.h"
#include "tests/support/sanitizers.h"

namespace larder::server::testing {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

std::uint64_t resident_bytes() {
  std::ifstream file{"/proc/self/statm"};
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  file >> size >> pages;
  return pages * 4096;
}

/// Memory that a sanitizer keeps after its release is not the router's.
bool is_below(std::uint64_t bytes_max) {
  return larder::testing::kHasShadowMemory || resident_bytes() < bytes_max;
}

/// Writes pieces of a message without an end until the connection is shut, with a look at it after
/// each.
struct Flood {
  std::uint64_t written = 0;
  std::uint64_t memory = 0;  ///< The most that the process grew by.
};
Flood flood(RouterHost& host, Dealer& other, RawPeer& peer, const std::string& piece) {
  Flood seen;
  const std::uint64_t before = resident_bytes();
  while (seen.written < 1024 * kMiB && host.router().connections_shut() == 0) {
    if (!peer.write(piece)) break;
    seen.written += piece.size();
    if (!is_answered(host, other)) ADD_FAILURE() << "after " << seen.written;
    host.router().look_for_floods(true);
    seen.memory = std::max(seen.memory, resident_bytes() - std::min(before, resident_bytes()));
  }
  EXPECT_EQ(host.router().connections_shut(), 1U);
  EXPECT_TRUE(host.run_until([&] { return host.router().connections() == 1; }));
  EXPECT_TRUE(host.run_until([&] {
    host.router().look_for_floods(true);
    return is_below(before + 32 * kMiB);
  })) << resident_bytes();
  EXPECT_TRUE(is_answered(host, other));
  EXPECT_EQ(host.router().connections(), 1U);
  return seen;
}

TEST(RouterHostileTest, ShutsAPeerWhoseMessageDoesNotEnd) {
  RouterHost host;
  Dealer other{host.router().port()};
  ASSERT_TRUE(is_answered(host, other));
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands());
  std::string piece;
  for (int i = 0; i < 8; ++i) piece += RawPeer::frame(std::string(kMiB, 'f'), true);
  const Flood seen = flood(host, other, peer, piece);
  EXPECT_GE(seen.written, 64 * kMiB);
  EXPECT_LE(seen.written, 96 * kMiB);
  EXPECT_TRUE(larder::testing::kHasShadowMemory || seen.memory <= 120 * kMiB) << seen.memory;
}

TEST(RouterHostileTest, ShutsAPeerWhoseShortFramesFillTheMemory) {
  if (larder::testing::kHasShadowMemory) GTEST_SKIP() << "needs a build without sanitizers";
  RouterHost host;
  Dealer other{host.router().port()};
  ASSERT_TRUE(is_answered(host, other));
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands());
  host.router().expect(host.received[0].connection, 4096 * kMiB);  // Of the other one.
  std::string piece;
  for (int i = 0; i < 400'000; ++i) piece += RawPeer::frame("f", true);
  const Flood seen = flood(host, other, peer, piece);
  EXPECT_LE(seen.written, 63 * kMiB);
  EXPECT_LE(seen.memory, 900 * kMiB);
}

TEST(RouterHostileTest, ShutsThePeerThatHoldsMostWhereManyHoldMuch) {
  RouterHost host;
  std::vector<RawPeer> peers;
  for (std::uint64_t i = 0; i < 6; ++i) {
    RawPeer& peer = peers.emplace_back(host.router().port());
    ASSERT_TRUE(peer.shake_hands());
    ASSERT_TRUE(peer.write(RawPeer::frame(std::string((45 + i) * kMiB, 'f'), true)));
    ASSERT_TRUE(host.run_until([&] {  // Until the frame has come.
      host.router().look_for_floods(true);
      return peers.size() < 6 || host.router().connections_shut() == 1;
    }));
  }
  EXPECT_EQ(peers.back().read(1), "");
  ASSERT_TRUE(host.run_until([&] { return host.router().connections() == 5; }));
  host.router().look_for_floods(true);
  EXPECT_EQ(host.router().connections_shut(), 1U);
}

TEST(RouterHostileTest, TakesInlineValuesThatWereExpected) {
  RouterHost host;
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands() && peer.send({"uid", "prepare"}));
  ASSERT_TRUE(host.run_until_received(1));
  host.router().expect(host.received[0].connection, 200 * kMiB);
  const std::string message =
      RawPeer::frame("uid", true) + RawPeer::frame(std::string(200 * kMiB, 'v'), false);
  for (std::size_t at = 0; at < message.size(); at += 8 * kMiB) {
    ASSERT_TRUE(peer.write(std::string_view{message}.substr(at, 8 * kMiB)));
    host.run_until([] { return true; });
    host.router().look_for_floods(true);
  }
  ASSERT_TRUE(host.run_until_received(2));
  EXPECT_EQ(host.received[1].frames[1].size(), 200 * kMiB);
  EXPECT_EQ(host.router().connections_shut(), 0U);
}

TEST(RouterHostileTest, LetsAPeerSendMuchAsLongAsItsMessagesEnd) {
  RouterHost host;
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands());
  const Frames message{"uid", std::string(kMiB, 'f'), std::string(10, 's')};
  for (std::size_t i = 0; i < 300; ++i) {
    ASSERT_TRUE(peer.send(message));
    ASSERT_TRUE(host.run_until_received(i + 1));
    host.received[i].frames.clear();
    host.router().look_for_floods(true);
  }
  EXPECT_EQ(host.router().connections_shut(), 0U);
  EXPECT_EQ(host.router().connections(), 1U);
}

TEST(RouterHostileTest, DropsTheFramesOfALongMessageInPieces) {
  RouterHost host;
  Dealer other{host.router().port()};
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands());
  std::string frames;
  for (int i = 0; i < 100'000; ++i) frames += RawPeer::frame("f", true);
  frames += RawPeer::frame("f", false);
  ASSERT_TRUE(peer.write(frames));
  ASSERT_TRUE(host.run_until_received(1));
  EXPECT_EQ(host.received[0].frames.size(), wire::limits::kFrames + 1);
  EXPECT_TRUE(is_answered(host, other));
}

TEST(RouterHostileTest, RefusesAFrameBeyondTheLimitUnread) {
  RouterHost host;
  Dealer other{host.router().port()};
  for (const std::uint64_t bytes : {4096 * kMiB + 1, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    const std::uint64_t before = resident_bytes();
    RawPeer peer{host.router().port()};
    ASSERT_TRUE(peer.shake_hands());
    std::string head{"\x02", 1};
    for (int shift = 56; shift >= 0; shift -= 8) head += static_cast<char>(bytes >> shift & 0xFF);
    ASSERT_TRUE(peer.write(head));
    ASSERT_TRUE(is_answered(host, other));
    // Refused by closing the connection: its sending ends.
    while (peer.write(std::string(4096, 'b'))) {
    }
    EXPECT_TRUE(is_answered(host, other));
    EXPECT_TRUE(host.run_until([&] { return is_below(before + 16 * kMiB); }));
  }
}

TEST(RouterHostileTest, TakesTheLargestFrameOfAKey) {
  RouterHost host;
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands());
  ASSERT_TRUE(peer.send({"uid", std::string(wire::limits::kFrameBytes, 'f')}));
  ASSERT_TRUE(host.run_until_received(1));
  EXPECT_EQ(host.received[0].frames[1].size(), wire::limits::kFrameBytes);
}

TEST(RouterHostileTest, DropsTheRepliesOfAPeerThatDoesNotRead) {
  RouterHost host;
  host.reply_bytes = 64 << 10;
  Dealer other{host.router().port()};
  ASSERT_TRUE(is_answered(host, other));
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands());
  std::size_t sent = 0;
  while (host.router().replies_dropped() == 0 && sent < 20'000) {
    ASSERT_TRUE(peer.send({"uid", "operation"}));
    ++sent;
    ASSERT_TRUE(host.run_until([&] { return host.received.size() == sent + 1; }));
  }
  EXPECT_GT(host.router().replies_dropped(), 0U);
  EXPECT_TRUE(is_answered(host, other));
}

TEST(RouterHostileTest, OutlivesGarbage) {
  RouterHost host;
  Dealer other{host.router().port()};
  Random random{15};
  for (int i = 0; i < 200; ++i) {
    RawPeer peer{host.router().port()};
    if (random.one_in(2) && !peer.shake_hands()) continue;
    std::array<std::byte, 2048> garbage{};
    random.fill(garbage);
    peer.write(as_text(garbage).substr(0, random.below(garbage.size())));
    ASSERT_TRUE(i % 20 != 0 || is_answered(host, other));
  }
  EXPECT_TRUE(is_answered(host, other));
  EXPECT_TRUE(host.run_until([&] { return host.router().connections() == 1; }));
}

TEST(RouterHostileTest, ForgetsThousandsOfConnections) {
  RouterHost host;
  Dealer other{host.router().port()};
  ASSERT_TRUE(is_answered(host, other));
  constexpr std::size_t kRounds = 20;
  constexpr std::size_t kPeers = 100;
  std::size_t talked = 1;
  for (std::size_t round = 0; round < kRounds; ++round) {
    std::vector<RawPeer> peers;
    for (std::size_t i = 0; i < kPeers; ++i) {
      RawPeer& peer = peers.emplace_back(host.router().port());
      if (i % 2 == 0) continue;  // It only connects.
      ASSERT_TRUE(peer.shake_hands() && peer.send({"uid", "operation"}));
      ++talked;
    }
    ASSERT_TRUE(host.run_until_received(talked));
    host.router().look_for_floods(true);
    EXPECT_EQ(host.router().connections(), kPeers + 1);
    peers.clear();
    ASSERT_TRUE(host.run_until([&] { return host.router().connections() == 1; }));
  }
  EXPECT_TRUE(host.run_until([&] { return host.closed.size() == talked - 1; }));
  EXPECT_TRUE(is_answered(host, other));
  EXPECT_EQ(host.received.back().connection, host.received.front().connection);
}

TEST(RouterHostileTest, AnswersWhoHalfClosesAndTheNextOne) {
  RouterHost host;
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands() && peer.send({"uid", "operation"}));
  ::shutdown(peer.fd(), SHUT_WR);
  ASSERT_TRUE(host.run_until_received(1));
  EXPECT_TRUE(host.run_until([&] { return host.closed.size() == 1; }));
  Dealer other{host.router().port()};
  EXPECT_TRUE(is_answered(host, other));
}

}  // namespace
}  // namespace larder::server::testing
