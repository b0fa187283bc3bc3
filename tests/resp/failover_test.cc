// The server that a connection leads to is not the primary any more.
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>

#include "larder/base/clock.h"
#include "tests/resp/resp_test_support.h"
#include "tests/support/forked_child.h"
#include "tests/support/temporary_directory.h"

namespace larder::resp {
namespace {

using testing::ScriptedPeer;
using Answer = ScriptedPeer::Answer;
using Words = ScriptedPeer::Words;

/// Connections from a number on lead to another server, as behind a name that was changed.
class Failover {
 public:
  explicit Failover(std::function<std::optional<Answer>(const Words&)> old_answer)
      : old_answer_(std::move(old_answer)) {}

  std::optional<Answer> operator()(const Words& words, int connection) {
    raise_to(connections_, connection + 1);
    const int first_new = first_new_;
    if (first_new < 0 || is_greeting(words) || words[0] == "INFO") return good_answer(words);
    if (connection < first_new) {
      if (words[0] == "GET" || words[0] == "STRLEN") ++reads_of_old_;
      return old_answer_(words);
    }
    return good_answer(words);
  }
  void happen() { first_new_ = connections_.load(); }
  int connections() const { return connections_; }
  int reads_of_old() const { return reads_of_old_; }

 private:
  const std::function<std::optional<Answer>(const Words&)> old_answer_;
  std::atomic<int> connections_ = 0;
  std::atomic<int> first_new_ = -1;
  std::atomic<int> reads_of_old_ = 0;
};

/// A replica: it serves loads and refuses stores.
std::optional<Answer> replica_answer(const Words& words) {
  if (words[0] == "SET" || words[0] == "UNLINK") {
    return Answer{.bytes = "-READONLY You can't write against a read only replica.\r\n"};
  }
  return good_answer(words);
}

TEST(RespFailoverTest, StoresAndThenEverythingGoWhereTheNameLeadsNow) {
  Failover failover{replica_answer};
  const ScriptedPeer peer{
      [&](const Words& words, int connection) { return failover(words, connection); }};
  const Opened connector{redis_spec(peer.port(), "connections=4")};
  BlockingClient client{*connector};
  ASSERT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 5; }));
  ASSERT_EQ(set_code(client, "key", 5), ErrorCode::kNone);
  failover.happen();
  EXPECT_EQ(set_code(client, "key", 5), ErrorCode::kUnavailable);
  EXPECT_TRUE(eventually([&] {
    EXPECT_TRUE(is_hit(client, "key", 5)) << "loads go on meanwhile";
    return set_code(client, "key", 5) == ErrorCode::kNone;
  }));
  // Lookups and loads too, which were never refused, leave the old server.
  EXPECT_TRUE(eventually([&] { return failover.connections() == 10; }));
  EXPECT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 5; }));
  const int before = failover.reads_of_old();
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(is_hit(client, "key", 5));
    EXPECT_EQ(*client.exists("key").value(), 5U);
    EXPECT_EQ(set_code(client, "key", 5), ErrorCode::kNone);
  }
  EXPECT_EQ(failover.reads_of_old(), before);
  EXPECT_EQ(failover.connections(), 10) << "and stay";
}

TEST(RespFailoverTest, DeletesAloneLeadThereToo) {
  Failover failover{replica_answer};
  const ScriptedPeer peer{
      [&](const Words& words, int connection) { return failover(words, connection); }};
  const Opened connector{redis_spec(peer.port(), "connections=2")};
  BlockingClient client{*connector};
  ASSERT_TRUE(client.remove("key").value());
  failover.happen();
  EXPECT_EQ(client.remove("key").error().code(), ErrorCode::kUnavailable);
  EXPECT_TRUE(eventually([&] { return client.remove("key").has_value(); }));
}

