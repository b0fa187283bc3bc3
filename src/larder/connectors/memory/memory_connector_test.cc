#include "larder/connectors/memory/memory_connector.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/random.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/metrics.h"

namespace larder::memory {
namespace {

using Bytes = std::vector<std::byte>;

Bytes value_of(std::uint64_t seed, std::size_t bytes) {
  Bytes value(bytes);
  Random{seed}.fill(value);
  return value;
}

class MemoryConnectorTest : public testing::Test {
 protected:
  void open(const MemoryOptions& options) {
    connector = std::make_unique<MemoryConnector>(options);
    client.emplace(*connector);
  }
  void set(std::string_view key, std::size_t bytes) {
    ASSERT_TRUE(client->set(key, value_of(bytes, bytes)).has_value());
  }
  bool is_there(std::string_view key) { return client->exists(key).value().has_value(); }
  std::uint64_t counter(std::string_view name) const {
    const auto value = metric_value(connector->report(), name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }

  std::unique_ptr<MemoryConnector> connector;
  std::optional<BlockingClient> client;
};

TEST_F(MemoryConnectorTest, TheReportTellsWhatOtherCapacitiesWouldFind) {
  open({.capacity_bytes = 8'000});
  // A loop over 100 values, of which some 80 fit: the next one has always been evicted.
  const auto ask = [&](int times) {
    for (int i = 0; i < times; ++i) {
      const std::string key = "k" + std::to_string(i % 100);
      const auto found = client->get(key);
      ASSERT_TRUE(found.has_value());
      if (!*found) set(key, 100);
    }
  };
  ask(500);
  EXPECT_FALSE(connector->report().what_if.points[1].hit_rate) << "too few";
  ask(1'000);
  const WhatIf what_if = connector->report().what_if;
  EXPECT_EQ(what_if.of, BatchClass::kLookup) << "get() asks for the size first";
  EXPECT_EQ(what_if.points[1].capacity_bytes, 8'000U);
  EXPECT_EQ(what_if.measured, 0.0);
  ASSERT_TRUE(what_if.points[1].hit_rate);
  EXPECT_NEAR(*what_if.points[1].hit_rate, 0, 1e-6);
  EXPECT_GT(*what_if.points[2].hit_rate, 0.9);
  EXPECT_GT(*what_if.points[3].hit_rate, 0.9);
}

TEST_F(MemoryConnectorTest, AFullMapEvictsTheLeastRecentlyUsedKey) {
  open({.capacity_bytes = 303});
  set("a", 100);
  set("b", 100);
  set("c", 100);
  ASSERT_TRUE(client->get("a").value().has_value());

  set("d", 100);

  EXPECT_TRUE(is_there("a"));
  EXPECT_FALSE(is_there("b"));
  EXPECT_TRUE(is_there("c"));
  EXPECT_TRUE(is_there("d"));
  EXPECT_EQ(counter("evictions_total"), 1U);
}

TEST_F(MemoryConnectorTest, TouchAndIfAbsentMarkAKeyAsUsedAndExistsDoesNot) {
  open({.capacity_bytes = 404});
  for (const char* key : {"a", "b", "c", "d"}) set(key, 100);
  ASSERT_TRUE(client->touch("a").value());
  ASSERT_TRUE(client->set("b", value_of(1, 100), SetMode::kIfAbsent).value().existed);
  ASSERT_TRUE(is_there("c"));

  set("e", 201);

  EXPECT_TRUE(is_there("a"));
  EXPECT_TRUE(is_there("b"));
  EXPECT_FALSE(is_there("c"));
  EXPECT_FALSE(is_there("d"));
}

TEST_F(MemoryConnectorTest, BytesUsedCountsKeysAndValuesExactly) {
  open({.capacity_bytes = 1000});
  set("key", 100);
  EXPECT_EQ(connector->report().bytes_used, 103U);
  set("key", 50);
  EXPECT_EQ(connector->report().bytes_used, 53U);
  set("k", 0);
  EXPECT_EQ(connector->report().bytes_used, 54U);
  ASSERT_TRUE(client->remove("key").value());
  EXPECT_EQ(connector->report().bytes_used, 1U);
  EXPECT_EQ(connector->report().keys, 1U);
}

TEST_F(MemoryConnectorTest, AValueLargerThanTheCapacityIsRefusedAndTheOldOneStays) {
  open({.capacity_bytes = 1000});
  set("key", 10);
  set("other", 10);

  const auto stored = client->set("key", value_of(1, 998));

  ASSERT_FALSE(stored.has_value());
  EXPECT_EQ(stored.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(client->get("key").value(), value_of(10, 10));
  EXPECT_TRUE(is_there("other"));
}

TEST_F(MemoryConnectorTest, AReplacementThatNeedsTheWholeCapacityEvictsAllOthers) {
  open({.capacity_bytes = 1000});
  set("key", 10);
  set("other", 10);

  set("key", 997);

  EXPECT_EQ(connector->report().keys, 1U);
  EXPECT_EQ(connector->report().bytes_used, 1000U);
  EXPECT_EQ(client->get("key").value(), value_of(997, 997));
}

TEST_F(MemoryConnectorTest, AValueAboveMaxValueIsAnInvalidArgument) {
  open({.value_bytes_max = 100});
  EXPECT_TRUE(client->set("key", value_of(1, 100)).has_value());
  EXPECT_EQ(client->set("key", value_of(1, 101)).error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(MemoryConnectorTest, AFlippedBitIsCorruptionAndThenAMiss) {
  open({});
  set("key", 1000);
  ASSERT_TRUE(connector->damage_for_test("key"));

  EXPECT_EQ(client->get("key").error().code(), ErrorCode::kCorruption);
  EXPECT_FALSE(client->get("key").value().has_value());
  EXPECT_EQ(counter("corruptions_total"), 1U);
}

TEST_F(MemoryConnectorTest, NothingIsDamagedWhereThereIsNoValue) {
  open({});
  set("empty", 0);
  EXPECT_FALSE(connector->damage_for_test("empty"));
  EXPECT_FALSE(connector->damage_for_test("absent"));
}

TEST_F(MemoryConnectorTest, EventsThatWereOverwrittenAreCountedAsLost) {
  open({.events_max = 3});
  for (const char* key : {"a", "b", "c", "d", "e"}) set(key, 1);

  const EventPage page = connector->events({}, 10).value();

  EXPECT_EQ(page.lost, 2U);
  ASSERT_EQ(page.events.size(), 3U);
  EXPECT_EQ(page.events.front().key, "c");
  EXPECT_EQ(page.next.position, 5U);
  EXPECT_TRUE(connector->events(page.next, 10).value().events.empty());
}

TEST_F(MemoryConnectorTest, AnEvictionIsAnEvent) {
  open({.capacity_bytes = 150});
  set("a", 100);
  set("b", 100);

  const EventPage page = connector->events({1}, 10).value();

  ASSERT_EQ(page.events.size(), 2U);
  EXPECT_EQ(page.events[0].kind, EventPage::Kind::kRemoved);
  EXPECT_EQ(page.events[0].key, "a");
  EXPECT_EQ(page.events[0].value_bytes, 100U);
  EXPECT_EQ(page.events[1].key, "b");
}

TEST_F(MemoryConnectorTest, WithoutEventsTheyAreUnimplemented) {
  open({.events_max = 0});
  set("a", 1);
  EXPECT_FALSE(connector->capabilities().has_events);
  EXPECT_EQ(connector->events({}, 10).error().code(), ErrorCode::kUnimplemented);
}

TEST_F(MemoryConnectorTest, AScanIsInOrderOfAge) {
  open({});
  for (const char* key : {"c", "a", "b"}) set(key, 1);
  ASSERT_TRUE(client->touch("c").value());
  set("c", 2);

  const ScanPage page = connector->scan({}, 10).value();

  ASSERT_EQ(page.entries.size(), 3U);
  EXPECT_TRUE(page.done);
  EXPECT_EQ(page.entries[0].key, "c");
  EXPECT_EQ(page.entries[0].value_bytes, 2U);
  EXPECT_EQ(page.entries[1].key, "a");
  EXPECT_EQ(page.entries[2].key, "b");
}

TEST_F(MemoryConnectorTest, WhatIsNotReapedDoesNotCountForTheLimit) {
  open({.limits = {.batches_max = 1, .bytes_max = 1000}});
  const std::string key = "key";
  Item first_item;
  Item second_item;
  first_item.key = second_item.key = std::as_bytes(std::span{key});
  Batch first;
  Batch second;
  first.items = {&first_item, 1};
  second.items = {&second_item, 1};
  first.op = second.op = Op::kExists;

  ASSERT_TRUE(connector->submit(first).has_value());
  ASSERT_TRUE(connector->submit(second).has_value());
  std::array<Batch*, 3> done{};
  EXPECT_EQ(connector->reap(done), 2U);
}

TEST_F(MemoryConnectorTest, StopDuringASubmitCancelsTheRestOfIt) {
  open({});
  const std::string key = "key";
  std::vector<Item> items(kItemsMax);
  for (Item& item : items) item.key = std::as_bytes(std::span{key});
  Batch batch;
  batch.items = items;
  batch.op = Op::kExists;

  std::jthread submitter([&] { (void)connector->submit(batch); });
  ASSERT_TRUE(connector->stop(kNever).has_value());
  submitter.join();

  // Refused, or accepted: then every item has an outcome, and once one is cancelled all are.
  Batch* done = nullptr;
  if (connector->reap({&done, 1}) == 0) return;
  bool is_cancelled = false;
  for (const Item& item : items) {
    if (item.outcome == Outcome::kFailed) {
      ASSERT_EQ(item.error.code(), ErrorCode::kCancelled);
      is_cancelled = true;
    } else {
      ASSERT_EQ(item.outcome, Outcome::kMiss);
      ASSERT_FALSE(is_cancelled);
    }
  }
}

// ---- Hints.

class MemoryHintTest : public MemoryConnectorTest {
 protected:
  Item hint(Hint hint, std::string_view key, std::uint64_t hold_ns = kHoldNsMax) {
    Item item;
    item.key = std::as_bytes(std::span{key.data(), key.size()});
    Batch batch;
    batch.op = Op::kTouch;
    batch.hint = hint;
    batch.hold_ns = is_held(hint) ? hold_ns : 0;
    batch.items = {&item, 1};
    EXPECT_TRUE(connector->submit(batch).has_value());
    Batch* done = nullptr;
    EXPECT_EQ(connector->reap({&done, 1}), 1U);
    return item;
  }
};

TEST_F(MemoryHintTest, WhatIsHeldIsNotEvicted) {
  open({.capacity_bytes = 404});
  set("a", 100);
  set("b", 100);
  EXPECT_EQ(hint(Hint::kRetain, "a").outcome, Outcome::kDone);
  for (const char* const key : {"c", "d", "e", "f", "g"}) set(key, 100);
  EXPECT_TRUE(is_there("a"));
  EXPECT_FALSE(is_there("b"));
  EXPECT_EQ(counter("pinned_keys"), 1U);
  EXPECT_EQ(counter("pinned_bytes"), 101U);

  EXPECT_EQ(hint(Hint::kRelease, "a").outcome, Outcome::kDone);
  for (const char* const key : {"h", "i", "j", "k"}) set(key, 100);
  EXPECT_FALSE(is_there("a"));
  EXPECT_EQ(counter("pinned_bytes"), 0U);
}

TEST_F(MemoryHintTest, AHoldEndsWithItsTimeAndTheLongerOneCounts) {
  open({.capacity_bytes = 404});
  set("a", 100);
  set("b", 100);
  ASSERT_EQ(hint(Hint::kPin, "a", 1).outcome, Outcome::kDone);
  // The nanosecond is over, and there is room for one of them.
  ASSERT_EQ(hint(Hint::kPin, "b").outcome, Outcome::kDone);
  ASSERT_EQ(hint(Hint::kPin, "a").outcome, Outcome::kFailed) << "b's has the budget";
  ASSERT_EQ(hint(Hint::kRelease, "b").outcome, Outcome::kDone);
  ASSERT_EQ(hint(Hint::kPin, "a", kHoldNsMax).outcome, Outcome::kDone);
  ASSERT_EQ(hint(Hint::kPin, "a", 1).outcome, Outcome::kDone) << "it shortens nothing";
  for (const char* const key : {"c", "d", "e", "f", "g"}) set(key, 100);
  EXPECT_TRUE(is_there("a"));
}

TEST_F(MemoryHintTest, WhatExceedsTheBudgetIsRefusedAndCounted) {
  open({.capacity_bytes = 1000, .pins_share = 0.25});
  set("a", 200);
  set("b", 100);
  ASSERT_EQ(hint(Hint::kPin, "a").outcome, Outcome::kDone);
  const Item refused = hint(Hint::kPin, "b");
  EXPECT_EQ(refused.outcome, Outcome::kFailed);
  EXPECT_EQ(refused.error.code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(counter("pins_refused_total"), 1U);
  EXPECT_EQ(connector->report().health, Health::kHealthy);
  EXPECT_TRUE(is_there("b"));
}

TEST_F(MemoryHintTest, AValueThatWhatIsHeldLeavesNoRoomForIsRefused) {
  open({.capacity_bytes = 1000, .pins_share = 0.75});
  set("a", 600);
  ASSERT_EQ(hint(Hint::kPin, "a").outcome, Outcome::kDone);
  const auto stored = client->set("b", value_of(1, 500));
  ASSERT_FALSE(stored.has_value());
  EXPECT_EQ(stored.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(counter("pinned_keys"), 1U);
  set("a", 900);  // Its replacement ends the hold.
  EXPECT_EQ(counter("pinned_keys"), 0U);
  EXPECT_EQ(hint(Hint::kRelease, "a").outcome, Outcome::kMiss);
}

}  // namespace
}  // namespace larder::memory
