#include <algorithm>
#include <atomic>
#include <filesystem>
#include <iterator>
#include <thread>

#include "tests/resp/resp_test_support.h"
#include "tests/support/no_descriptors.h"

namespace larder::resp {
namespace {

constexpr std::size_t kValueBytes = 200'000;

TEST(RespFaultTest, ConstructingWithoutAServerWorksAndItComesByItself) {
  LARDER_START_REDIS(server, {});
  server.kill();
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_missed_as_down(client, "key", 10));
  EXPECT_EQ(set_code(client, "key", 10), ErrorCode::kUnavailable);
  EXPECT_EQ(client.exists("key").value(), std::nullopt);
  EXPECT_EQ(connector->report().health, Health::kDown);
  EXPECT_FALSE(connector->report().reasons.empty());
  ASSERT_TRUE(server.start().has_value());
  EXPECT_TRUE(eventually([&] { return set_code(client, "key", 10) == ErrorCode::kNone; }));
  EXPECT_TRUE(is_hit(client, "key", 10));
  EXPECT_TRUE(eventually_is_over(*connector));
}

TEST(RespFaultTest, AStoreThatWasJustOpenedIsNotHealthyBeforeItsServerAnswered) {
  LARDER_START_REDIS(server, {});
  server.pause();
  {
    const Opened connector{redis_spec(server.port(), "connect_timeout=10m")};
    EXPECT_EQ(connector->report().health, Health::kDegraded);
    EXPECT_NE(text_of_report(*connector).find("connecting: the server has not answered yet"),
              std::string::npos);
    server.resume();
    EXPECT_TRUE(eventually_has_health(*connector, Health::kHealthy));
  }
  server.kill();
  for (int round = 0; round < 20; ++round) {
    const Opened connector{redis_spec(server.port())};
    EXPECT_NE(connector->report().health, Health::kHealthy);
  }
}

TEST(RespFaultTest, TheLogSaysOnceThatAServerWentAndOnceThatItIsBack) {
  testing::RedisServerOptions options;
  options.password = "UTTERLY-SECRET";
  LARDER_START_REDIS(server, options);
  const std::string place = "[resp] 127.0.0.1:" + std::to_string(server.port()) + ": ";
  const CapturedLog logged;
  const Opened connector{redis_spec(server.port(), "password=UTTERLY-SECRET")};
  BlockingClient client{*connector};
  EXPECT_EQ(set_code(client, "RAW-KEY", 10), ErrorCode::kNone);
  server.kill();
  EXPECT_TRUE(eventually([&] {
    get_code(client, "RAW-KEY", 10);
    return logged.text().find(" W " + place + "down: ") != std::string::npos;
  })) << logged.text();
  EXPECT_NE(logged.text().find("the server refuses the connection"), std::string::npos);
  const std::uint64_t failures = counter_of(*connector, "connect_failures_total");
  EXPECT_TRUE(
      eventually([&] { return counter_of(*connector, "connect_failures_total") > failures + 50; }));
  ASSERT_TRUE(server.start().has_value());
  EXPECT_TRUE(eventually([&] {
    return logged.text().find(" I " + place + "is healthy again") != std::string::npos;
  })) << logged.text();
  EXPECT_EQ(std::ranges::count(logged.text(), '\n'), 2) << logged.text();
  EXPECT_EQ(logged.text().find("SECRET"), std::string::npos) << logged.text();
  EXPECT_EQ(logged.text().find("RAW-KEY"), std::string::npos) << logged.text();
}

TEST(RespFaultTest, KilledAndStartedAgainUnderLoadEveryKeyGetsAnOutcome) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "connections=3&miss_after_failure=1ms")};
  std::atomic<bool> is_over = false;
  std::atomic<std::uint64_t> failed = 0;
  std::atomic<std::uint64_t> worked = 0;
  std::jthread load{[&] {
    BlockingClient client{*connector};
    for (std::uint64_t i = 0; !is_over; ++i) {
      const std::string key = "key" + std::to_string(i % 20);
      // Hits of wrong bytes fail the test in get_code().
      for (const ErrorCode code :
           {set_code(client, key, kValueBytes), get_code(client, key, kValueBytes)}) {
        EXPECT_TRUE(code == ErrorCode::kNone || code == ErrorCode::kUnavailable)
            << error_code_name(code);
        (code == ErrorCode::kNone ? worked : failed).fetch_add(1);
      }
    }
  }};
  for (int round = 0; round < 3; ++round) {
    const std::uint64_t worked_before = worked;
    EXPECT_TRUE(eventually([&] { return worked > worked_before + 10; }));
    const std::uint64_t failed_before = failed;
    server.kill();
    EXPECT_TRUE(eventually([&] { return failed > failed_before; }));
    EXPECT_TRUE(eventually_has_health(*connector, Health::kDown));
    ASSERT_TRUE(server.start().has_value());
  }
  EXPECT_TRUE(eventually_is_over(*connector));
  is_over = true;
  load.join();
  EXPECT_EQ(counter_of(*connector, "batches_in_flight_load"), 0U);
  EXPECT_EQ(counter_of(*connector, "batches_in_flight_store"), 0U);
}

