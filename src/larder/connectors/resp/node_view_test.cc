#include "larder/connectors/resp/node_view.h"

#include <gtest/gtest.h>

#include <string>

namespace larder::resp {
namespace {

std::span<const std::byte> key(std::string_view text) {
  return std::as_bytes(std::span{text});
}

TEST(StoredByMeTest, ReplacingCountsOnceAndGoneIsGone) {
  OwnWrites stored{0, 100};
  stored.note_stored(key("a"), 100);
  stored.note_stored(key("b"), 50);
  stored.note_stored(key("a"), 10);
  EXPECT_EQ(stored.keys(), 2U);
  EXPECT_EQ(stored.bytes(), 60U);
  stored.note_gone(key("a"));
  stored.note_gone(key("never stored"));
  EXPECT_EQ(stored.keys(), 1U);
  EXPECT_EQ(stored.bytes(), 50U);
}

TEST(StoredByMeTest, WhatIsOnItsWayCountsAgainstTheCapacity) {
  OwnWrites stored{100, 100};
  ASSERT_TRUE(stored.reserve(key("a"), 60));
  EXPECT_FALSE(stored.reserve(key("b"), 41));
  EXPECT_TRUE(stored.reserve(key("b"), 40));
  stored.release(60);  // It failed.
  stored.release(40);
  stored.note_stored(key("b"), 40);
  EXPECT_TRUE(stored.reserve(key("b"), 100));  // In its own place.
  stored.release(100);
  EXPECT_FALSE(stored.reserve(key("a"), 61));
  EXPECT_FALSE(stored.reserve(key("a"), UINT64_MAX));
}

TEST(StoredByMeTest, KeysBeyondTheMostAreCountedAsUncounted) {
  OwnWrites stored{0, 2};
  for (const char* const name : {"a", "b", "c"}) stored.note_stored(key(name), 1);
  stored.note_stored(key("a"), 5);
  EXPECT_EQ(stored.keys(), 2U);
  EXPECT_EQ(stored.bytes(), 6U);
  EXPECT_EQ(stored.uncounted_total(), 1U);
}

TEST(ServerInfoTest, RedisAndValkeyAreTold) {
  ServerInfo redis;
  redis.read(
      "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:123\r\nmaxmemory:0\r\n");
  EXPECT_EQ(redis.kind + " " + redis.version, "redis 7.0.15");
  EXPECT_EQ(redis.used_memory_bytes, 123U);
  ServerInfo valkey;
  valkey.read("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n");
  EXPECT_EQ(valkey.kind + " " + valkey.version, "valkey 8.0.1");
}

TEST(ServerInfoTest, WhatCannotBeReadIsLeftOut) {
  ServerInfo info;
  for (const std::string text :
       {"", "\r\n", ":", "used_memory:", "used_memory:x1", "used_memory:-1", "no colon\n\n\n",
        "used_memory:99999999999999999999999"}) {
    info.read(text);
  }
  EXPECT_EQ(info.used_memory_bytes, 0U);
  info.read("redis_version:\x1b[31m\x01" + std::string(1000, 'v') + "\n");
  EXPECT_LE(info.version.size(), 64U);
  EXPECT_EQ(info.version.find('\x1b'), std::string::npos);
}

TEST(ServerInfoTest, AServerThatRefusesIsDegradedAndOneThatEvictsIsNoted) {
  const auto report_of = [](const std::string& text) {
    ServerInfo info;
    info.read(text);
    Report report;
    info.append_health(report);
    info.append_report(report);
    return report;
  };
  const std::string full = "used_memory:96\nmaxmemory:100\nmaxmemory_policy:";
  EXPECT_EQ(report_of(full + "noeviction\n").health, Health::kDegraded);
  EXPECT_EQ(report_of(full + "noeviction\n").reasons.size(), 1U);
  EXPECT_EQ(report_of(full + "allkeys-lru\n").health, Health::kHealthy);
  EXPECT_EQ(report_of(full + "allkeys-lru\n").reasons.size(), 1U);
  const Report quiet = report_of("used_memory:94\nmaxmemory:100\nmaxmemory_policy:noeviction\n");
  EXPECT_EQ(quiet.health, Health::kHealthy);
  EXPECT_TRUE(quiet.reasons.empty());
  EXPECT_TRUE(report_of("").properties.empty());
}

TEST(NodeViewTest, ARefusalShowsUntilSomethingWorksOrForAMinute) {
  ManualClock clock{1'000'000'000'000};
  NodeView view{0, 100, clock};
  const auto health = [&] {
    Report report;
    view.append_report(report);
    return report.health;
  };
  view.note_attempt();
  EXPECT_EQ(health(), Health::kHealthy);
  view.note_refusal(find_reply_error("LOADING"));
  EXPECT_EQ(health(), Health::kDown) << "nothing is served";
  view.note_success(false);
  EXPECT_EQ(health(), Health::kHealthy);
  view.note_refusal(find_reply_error("READONLY"));
  view.note_success(false);
  EXPECT_EQ(health(), Health::kDegraded) << "a load proves nothing about stores";
  view.note_success(true);
  EXPECT_EQ(health(), Health::kHealthy);
  // A store that is down may get no requests, so it must come back without one.
  view.note_refusal(find_reply_error("LOADING"));
  clock.advance_ns(59'000'000'000);
  EXPECT_EQ(health(), Health::kDown);
  view.note_refusal(find_reply_error("NOPERM"));
  EXPECT_EQ(health(), Health::kDegraded) << "some is served";
  clock.advance_ns(60'000'000'000);
  EXPECT_EQ(health(), Health::kHealthy);
}

TEST(NodeViewTest, BeforeTheFirstAttemptHasEndedNobodyCallsTheServerHealthy) {
  NodeView view{0, 100};
  Report before;
  view.append_report(before);
  EXPECT_EQ(before.health, Health::kDegraded);
  EXPECT_EQ(before.reasons.at(0), "connecting: the server has not answered yet");
  view.note_attempt();
  Report after;
  view.append_report(after);
  EXPECT_EQ(after.health, Health::kHealthy);
  EXPECT_TRUE(after.reasons.empty());
}

TEST(NodeViewTest, WhatCannotServeValuesIsDownWhateverLookupsGet) {
  using Link = PeerState::Link;
  NodeView view{0, 100};
  view.note_attempt();
  view.peers[0].add_worker();
  view.peers[0].change(Link::kIdle, Link::kConnected);
  view.peers[1].add_worker();
  view.peers[1].change(Link::kIdle, Link::kDown);
  Report report;
  view.append_report(report);
  EXPECT_EQ(report.health, Health::kDown);
  EXPECT_NE(report.reasons.at(0).find("1 of 1 connections for values"), std::string::npos);
}

TEST(ReplyErrorTest, OnlyTheFirstWordCounts) {
  EXPECT_EQ(find_reply_error("OOM command not allowed").code, "OOM");
  EXPECT_EQ(find_reply_error("OOM").code, "OOM");
  EXPECT_EQ(find_reply_error("OOMPH").code, "");
  EXPECT_EQ(find_reply_error("ERR not OOM").code, "");
  EXPECT_EQ(find_reply_error("").error.code(), ErrorCode::kIo);
  EXPECT_EQ(find_reply_error("ERR max number of clients reached").scope,
            ReplyError::Scope::kConnection);
}

}  // namespace
}  // namespace larder::resp
