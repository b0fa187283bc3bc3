#include <cstdlib>
#include <cstring>

#include "tests/resp/resp_test_support.h"
#include "tests/support/forked_child.h"

namespace larder::resp {
namespace {

TEST(RespServerTest, KeysAndValuesOnTheServerAreRaw) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  ASSERT_TRUE(client.set("model@8@0@abc@bfloat16", bytes_of_text("va\r\nlue")).has_value());
  EXPECT_EQ(server.command({"GET", "model@8@0@abc@bfloat16"}), "va\r\nlue");
  EXPECT_EQ(server.command({"PTTL", "model@8@0@abc@bfloat16"}), "-1");
  server.command({"SET", "theirs", "12345"});
  std::vector<std::byte> buffer(5);
  EXPECT_EQ(client.get_into("theirs", buffer).value(), 5U);
  EXPECT_EQ(std::memcmp(buffer.data(), "12345", 5), 0);
}

TEST(RespServerTest, PrefixTimeToLiveAndDatabaseAreKept) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "prefix=kv/&ttl=1h&database=5&connections=2")};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "replaced", 10), ErrorCode::kNone);
  ASSERT_EQ(set_code(client, "absent", 10, SetMode::kIfAbsent), ErrorCode::kNone);
  EXPECT_EQ(server.command({"EXISTS", "kv/replaced", "kv/absent"}), "0");
  ASSERT_EQ(server.command({"SELECT", "5"}), "OK");
  EXPECT_EQ(server.command({"EXISTS", "kv/replaced", "kv/absent"}), "2");
  for (const char* key : {"kv/replaced", "kv/absent"}) {
    const int left_ms = std::atoi(server.command({"PTTL", key}).c_str());
    EXPECT_GT(left_ms, 3'000'000);
    EXPECT_LE(left_ms, 3'600'000);
  }
  EXPECT_TRUE(is_hit(client, "absent", 10));
  EXPECT_TRUE(client.remove("absent").value());
  EXPECT_EQ(server.command({"EXISTS", "kv/absent"}), "0");
}

TEST(RespServerTest, ValuesSurviveTheConnector) {
  LARDER_START_REDIS(server, {});
  {
    const Opened connector{redis_spec(server.port())};
    BlockingClient client{*connector};
    ASSERT_EQ(set_code(client, "key", 100'000), ErrorCode::kNone);
  }
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_hit(client, "key", 100'000));
}

TEST(RespServerTest, AnEmptyValueIsToldFromAnAbsentKey) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "empty", 0), ErrorCode::kNone);
  ASSERT_EQ(set_code(client, "full", 9), ErrorCode::kNone);
  std::vector<std::string> keys;
  for (int i = 0; i < 300; ++i) keys.push_back("absent " + std::to_string(i));
  keys[70] = "empty";
  keys[299] = "full";
  std::vector<Item> items(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) items[i].key = bytes_of_text(keys[i]);
  Batch batch;
  batch.op = Op::kExists;
  batch.items = items;
  ASSERT_TRUE(client.run(batch).has_value());
  for (std::size_t i = 0; i < items.size(); ++i) {
    const bool is_there = i == 70 || i == 299;
    EXPECT_EQ(items[i].outcome, is_there ? Outcome::kHit : Outcome::kMiss) << i;
  }
  EXPECT_EQ(items[70].value_bytes, 0U);
  EXPECT_EQ(items[299].value_bytes, 9U);
}

TEST(RespServerTest, AnEmptyValueAtTheEndOfALookupBeforeAFailedKeyIsFound) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "failed", 10), ErrorCode::kNone);
  {
    std::vector<std::byte> memory(10);
    const Slice slice{memory.data(), memory.size()};
    Item late;
    late.key = bytes_of_text("failed");
    late.value = {&slice, 1};
    Batch batch;
    batch.items = {&late, 1};
    batch.deadline_ns = 1;
    ASSERT_TRUE(client.run(batch).has_value());
    ASSERT_EQ(late.error.code(), ErrorCode::kDeadlineExceeded);
  }
  std::vector<Item> items(2);
  items[0].key = bytes_of_text("absent");
  items[1].key = bytes_of_text("failed");
  Batch batch;
  batch.op = Op::kExists;
  batch.items = items;
  ASSERT_TRUE(client.run(batch).has_value());
  EXPECT_EQ(items[0].outcome, Outcome::kMiss);
  EXPECT_EQ(items[1].outcome, Outcome::kMiss);
}

TEST(RespServerTest, AKeyOfAnotherTypeFailsAloneAndTheRestIsInStep) {
  LARDER_START_REDIS(server, {});
  server.command({"LPUSH", "list", "x"});
  const Opened connector{redis_spec(server.port(), "connections=1")};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "good", 10), ErrorCode::kNone);
  EXPECT_EQ(client.exists("list").error().code(), ErrorCode::kCorruption);
  EXPECT_EQ(get_code(client, "list", 10), ErrorCode::kCorruption);
  EXPECT_TRUE(is_hit(client, "good", 10));
  EXPECT_EQ(*client.exists("good").value(), 10U);
}