TEST(RespFaultTest, AStoppedServerCostsDeadlinesAndThenServes) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "miss_after_failure=1ms")};
  BlockingClient client{*connector};
  BlockingClient hasty{*connector, 200 * kMillisecondNs};
  ASSERT_EQ(set_code(client, "key", kValueBytes), ErrorCode::kNone);
  server.pause();
  EXPECT_EQ(get_code(hasty, "key", kValueBytes), ErrorCode::kDeadlineExceeded);
  // Larger than the socket's buffers: it is half sent at its deadline.
  EXPECT_EQ(set_code(hasty, "large", 40'000'000), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(hasty.exists("key").error().code(), ErrorCode::kDeadlineExceeded);
  server.resume();
  EXPECT_TRUE(eventually([&] { return is_hit(client, "key", kValueBytes); }));
  EXPECT_TRUE(is_miss(client, "large", 40'000'000));
  EXPECT_EQ(set_code(client, "large", 40'000'000), ErrorCode::kNone);
  EXPECT_TRUE(is_hit(client, "large", 40'000'000));
}

TEST(RespFaultTest, AStoppedServerIsDownAfterTheTimeout) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(),
                                    "timeout=100ms&connect_timeout=100ms&connections=2"
                                    "&miss_after_failure=1ms&info_interval=20ms")};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  server.pause();
  EXPECT_TRUE(eventually([&] { return get_code(client, "key", 10) == ErrorCode::kUnavailable; }));
  EXPECT_TRUE(eventually([&] {
    get_code(client, "key", 10);
    return connector->report().health != Health::kHealthy;
  }));
  server.resume();
  EXPECT_TRUE(eventually([&] { return is_hit(client, "key", 10); }));
  EXPECT_TRUE(eventually_is_over(*connector));
}

TEST(RespFaultTest, KilledConnectionsComeBackWithoutAFailedLoad) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "connections=2")};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", kValueBytes), ErrorCode::kNone);
  for (int round = 0; round < 20; ++round) {
    EXPECT_NE(server.command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}), "0");
    EXPECT_TRUE(is_hit(client, "key", kValueBytes)) << round;
  }
  EXPECT_GT(counter_of(*connector, "connections_lost_total"), 0U);
}

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator{"/proc/self/fd"},
                       std::filesystem::directory_iterator{});
}

TEST(RespFaultTest, LostConnectionsAndClosedConnectorsLeaveNoDescriptorBehind) {
  LARDER_START_REDIS(server, {});
  server.command({"PING"});  // Its own connection is there from the first command on.
  const std::ptrdiff_t before = open_descriptors();
  for (int round = 0; round < 3; ++round) {
    const Opened connector{redis_spec(server.port(), "connections=3&miss_after_failure=1ms")};
    BlockingClient client{*connector};
    ASSERT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 4; }));
    const std::ptrdiff_t connected = open_descriptors();
    EXPECT_GE(connected, before + 4);
    for (int i = 0; i < 10; ++i) {
      server.command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
      get_code(client, "key", 10);
    }
    ASSERT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 4; }));
    EXPECT_TRUE(eventually([&] { return open_descriptors() == connected; }));
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(RespFaultTest, WithoutDescriptorsItIsDownForThatTimeOnly) {
  for (const std::string host : {"127.0.0.1", "localhost"}) {
    LARDER_START_REDIS(server, {});
    server.command({"PING"});  // Its own connection is there from the first command on.
    const Opened connector{"redis://" + host + ":" + std::to_string(server.port()) +
                           "?reconnect_max=20ms&connections=2&miss_after_failure=1ms"};
    BlockingClient client{*connector};
    ASSERT_EQ(set_code(client, "key", 100), ErrorCode::kNone);
    ASSERT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 3; }));
    {
      const testing::NoDescriptors lack;
      EXPECT_TRUE(is_hit(client, "key", 100)) << "open connections go on";
      server.command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
      EXPECT_TRUE(eventually_has_health(*connector, Health::kDown));
      EXPECT_TRUE(is_missed_as_down(client, "key", 100));
      EXPECT_EQ(set_code(client, "other", 100), ErrorCode::kUnavailable);
      if (host == "127.0.0.1") {
        EXPECT_NE(text_of_report(*connector).find("no file descriptors left"), std::string::npos);
      }
      EXPECT_EQ(connector->report().keys, 1U);
    }
    EXPECT_TRUE(eventually([&] { return is_hit(client, "key", 100); })) << host;
    EXPECT_EQ(set_code(client, "other", 100), ErrorCode::kNone);
    EXPECT_TRUE(eventually_is_over(*connector)) << text_of_report(*connector);
  }
}

