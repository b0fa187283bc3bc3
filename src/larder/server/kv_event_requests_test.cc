// subscribe_kv_events (S26), as its client sees it.

#include <gtest/gtest.h>

#include <set>

#include "larder/base/random.h"
#include "larder/server/server_test_support.h"

namespace larder::server {
namespace {

using wire::Operation;

std::string text_of(const wire::Value& value) {
  return {reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size()};
}

struct EventSeen {
  std::uint64_t sequence = 0;
  std::string kind;
  std::string model;
  std::vector<std::string> hashes;
  std::string before;
  std::vector<std::uint32_t> tokens;
};

struct BatchSeen {
  bool is_enabled = false;
  std::uint64_t incarnation = 0;
  std::uint64_t next_cursor = 0;
  bool is_lost = false;
  std::vector<EventSeen> events;
};

EventSeen read_event(wire::MsgpackReader& reader) {
  EventSeen event;
  EXPECT_EQ(reader.next()->count, 7U);
  const auto value = [&reader] {
    reader.next();
    return *reader.next();
  };
  event.sequence = value().integer.bits;
  event.kind = text_of(value());
  EXPECT_EQ(text_of(value()), "CPU");
  event.model = text_of(value());
  for (std::uint32_t left = value().count; left > 0; --left) {
    event.hashes.push_back(text_of(*reader.next()));
  }
  event.before = text_of(value());
  for (std::uint32_t left = value().count; left > 0; --left) {
    event.tokens.push_back(static_cast<std::uint32_t>(reader.next()->integer.bits));
  }
  return event;
}

BatchSeen read_batch(const wire::Bytes& bytes) {
  wire::MsgpackReader reader{bytes};
  BatchSeen batch;
  EXPECT_EQ(reader.next()->count, 5U);
  const auto value = [&reader] {
    reader.next();
    return *reader.next();
  };
  batch.is_enabled = value().boolean;
  batch.incarnation = value().integer.bits;
  batch.next_cursor = value().integer.bits;
  batch.is_lost = value().boolean;
  for (std::uint32_t left = value().count; left > 0; --left) {
    batch.events.push_back(read_event(reader));
  }
  EXPECT_TRUE(reader.at_end());
  return batch;
}

class KvEventRequestsTest : public ServiceFixture {
 protected:
  KvEventRequestsTest() { options.incarnation = 77; }