TEST(RespServerTest, AValueThatSomebodyReplacedByAnotherSizeIsToldWithItsSize) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port())};
  BlockingClient client{*connector};
  ASSERT_EQ(set_code(client, "key", 100'000), ErrorCode::kNone);
  server.command({"SET", "key", "short"});
  EXPECT_EQ(get_code(client, "key", 100'000), ErrorCode::kSizeMismatch);
  EXPECT_EQ(*client.exists("key").value(), 5U) << "it stays";
  EXPECT_TRUE(client.get("key").value().has_value());
}

TEST(RespServerTest, TheReportTellsAboutTheServer) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "info_interval=20ms&connections=3")};
  ASSERT_TRUE(eventually([&] { return property_of(*connector, "server_version") != ""; }));
  EXPECT_EQ(property_of(*connector, "server"), "redis");
  EXPECT_EQ(property_of(*connector, "server_role"), "master");
  EXPECT_EQ(property_of(*connector, "maxmemory_policy"), "noeviction");
  EXPECT_GT(counter_of(*connector, "server_used_memory_bytes"), 0U);
  EXPECT_EQ(counter_of(*connector, "server_maxmemory_bytes"), 0U);
  EXPECT_TRUE(eventually([&] { return counter_of(*connector, "connections") == 4; }));
  const Report report = connector->report();
  EXPECT_EQ(report.health, Health::kHealthy);
  EXPECT_TRUE(report.reasons.empty());
  EXPECT_EQ(report.where, "127.0.0.1:" + std::to_string(server.port()));
  EXPECT_EQ(report.integrity, Integrity::kNone);

  server.command({"CONFIG", "SET", "maxmemory", "100mb"});
  server.command({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"});
  EXPECT_TRUE(eventually([&] { return !connector->report().reasons.empty(); }));
  EXPECT_NE(connector->report().reasons.front().find("allkeys-lru"), std::string::npos);
  EXPECT_EQ(connector->report().health, Health::kHealthy);

  server.command({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  server.command({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_TRUE(eventually_has_health(*connector, Health::kDegraded));
  EXPECT_NE(connector->report().reasons.front().find("noeviction"), std::string::npos);
}

TEST(RespServerTest, NamesAndIPv6AndTheUnixSocketReachTheServer) {
  LARDER_START_REDIS(server, {});
  const std::string port = std::to_string(server.port());
  for (const std::string& spec :
       {"redis://localhost:" + port, "unix:" + server.socket_path(), "resp:127.0.0.1:" + port}) {
    const Opened connector{spec};
    BlockingClient client{*connector};
    EXPECT_EQ(set_code(client, spec, 1000), ErrorCode::kNone) << spec;
    EXPECT_TRUE(is_hit(client, spec, 1000)) << spec;
  }
  const Opened connector{"redis://[::1]:" + port};
  BlockingClient client{*connector};
  if (set_code(client, "six", 10) == ErrorCode::kUnavailable) {
    GTEST_SKIP() << "SKIPPED (needs IPv6 on the loopback)";
  }
  EXPECT_TRUE(is_hit(client, "six", 10));
}

TEST(RespServerTest, ANameThatDoesNotExistIsDownAndSaysSo) {
  const Opened connector{"redis://no-such-host.invalid:1?connect_timeout=20s"};
  BlockingClient client{*connector};
  EXPECT_TRUE(is_missed_as_down(client, "key", 10));
  EXPECT_EQ(connector->report().health, Health::kDown);
}

TEST(RespServerTest, LMCachesSpellingOpens) {
  LARDER_START_REDIS(server, {});
  const Opened connector{R"({"type":"resp","host":"127.0.0.1","port":)" +
                         std::to_string(server.port()) +
                         R"(,"num_workers":2,"username":"","password":"","max_capacity_gb":0})"};
  BlockingClient client{*connector};
  EXPECT_EQ(set_code(client, "key", 1000), ErrorCode::kNone);
  EXPECT_TRUE(is_hit(client, "key", 1000));
}

TEST(RespServerTest, AForkedChildDoesNotKeepTheConnections) {
  LARDER_START_REDIS(server, {});
  const auto clients = [&server] { return server.command({"CLIENT", "LIST"}); };
  auto connector = std::make_unique<Opened>(redis_spec(server.port()));
  BlockingClient client{**connector};
  ASSERT_EQ(set_code(client, "key", 10), ErrorCode::kNone);
  ASSERT_NE(clients().find("name=larder"), std::string::npos);
  const testing::ForkedChild child;
  connector.reset();
  EXPECT_TRUE(eventually([&] { return clients().find("name=larder") == std::string::npos; }))
      << clients();
}

}  // namespace
}  // namespace larder::resp