TEST(RespFailoverTest, LoadsThatAReplicaRefusesLeadThereToo) {
  for (const std::string reply :
       {"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n"}) {
    SCOPED_TRACE(reply);
    Failover failover{[&](const Words&) { return Answer{.bytes = reply}; }};
    const ScriptedPeer peer{
        [&](const Words& words, int connection) { return failover(words, connection); }};
    const Opened connector{redis_spec(peer.port(), "connections=2&miss_after_failure=1ms")};
    BlockingClient client{*connector};
    ASSERT_TRUE(is_hit(client, "key", 5));
    failover.happen();
    EXPECT_EQ(get_code(client, "key", 5), ErrorCode::kUnavailable);
    EXPECT_TRUE(eventually([&] { return is_hit(client, "key", 5); }));
    EXPECT_TRUE(eventually([&] { return client.exists("key").has_value(); }));
  }
}

TEST(RespFailoverTest, AReplicaForGoodServesLoadsAndIsNotStormed) {
  Failover failover{replica_answer};
  const ScriptedPeer peer{[&](const Words& words, int connection) {
    failover(words, connection);
    return is_greeting(words) || words[0] == "INFO" ? std::nullopt : replica_answer(words);
  }};
  const std::uint64_t start_ns = RealClock::instance().now_ns();
  const Opened connector{redis_spec(peer.port(), "connections=4")};
  BlockingClient client{*connector};
  for (int i = 0; i < 3000; ++i) {
    EXPECT_EQ(set_code(client, "key", 5), ErrorCode::kUnavailable);
    EXPECT_TRUE(is_hit(client, "key", 5));
    EXPECT_EQ(*client.exists("key").value(), 5U);
  }
  const std::uint64_t elapsed_ns = RealClock::instance().now_ns() - start_ns;
  EXPECT_GT(failover.connections(), 5) << "no new connection looks whether that has changed";
  EXPECT_LE(failover.connections(), 5 + attempts_within(elapsed_ns, 50e6));
  EXPECT_EQ(counter_of(*connector, "get_failures_total"), 0U);
  EXPECT_NE(text_of_report(*connector).find("READONLY"), std::string::npos);
}

/// The process sees a file of its own as /etc/hosts.
bool replace_hosts(const std::string& path) {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount(path.c_str(), "/etc/hosts", nullptr, MS_BIND, nullptr) == 0;
}

std::string after_the_name_moved(const std::string& hosts) {
  std::ofstream{hosts} << "127.0.0.1 larder-test-server\n";
  if (!replace_hosts(hosts)) return "cannot have an /etc/hosts of its own";
  std::atomic<bool> has_moved = false;
  std::atomic<int> stored_at_new = 0;
  const ScriptedPeer old_server{[&](const Words& words, int) {
    return has_moved ? replica_answer(words) : good_answer(words);
  }};
  const ScriptedPeer new_server{[&](const Words& words, int) {
                                  if (words[0] == "SET") ++stored_at_new;
                                  return good_answer(words);
                                },
                                "127.0.0.2", old_server.port()};
  const Opened connector{"redis://larder-test-server:" + std::to_string(old_server.port()) +
                         "?reconnect_max=50ms&connections=4"};
  BlockingClient client{*connector};
  if (!eventually([&] { return set_code(client, "key", 5) == ErrorCode::kNone; })) {
    return "never connected: " + text_of_report(*connector);
  }
  if (stored_at_new != 0) return "connected to the server that comes later";
  has_moved = true;
  std::ofstream{hosts} << "127.0.0.2 larder-test-server\n";
  if (!eventually([&] { return set_code(client, "key", 5) == ErrorCode::kNone; })) {
    return "stays with the old address: " + text_of_report(*connector);
  }
  return stored_at_new > 0 ? "well" : "stored nothing at the new server";
}

TEST(RespFailoverTest, ANewConnectionResolvesTheNameAnew) {
  if (::geteuid() != 0) GTEST_SKIP() << "SKIPPED (needs root, for an /etc/hosts of its own)";
  const testing::TemporaryDirectory directory;
  const testing::ForkedChild child{
      [&](int) { return after_the_name_moved(directory.path() + "/hosts"); }};
  EXPECT_EQ(child.said(), "well");
}

}  // namespace
}  // namespace larder::resp