  /// Its uid is 9 and is not used otherwise.
  void subscribe(std::uint64_t cursor = 0, std::uint64_t events_max = 1024,
                 std::uint64_t connection = 5, std::uint64_t instance = 7) {
    stream_replies.clear();
    set_next_uid(connection, 9);
    send(Operation::kSubscribeKvEvents,
         {number(instance), text("golden/model-1"), number(cursor), number(events_max)},
         connection);
  }
  void control(std::string_view word, std::uint64_t connection = 5, std::uint64_t uid = 9) {
    const auto bytes = std::as_bytes(std::span{word});
    service().on_message(ConnectionId{connection},
                         std::make_unique<OwnedMessage>(std::vector<wire::Bytes>{
                             number(uid), {}, {bytes.begin(), bytes.end()}}));
  }
  /// The batches that have come, which are no replies of anything else here.
  std::vector<BatchSeen> batches() {
    std::vector<BatchSeen> out;
    for (const Reply& reply : stream_replies) {
      if (reply.payload) out.push_back(read_batch(*reply.payload));
    }
    stream_replies.clear();
    return out;
  }
  std::vector<std::uint32_t> tokens_between(std::uint32_t prompt, std::uint32_t begin,
                                            std::uint32_t end) {
    const auto tokens = tokens_of(prompt, end);
    return {tokens.begin() + begin, tokens.end()};
  }
};

TEST_F(KvEventRequestsTest, AFollowerSeesWhatIsStoredAndRemoved) {
  register_worker();
  subscribe();
  auto seen = batches();
  ASSERT_EQ(seen.size(), 1U);  // At once, and empty.
  EXPECT_TRUE(seen[0].is_enabled);
  EXPECT_EQ(seen[0].incarnation, 77U);
  EXPECT_TRUE(seen[0].events.empty());

  control("ack");
  store(key("r", 1, 0, 32));
  turn();
  seen = batches();
  ASSERT_EQ(seen.size(), 1U);
  ASSERT_EQ(seen[0].events.size(), 2U);
  const EventSeen& first = seen[0].events[0];
  const EventSeen& second = seen[0].events[1];
  EXPECT_EQ(first.kind, "stored");
  EXPECT_EQ(first.model, "golden/model-1");
  EXPECT_EQ(first.before, "");
  EXPECT_EQ(first.tokens, tokens_between(1, 0, 16));
  EXPECT_EQ(second.sequence, 2U);
  EXPECT_EQ(second.before, first.hashes[0]);
  EXPECT_EQ(second.tokens, tokens_between(1, 16, 32));
  EXPECT_EQ(seen[0].next_cursor, 2U);

  const std::set<std::string> stored{first.hashes[0], second.hashes[0]};
  control("ack");
  ask(Operation::kClear, {}, 1);
  turn();
  seen = batches();
  ASSERT_EQ(seen.size(), 1U);
  ASSERT_EQ(seen[0].events.size(), 1U);
  EXPECT_EQ(seen[0].events[0].kind, "removed");
  EXPECT_EQ(std::set<std::string>(seen[0].events[0].hashes.begin(), seen[0].events[0].hashes.end()),
            stored);
}

TEST_F(KvEventRequestsTest, ABatchWaitsForItsCredit) {
  register_worker();
  subscribe();
  store(key("r", 1, 0, 32));
  turn();
  EXPECT_EQ(batches().size(), 1U);
  store(key("s", 2, 0, 16));
  control("ack");
  const auto seen = batches();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].events.size(), 3U);
}

TEST_F(KvEventRequestsTest, ABatchHasAsManyEventsAsTheClientTakes) {
  register_worker();
  store(key("r", 1, 0, 48));
  subscribe(1, 1);
  auto seen = batches();
  ASSERT_EQ(seen.size(), 1U);
  ASSERT_EQ(seen[0].events.size(), 1U);
  EXPECT_EQ(seen[0].events[0].sequence, 2U);
  control("ack");
  seen = batches();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].events[0].sequence, 3U);
  EXPECT_FALSE(seen[0].is_lost);
}

TEST_F(KvEventRequestsTest, TheStreamEndsWhenItIsCancelled) {
  register_worker();
  subscribe();
  stream_replies.clear();
  control("cancel");
  ASSERT_EQ(stream_replies.size(), 1U);
  EXPECT_EQ(stream_replies[0].hex(), "none");
  store(key("r", 1, 0, 16));
  turn();
  EXPECT_TRUE(batches().empty());
  EXPECT_EQ(status().kv_events.streams, 0U);
}

TEST_F(KvEventRequestsTest, AClosedConnectionEndsItsStream) {
  subscribe();
  EXPECT_EQ(status().kv_events.streams, 1U);
  service().on_closed(ConnectionId{5});
  EXPECT_EQ(status().kv_events.streams, 0U);
}

TEST_F(KvEventRequestsTest, AWorkerHasOneStream) {
  subscribe(0, 10, 5);
  subscribe(0, 10, 6);
  ASSERT_EQ(stream_replies.size(), 2U);
  EXPECT_EQ(stream_replies[0].connection, 5U);
  EXPECT_EQ(stream_replies[0].hex(), "none");
  subscribe(0, 10, 8, 99);
  EXPECT_EQ(status().kv_events.streams, 2U);
}

TEST_F(KvEventRequestsTest, ControlOfNoStreamIsDropped) {
  control("ack");
  subscribe();
  control("ack", 6);
  control("ack", 5, 10);
  control("stop");
  EXPECT_EQ(status().totals.dropped, 4U);
}

TEST_F(KvEventRequestsTest, SaltedChunksAreNotTold) {
  register_worker();
  wire::KeySample salted = key("r", 1, 0, 16);
  salted.salt = "tenant";
  store(salted);
  subscribe();
  EXPECT_TRUE(batches()[0].events.empty());
}

