// Keys that are there and whose load fails.
#include <atomic>

#include "tests/resp/resp_test_support.h"

namespace larder::resp {
namespace {

using testing::ScriptedPeer;
using Answer = ScriptedPeer::Answer;
using Words = ScriptedPeer::Words;

/// The peer holds a value of 5 bytes, and answers GET with `answer` until the key is replaced.
void expect_no_endless_failure(const Answer& answer, ErrorCode code) {
  std::atomic<bool> is_replaced = false;
  std::atomic<int> kept = 0;
  const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
    if (words[0] == "GET" && words[1] == "key" && !is_replaced) return answer;
    if (words[0] == "SET" && words.back() != "NX") is_replaced = true;
    if (words[0] == "SET" && words.back() == "NX") ++kept;
    return good_answer(words);
  }};
  const Opened connector{redis_spec(peer.port(), "connections=1&miss_after_failure=1h")};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_hit(client, "another", 5));
  EXPECT_EQ(*client.exists("key").value(), 5U);
  EXPECT_EQ(get_code(client, "key", 5), code);
  EXPECT_FALSE(client.exists("key").value().has_value()) << "it is found again";
  EXPECT_TRUE(is_miss(client, "key", 5));
  // A connection may have been lost by the answer, and be a moment away.
  ASSERT_TRUE(eventually(
      [&] { return set_code(client, "key", 5, SetMode::kIfAbsent) == ErrorCode::kNone; }));
  EXPECT_TRUE(is_replaced) << "a store was told that it is there already";
  EXPECT_EQ(kept, 0);
  EXPECT_TRUE(is_hit(client, "key", 5));
  EXPECT_EQ(*client.exists("key").value(), 5U);
}

TEST(RespFailedLoadTest, AKeyWhoseLoadFailedIsAMissUntilAStoreReplacesItWhateverTheReply) {
  struct Case {
    const char* reply;
    ErrorCode code;
    bool resets = false;
  };
  for (const Case& one : {
           Case{"-NOPERM User default has no permissions to run the 'get' command\r\n",
                ErrorCode::kUnavailable},
           Case{"-WRONGTYPE Operation against a key\r\n", ErrorCode::kCorruption},
           Case{"-MOVED 3999 127.0.0.1:6381\r\n", ErrorCode::kUnimplemented},
           Case{"-ASK 3999 127.0.0.1:6381\r\n", ErrorCode::kUnimplemented},
           Case{"-CROSSSLOT Keys in request\r\n", ErrorCode::kUnimplemented},
           Case{"-CLUSTERDOWN Hash slot not served\r\n", ErrorCode::kUnavailable},
           Case{"-LOADING Redis is loading the dataset in memory\r\n", ErrorCode::kUnavailable},
           Case{"-BUSY Redis is busy\r\n", ErrorCode::kUnavailable},
           Case{"-MASTERDOWN Link with MASTER is down\r\n", ErrorCode::kUnavailable},
           Case{"-READONLY You can't write against a read only replica.\r\n",
                ErrorCode::kUnavailable},
           Case{"-OOM command not allowed\r\n", ErrorCode::kResourceExhausted},
           Case{"-NOAUTH Authentication required.\r\n", ErrorCode::kUnavailable},
           Case{"-ERR unknown command 'GET'\r\n", ErrorCode::kIo},
           Case{"-upstream failure\r\n", ErrorCode::kIo},
           Case{"-\r\n", ErrorCode::kIo},
           Case{":5\r\n", ErrorCode::kUnavailable},
           Case{"*1\r\n$5\r\nvalue\r\n", ErrorCode::kUnavailable},
           Case{"<html>\r\n", ErrorCode::kUnavailable},
           Case{"$5\r\nab", ErrorCode::kUnavailable, true},
           Case{"", ErrorCode::kUnavailable, true},
       }) {
    SCOPED_TRACE(one.reply);
    expect_no_endless_failure(Answer{.bytes = one.reply, .resets = one.resets}, one.code);
  }
}

TEST(RespFailedLoadTest, AValueThatNoLoadCanTakeIsAMissAndAStoreThatKeepsReplacesIt) {
  for (const std::string bytes : {"1073741825", "99999999999"}) {
    SCOPED_TRACE(bytes);
    std::atomic<bool> is_replaced = false;
    const ScriptedPeer peer{[&](const Words& words, int) -> std::optional<Answer> {
      if (words[0] == "SET" && words.back() != "NX") is_replaced = true;
      if (is_replaced || words.size() < 2 || words[1] != "key") return good_answer(words);
      if (words[0] == "GET") return Answer{.bytes = "$" + bytes + "\r\nbegins"};
      if (words[0] == "STRLEN") return Answer{.bytes = ":" + bytes + "\r\n"};
      return good_answer(words);
    }};
    {
      const Opened connector{redis_spec(peer.port(), "connections=1")};
      BlockingClient client{*connector};
      EXPECT_TRUE(is_miss(client, "key", 5));
      EXPECT_TRUE(is_hit(client, "another", 5)) << "the connection is in step, or a new one";
      EXPECT_FALSE(client.exists("key").value().has_value());
      EXPECT_GT(counter_of(*connector, "values_too_large_total"), 0U);
    }
    {
      const Opened connector{redis_spec(peer.port(), "connections=1")};
      BlockingClient client{*connector};
      EXPECT_FALSE(client.exists("key").value().has_value());
    }
    // A new connector has seen neither: the store finds out.
    const Opened connector{redis_spec(peer.port(), "connections=1")};
    BlockingClient client{*connector};
    EXPECT_EQ(set_code(client, "key", 5, SetMode::kIfAbsent), ErrorCode::kNone);
    EXPECT_TRUE(is_replaced) << "a store was told that it is there already";
    EXPECT_TRUE(is_hit(client, "key", 5));
  }
}

TEST(RespFailedLoadTest, AKeyOfAnotherTypeIsReplacedByAStoreThatKeeps) {
  LARDER_START_REDIS(server, {});
  server.command({"LPUSH", "key", "x"});
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  EXPECT_EQ(set_code(client, "key", 5, SetMode::kIfAbsent), ErrorCode::kNone);
  EXPECT_TRUE(is_hit(client, "key", 5));
}

TEST(RespFailedLoadTest, AStoreOfWhatIsThereSaysSo) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{5}}) {
    ASSERT_EQ(set_code(client, "key", bytes), ErrorCode::kNone);
    const auto value = value_of("key", 7);
    ASSERT_TRUE(client.set("key", value, SetMode::kIfAbsent).has_value());
    EXPECT_EQ(*client.exists("key").value(), bytes) << "it was replaced";
  }
  EXPECT_EQ(counter_of(*connector, "sets_existed_total"), 2U);
}

TEST(RespFailedLoadTest, AUserWhoMayNotLoadShowsInTheReport) {
  LARDER_START_REDIS(server, {});
  ASSERT_EQ(server.command({"SET", "key", "12345"}), "OK");
  ASSERT_EQ(server.command({"ACL", "SETUSER", "me", "on", ">pw", "~*", "+@all", "-get"}), "OK");
  const Opened connector{redis_spec(server.port(), "username=me&password=pw&connections=2")};
  BlockingClient client{*connector};
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(client.exists("key").has_value()) << i;
    EXPECT_EQ(get_code(client, "key" + std::to_string(i), 5), ErrorCode::kUnavailable);
  }
  EXPECT_NE(connector->report().health, Health::kHealthy);
  EXPECT_NE(text_of_report(*connector).find("NOPERM"), std::string::npos)
      << text_of_report(*connector);
}

}  // namespace
}  // namespace larder::resp
