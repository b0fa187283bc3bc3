// max_capacity_gb counts what this process stored, and what the server lost of it must not count
// for ever.
#include <functional>

#include "tests/resp/resp_test_support.h"

namespace larder::resp {
namespace {

constexpr std::size_t kValueBytes = 64 << 10;
constexpr int kValues = 64;

/// Room for so many values and not one more.
std::string capacity_spec(std::uint16_t port, const std::string& more = "") {
  return redis_spec(port, "max_capacity_gb=0.00390625&connections=2&info_interval=50ms" + more);
}

void fill(BlockingClient& client, const std::string& prefix = "key ") {
  for (int i = 0; i < kValues; ++i) {
    ASSERT_EQ(set_code(client, prefix + std::to_string(i), kValueBytes), ErrorCode::kNone) << i;
  }
}

TEST(RespCapacityTest, CapacityCountsWhatThisProcessStored) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "max_capacity_gb=0.001")};
  BlockingClient client{*connector};
  server.command({"SET", "theirs", std::string(100'000, 'x')});
  ASSERT_EQ(set_code(client, "a", 600'000), ErrorCode::kNone);
  ASSERT_EQ(set_code(client, "a", 700'000), ErrorCode::kNone);  // In its own place.
  EXPECT_EQ(set_code(client, "b", 600'000), ErrorCode::kResourceExhausted);
  EXPECT_EQ(connector->report().bytes_used, 700'000U);
  EXPECT_EQ(connector->report().keys, 1U);
  EXPECT_EQ(property_of(*connector, "accounting"), "stored_by_me");
  EXPECT_NE(property_of(*connector, "accounting_worth").find("asking"), std::string::npos);
  // What another client removed is noticed at the next miss.
  server.command({"DEL", "a"});
  EXPECT_TRUE(is_miss(client, "a", 10));
  EXPECT_EQ(set_code(client, "b", 600'000), ErrorCode::kNone);
}

void expect_room_after(testing::RedisServer& server, const std::string& parameters,
                       const std::function<void()>& forget) {
  const Opened connector{capacity_spec(server.port(), parameters)};
  BlockingClient client{*connector};
  fill(client);
  forget();
  EXPECT_TRUE(eventually([&] { return set_code(client, "new", kValueBytes) == ErrorCode::kNone; }));
  // And so much of it, in the report too, as the server has lost.
  EXPECT_TRUE(eventually([&] {
    const std::uint64_t left = std::stoull(server.command({"DBSIZE"}));
    return connector->report().keys == left && connector->report().bytes_used == left * kValueBytes;
  })) << connector->report().keys;
}

TEST(RespCapacityTest, WhatExpiredMakesRoom) {
  LARDER_START_REDIS(server, {});
  expect_room_after(server, "&ttl=1s", [] {});
}

TEST(RespCapacityTest, AFlushMakesRoom) {
  LARDER_START_REDIS(server, {});
  expect_room_after(server, "", [&] { server.command({"FLUSHALL"}); });
}

TEST(RespCapacityTest, WhatOthersRemovedMakesRoom) {
  LARDER_START_REDIS(server, {});
  expect_room_after(server, "&prefix=kv/&database=3", [&] {
    server.command({"SELECT", "3"});
    EXPECT_EQ(server.command({"UNLINK", "kv/key 1", "kv/key 2", "kv/key 3"}), "3");
  });
}

TEST(RespCapacityTest, ARestartWithoutPersistenceMakesRoom) {
  LARDER_START_REDIS(server, {});
  expect_room_after(server, "", [&] {
    server.kill();
    ASSERT_TRUE(server.start().has_value());
  });
}

TEST(RespCapacityTest, WhatTheServerEvictsMakesRoom) {
  testing::RedisServerOptions options;
  options.arguments = {"--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"};
  LARDER_START_REDIS(server, options);
  expect_room_after(server, "", [] {});
}

TEST(RespCapacityTest, WhatIsStillThereCountsHoweverOftenAStoreIsRefused) {
  LARDER_START_REDIS(server, {});
  const Opened connector{capacity_spec(server.port())};
  BlockingClient client{*connector};
  fill(client);
  EXPECT_TRUE(eventually([&] {
    EXPECT_EQ(set_code(client, "new", kValueBytes), ErrorCode::kResourceExhausted);
    return counter_of(*connector, "stored_by_me_asked_for_total") > 3 * kValues;
  }));
  EXPECT_EQ(counter_of(*connector, "stored_by_me_found_gone_total"), 0U);
  EXPECT_EQ(connector->report().keys, std::uint64_t{kValues});
  EXPECT_EQ(connector->report().bytes_used, kValues * kValueBytes);
}

TEST(RespCapacityTest, WithoutACapacityTheReportHasNoMoreKeysThanTheServer) {
  LARDER_START_REDIS(server, {});
  const Opened connector{redis_spec(server.port(), "connections=2&info_interval=50ms")};
  BlockingClient client{*connector};
  fill(client);
  EXPECT_EQ(connector->report().keys, std::uint64_t{kValues});
  server.command({"FLUSHALL"});
  server.command({"SET", "theirs", "x"});
  EXPECT_TRUE(eventually([&] { return connector->report().keys <= 1; }));
  ASSERT_EQ(set_code(client, "new", kValueBytes), ErrorCode::kNone);
  EXPECT_GE(connector->report().keys, 1U);
}

}  // namespace
}  // namespace larder::resp