TEST_F(KvEventRequestsTest, SaltedChunksAreToldWhereThatIsWanted) {
  options.tells_salted_events = true;
  register_worker();
  wire::KeySample salted = key("r", 1, 0, 16);
  salted.salt = "tenant";
  store(salted);
  subscribe();
  EXPECT_EQ(batches()[0].events.size(), 1U);
}

TEST_F(KvEventRequestsTest, WhatIsLoadedFromL2IsStored) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 32));
  turn();
  ask(Operation::kClear, {});
  turn();
  subscribe(status().kv_events.last);
  control("ack");
  batches();
  lookup(key("s", 1, 0, 32));
  turn();
  EXPECT_EQ(query("s"), 2U);
  const auto seen = batches();
  ASSERT_EQ(seen.size(), 1U);
  ASSERT_EQ(seen[0].events.size(), 2U);
  EXPECT_EQ(seen[0].events[1].kind, "stored");
  EXPECT_EQ(seen[0].events[1].tokens, tokens_between(1, 16, 32));
}

TEST_F(KvEventRequestsTest, WithoutHashMemoryAChunkIsToldWithoutItsTokens) {
  options.hash_memory_bytes = 0;
  register_worker();
  store(key("r", 1, 0, 16));
  subscribe();
  const auto seen = batches();
  ASSERT_EQ(seen[0].events.size(), 1U);
  EXPECT_TRUE(seen[0].events[0].tokens.empty());
  EXPECT_EQ(status().kv_events.stored_unknown, 1U);
}

TEST_F(KvEventRequestsTest, AFollowerThatIsTooSlowIsTold) {
  options.kv_event_log_size = 2;
  register_worker();
  subscribe();
  batches();
  store(key("r", 1, 0, 64));
  control("ack");
  const auto seen = batches();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_TRUE(seen[0].is_lost);
  EXPECT_EQ(seen[0].events.size(), 2U);
}

TEST_F(KvEventRequestsTest, AServerWithoutALogSaysSoAndEndsTheStream) {
  options.kv_event_log_size = 0;
  EXPECT_EQ(ask(Operation::kGetExperimental, {}).hex(), "90");
  subscribe();
  ASSERT_EQ(stream_replies.size(), 2U);
  EXPECT_FALSE(read_batch(*stream_replies[0].payload).is_enabled);
  EXPECT_EQ(stream_replies[1].hex(), "none");
}

/// Whenever it has seen all events, its set equals L1's.
TEST_F(KvEventRequestsTest, AFollowersSetIsWhatL1Has) {
  Random random{26};
  capacity_bytes = 24 * 4096;
  add_tier();
  register_worker();
  subscribe();
  std::set<std::string> follower;
  for (int step = 0; step < 400; ++step) {
    const auto prompt = static_cast<std::uint32_t>(random.below(6));
    const std::uint64_t end = 16 * (1 + random.below(8));
    const std::string request = std::to_string(step);
    if (random.one_in(20)) {
      ask(Operation::kClear, {});
    } else if (random.one_in(3)) {
      lookup(key(request, prompt, 0, end));
      turn();
      ask(Operation::kEndSession, {text(request)});
    } else {
      prepare_store(key(request, prompt, 0, end));
      commit_store(key(request, prompt, 0, end));
    }
    turn();
    if (!random.one_in(4)) continue;
    for (int i = 0; i < 2; ++i) control("ack");
    for (const BatchSeen& batch : batches()) {
      ASSERT_FALSE(batch.is_lost);
      for (const EventSeen& event : batch.events) {
        for (const std::string& hash : event.hashes) {
          const bool has_changed =
              event.kind == "stored" ? follower.insert(hash).second : follower.erase(hash) == 1;
          ASSERT_TRUE(has_changed) << event.kind << " twice";
        }
      }
    }
    ASSERT_EQ(follower.size(), status().engine.columns) << step;
  }
  EXPECT_GT(status().engine.totals.columns_evicted, 0U);
}

}  // namespace
}  // namespace larder::server
