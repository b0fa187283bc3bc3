// Peers that greet and do not serve.
#include <atomic>

#include "larder/base/clock.h"
#include "tests/resp/resp_test_support.h"

namespace larder::resp {
namespace {

using testing::ScriptedPeer;
using Answer = ScriptedPeer::Answer;
using Words = ScriptedPeer::Words;

struct PeerThatGreets {
  const char* name;
  Answer to_all_else;
};

TEST(RespRefusalTest, APeerThatGreetsAndServesNothingIsDownUntilItServes) {
  for (const PeerThatGreets& one :
       {PeerThatGreets{"never answers", {}}, PeerThatGreets{"closes", {.resets = true}},
        PeerThatGreets{"answers with an error", {.bytes = "-ERR no upstream\r\n"}},
        PeerThatGreets{"is no server", {.bytes = "HTTP/1.1 400 Bad Request\r\n\r\n"}}}) {
    SCOPED_TRACE(one.name);
    std::atomic<bool> is_good = false;
    const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
      if (is_greeting(words)) return std::nullopt;
      return is_good ? good_answer(words) : one.to_all_else;
    }};
    const Opened connector{
        redis_spec(peer.port(), "connections=8&timeout=50ms&miss_after_failure=1ms")};
    BlockingClient client{*connector};
    for (int i = 0; i < 20; ++i) {
      const std::string key = "key" + std::to_string(i);
      EXPECT_FALSE(is_hit(client, key, 5));
      EXPECT_NE(set_code(client, key, 5), ErrorCode::kNone);
    }
    EXPECT_TRUE(eventually_has_health(*connector, Health::kDown)) << text_of_report(*connector);
    if (one.to_all_else.bytes.empty()) {
      EXPECT_GT(counter_of(*connector, "connections_lost_total"), 0U);
    }
    is_good = true;
    EXPECT_TRUE(eventually([&] { return set_code(client, "key", 5) == ErrorCode::kNone; }));
    EXPECT_TRUE(eventually([&] { return is_hit(client, "key", 5); }));
    EXPECT_TRUE(eventually([&] {
      // Lookups have a connection of their own, which must serve before it counts.
      return client.exists("key").has_value() && connector->report().health != Health::kDown;
    })) << text_of_report(*connector);
  }
}

TEST(RespRefusalTest, ConnectionsForValuesThatAreAllRefusedAreDownThoughLookupsWork) {
  std::atomic<bool> is_good = false;
  const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
    if (words[0] == "PING" && connection > 0 && !is_good) {
      return Answer{.bytes = "-ERR max number of clients reached\r\n", .resets = true};
    }
    return good_answer(words);
  }};
  const Opened connector{redis_spec(peer.port(), "connections=4")};
  BlockingClient client{*connector};
  EXPECT_EQ(*client.exists("key").value(), 5U);
  EXPECT_TRUE(is_missed_as_down(client, "key", 5));
  EXPECT_TRUE(eventually_has_health(*connector, Health::kDown)) << text_of_report(*connector);
  EXPECT_NE(text_of_report(*connector).find("for values"), std::string::npos)
      << text_of_report(*connector);
  is_good = true;
  EXPECT_TRUE(eventually([&] { return set_code(client, "key", 5) == ErrorCode::kNone; }));
  EXPECT_TRUE(eventually([&] { return connector->report().health != Health::kDown; }));
}

TEST(RespRefusalTest, AGreetingDoesNotShortenTheWaitForTheNextConnection) {
  std::atomic<int> connections = 0;
  const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
    raise_to(connections, connection + 1);
    if (is_greeting(words) || words.back() == "larder:probe") return std::nullopt;
    return Answer{.resets = true};
  }};
  const std::uint64_t start_ns = RealClock::instance().now_ns();
  const Opened connector{
      "redis://127.0.0.1:" + std::to_string(peer.port()) +
      "?connections=1&reconnect_max=10m&info_interval=10ms&miss_after_failure=1ms"};
  BlockingClient client{*connector};
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(set_code(client, "key", 5), ErrorCode::kUnavailable);
  const std::uint64_t elapsed_ns = RealClock::instance().now_ns() - start_ns;
  EXPECT_LE(connections, 2 * attempts_within(elapsed_ns, 600e9));
}

TEST(RespRefusalTest, AProxyThatClosesAtInfoServesLookups) {
  std::atomic<int> infos = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] != "INFO") return good_answer(words);
    ++infos;
    return Answer{.resets = true};
  }};
  const Opened connector{redis_spec(peer.port(), "connections=1")};
  BlockingClient client{*connector};
  ASSERT_TRUE(eventually([&] { return infos > 0; }));
  EXPECT_TRUE(eventually([&] { return client.exists("key").has_value(); }));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(client.exists("key").value(), 5U);
  EXPECT_EQ(infos, 1);
}

TEST(RespRefusalTest, NewLookupsDoNotKeepAConnectionThatNeverAnswers) {
  std::atomic<bool> is_left = false;
  const ScriptedPeer peer{[&](const Words& words, int connection) -> std::optional<Answer> {
    if (words[0] == "STRLEN" && connection > 1) is_left = true;
    return std::nullopt;
  }};
  const Opened connector{redis_spec(peer.port(), "connections=1&timeout=100ms")};
  BlockingClient hasty{*connector, 20 * kMillisecondNs};
  for (int i = 0; i < 200 && !is_left; ++i) {
    EXPECT_FALSE(hasty.exists("key").has_value());
  }
  EXPECT_TRUE(is_left);
}

}  // namespace
}  // namespace larder::resp