TEST(RespFaultTest, AFullServerThatEvictsNothingRefusesStoresAndServesLoads) {
  testing::RedisServerOptions options;
  options.arguments = {"--maxmemory", "8mb", "--maxmemory-policy", "noeviction"};
  LARDER_START_REDIS(server, options);
  const Opened connector{redis_spec(server.port(), "info_interval=20ms&connections=2")};
  BlockingClient client{*connector};
  int stored = 0;
  ErrorCode code = ErrorCode::kNone;
  while (stored < 100) {
    code = set_code(client, "key" + std::to_string(stored), kValueBytes);
    if (code != ErrorCode::kNone) break;
    ++stored;
  }
  EXPECT_EQ(code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(eventually_has_health(*connector, Health::kDegraded));
  EXPECT_NE(text_of_report(*connector).find("maxmemory"), std::string::npos);
  for (int i = 0; i < stored; ++i) {
    EXPECT_TRUE(is_hit(client, "key" + std::to_string(i), kValueBytes));
    EXPECT_EQ(set_code(client, "more" + std::to_string(i), kValueBytes),
              ErrorCode::kResourceExhausted);
  }
  server.command({"CONFIG", "SET", "maxmemory", "100mb"});
  EXPECT_EQ(set_code(client, "more", kValueBytes), ErrorCode::kNone);
  EXPECT_TRUE(eventually_is_over(*connector));
}

TEST(RespFaultTest, AReplicaRefusesStoresUntilItIsAPrimary) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "connections=2")};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 100), ErrorCode::kNone);
  ASSERT_EQ(server.command({"REPLICAOF", "127.0.0.1", "1"}), "OK");
  EXPECT_EQ(set_code(client, "other", 100), ErrorCode::kUnavailable);
  EXPECT_EQ(connector->report().health, Health::kDegraded);
  EXPECT_NE(text_of_report(*connector).find("READONLY"), std::string::npos);
  EXPECT_TRUE(is_hit(client, "key", 100));
  ASSERT_EQ(server.command({"REPLICAOF", "NO", "ONE"}), "OK");
  EXPECT_EQ(set_code(client, "other", 100), ErrorCode::kNone);
  EXPECT_TRUE(eventually_is_over(*connector));
}

TEST(RespFaultTest, AWrongOrMissingPasswordIsDownAndTheRightOneWorks) {
  testing::RedisServerOptions options;
  options.password = "the right one";
  LARDER_START_REDIS(server, options);
  for (const auto& [parameters, reason] :
       {std::pair{"password=UTTERLY-WRONG", "WRONGPASS"}, std::pair{"", "NOAUTH"}}) {
    const Opened connector{redis_spec(server.port(), parameters)};
    BlockingClient client{*connector};
    EXPECT_EQ(set_code(client, "key", 10), ErrorCode::kUnavailable);
    EXPECT_TRUE(is_missed_as_down(client, "key", 10));
    EXPECT_TRUE(eventually_has_health(*connector, Health::kDown));
    EXPECT_NE(text_of_report(*connector).find(reason), std::string::npos)
        << text_of_report(*connector);
    EXPECT_EQ(text_of_report(*connector).find("UTTERLY"), std::string::npos);
  }
  const Opened connector{redis_spec(server.port(), "password=the%20right%20one")};
  BlockingClient client{*connector};
  EXPECT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  EXPECT_EQ(text_of_report(*connector).find("right one"), std::string::npos);
  // Changed while connected: the old connections stay valid, new ones are refused, and then it is
  // changed back.
  server.command({"CONFIG", "SET", "requirepass", "another"});
  server.command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  EXPECT_TRUE(eventually([&] { return set_code(client, "key", 10) == ErrorCode::kUnavailable; }));
  server.command({"CONFIG", "SET", "requirepass", "the right one"});
  EXPECT_TRUE(eventually([&] { return set_code(client, "key", 10) == ErrorCode::kNone; }));
}

TEST(RespFaultTest, MoreConnectionsThanTheServerTakesIsAReasonAndNotAStandstill) {
  testing::RedisServerOptions options;
  options.arguments = {"--maxclients", "6"};
  LARDER_START_REDIS(server, options);
  const Opened connector{redis_spec(server.port(), "connections=16")};
  BlockingClient client{*connector};
  EXPECT_TRUE(eventually([&] { return set_code(client, "key", 1000) == ErrorCode::kNone; }));
  EXPECT_TRUE(is_hit(client, "key", 1000));
  EXPECT_TRUE(eventually_has_health(*connector, Health::kDegraded));
  EXPECT_NE(text_of_report(*connector).find("maxclients"), std::string::npos)
      << text_of_report(*connector);
}

}  // namespace
}  // namespace larder::resp
