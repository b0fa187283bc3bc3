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

/// What a sanitizer keeps of memory that was given back is not the router's.
bool is_below(std::uint64_t bytes_max) {
  return larder::testing::kHasShadowMemory || resident_bytes() < bytes_max;
}

TEST(RouterHostileTest, ShutsAPeerWhoseMessageDoesNotEnd) {
  RouterHost host;
  Dealer other{host.router().port()};
  ASSERT_TRUE(is_answered(host, other));
  const std::uint64_t before = resident_bytes();
  RawPeer peer{host.router().port()};
  ASSERT_TRUE(peer.shake_hands());
  const std::string frame = RawPeer::frame(std::string(kMiB, 'f'), true);
  std::uint64_t written = 0;
  std::uint64_t most = 0;
  while (written < 1024 * kMiB) {
    bool is_open = true;
    for (int i = 0; i < 8 && is_open; ++i) is_open = peer.write(frame);
    if (!is_open) break;
    written += 8 * kMiB;
    ASSERT_TRUE(is_answered(host, other));
    host.router().look_after_unfinished();
    most = std::max(most, resident_bytes());
  }
  EXPECT_GE(written, 128 * kMiB);
  EXPECT_LE(written, 160 * kMiB);
  EXPECT_EQ(host.router().connections_shut(), 1U);
  EXPECT_TRUE(larder::testing::kHasShadowMemory || most - before <= 180 * kMiB) << most - before;
  ASSERT_TRUE(host.run_until([&] { return host.router().connections() == 1; }));
  EXPECT_TRUE(host.run_until([&] {
    host.router().look_after_unfinished();
    return is_below(before + 32 * kMiB);
  })) << resident_bytes();
  EXPECT_TRUE(is_answered(host, other));
  EXPECT_EQ(host.router().connections(), 1U);
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
    host.router().look_after_unfinished();
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
  for (const std::uint64_t bytes : {64 * kMiB + 1, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    const std::uint64_t before = resident_bytes();
    RawPeer peer{host.router().port()};
    ASSERT_TRUE(peer.shake_hands());
    std::string head{"\x02", 1};
    for (int shift = 56; shift >= 0; shift -= 8) head += static_cast<char>(bytes >> shift & 0xFF);
    ASSERT_TRUE(peer.write(head));
    ASSERT_TRUE(is_answered(host, other));
    // Refused by closing the connection: what it sends comes to an end.
    while (peer.write(std::string(4096, 'b'))) {
    }
    EXPECT_TRUE(is_answered(host, other));
    EXPECT_TRUE(host.run_until([&] { return is_below(before + 16 * kMiB); }));
  }
}

TEST(RouterHostileTest, TakesTheLargestFrame) {
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
    host.router().look_after_unfinished();
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
