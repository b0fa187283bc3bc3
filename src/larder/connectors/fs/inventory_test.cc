#include "larder/connectors/fs/inventory.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "larder/base/random.h"

namespace larder::fs {
namespace {

using Room = Inventory::Room;

void store(Inventory& inventory, const std::string& name, std::uint64_t bytes) {
  ASSERT_EQ(inventory.reserve(bytes), Room::kReserved) << name;
  inventory.stored(name, bytes, bytes, std::nullopt);
}

TEST(InventoryTest, WhatWasUsedLongestAgoGoesFirst) {
  Inventory inventory{100, false};
  for (const char* name : {"a", "b", "c"}) store(inventory, name, 30);
  inventory.used("a");
  EXPECT_EQ(inventory.reserve(30), Room::kFull);
  const auto victim = inventory.take_oldest();
  ASSERT_TRUE(victim.has_value());
  EXPECT_EQ(victim->name, "b");
  EXPECT_EQ(inventory.reserve(30), Room::kFull) << "its blocks are there until it is unlinked";
  inventory.gone(*victim);
  EXPECT_EQ(inventory.reserve(30), Room::kReserved);
  EXPECT_EQ(inventory.reserve(101), Room::kTooLarge);
}

TEST(InventoryTest, FilesThatWereThereAreOlderThanAllThatCameSince) {
  Inventory inventory{100, false};
  inventory.found("old", 10, 5);
  store(inventory, "new", 10);
  inventory.found("older", 10, 3);
  inventory.found("new", 99, 9);  // The walk meets a file that was just stored.
  inventory.found("removed", 10, 1);
  inventory.removed("removed", 10);
  inventory.counted();
  EXPECT_EQ(inventory.totals().keys, 3U);
  EXPECT_EQ(inventory.totals().bytes, 30U);
  for (const char* expected : {"older", "old", "new"}) {
    EXPECT_EQ(inventory.take_oldest()->name, expected);
  }
  EXPECT_FALSE(inventory.take_oldest().has_value());
}

TEST(InventoryTest, AHardBoundWaitsForTheCount) {
  Inventory inventory{100, true};
  EXPECT_EQ(inventory.reserve(1), Room::kNotCounted);
  inventory.counted();
  EXPECT_EQ(inventory.reserve(1), Room::kReserved);
}

TEST(InventoryTest, AMissMeansNothingWhereAStoreCameInBetween) {
  Inventory inventory{100, false};
  inventory.counted();
  store(inventory, "a", 10);
  const std::uint64_t before = inventory.clock();
  store(inventory, "a", 20);
  inventory.missing("a", before);
  EXPECT_EQ(inventory.totals().bytes, 20U);
  inventory.missing("a", inventory.clock());
  EXPECT_EQ(inventory.totals().bytes, 0U);
}

TEST(InventoryTest, WithoutACapacityItCounts) {
  Inventory inventory{0, false};
  inventory.found("a", 0, 0);
  inventory.stored("b", 0, 10, std::nullopt);
  inventory.found("b", 0, 0);
  inventory.counted();
  EXPECT_EQ(inventory.totals().keys, 2U);
  inventory.stored("b", 0, 15, 10);
  EXPECT_EQ(inventory.totals().keys, 2U);
  EXPECT_EQ(inventory.totals().bytes, 15U);
  inventory.removed("a", 1000);
  EXPECT_EQ(inventory.totals().keys, 1U);
  EXPECT_EQ(inventory.totals().bytes, 0U);
  EXPECT_EQ(inventory.reserve(UINT64_MAX), Room::kReserved);
}

/// Any order of stores, evictions and removals, some of them in flight: the used bytes are the sum
/// of present, leaving and reserved files.
TEST(InventoryTest, TheSumIsAlwaysRight) {
  constexpr std::uint64_t kCapacity = 10'000;
  Inventory inventory{kCapacity, true};
  inventory.counted();
  Random random{11};
  std::map<std::string, std::uint64_t> there;
  std::vector<Inventory::Victim> leaving;
  std::vector<std::uint64_t> reserved;
  const auto sum = [&] {
    std::uint64_t bytes = 0;
    for (const auto& [name, size] : there) bytes += size;
    for (const auto& victim : leaving) bytes += victim.bytes;
    for (const std::uint64_t size : reserved) bytes += size;
    return bytes;
  };
  for (int i = 0; i < 20'000; ++i) {
    const std::string name = "f" + std::to_string(random.below(60));
    const std::uint64_t bytes = 1 + random.below(700);
    switch (random.below(6)) {
      case 0:
      case 1:
        if (inventory.reserve(bytes) == Room::kReserved) reserved.push_back(bytes);
        break;
      case 2:
        if (reserved.empty()) break;
        if (random.one_in(4)) {
          inventory.cancel(reserved.back());
        } else {
          inventory.stored(name, reserved.back(), reserved.back() / 2, std::nullopt);
          there[name] = reserved.back() / 2;
        }
        reserved.pop_back();
        break;
      case 3:
      case 4: {
        const auto victim = random.one_in(2) ? inventory.take_oldest() : inventory.take(name);
        if (!victim) break;
        ASSERT_EQ(there.at(victim->name), victim->bytes);
        there.erase(victim->name);
        leaving.push_back(*victim);
        break;
      }
      default:
        if (leaving.empty()) break;
        if (random.one_in(3)) {
          if (!there.contains(leaving.back().name)) {
            there[leaving.back().name] = leaving.back().bytes;
          }
          inventory.kept(leaving.back());
        } else {
          inventory.gone(leaving.back());
        }
        leaving.pop_back();
    }
    ASSERT_EQ(inventory.totals().bytes, sum());
    ASSERT_EQ(inventory.totals().keys, there.size());
    ASSERT_LE(sum(), kCapacity);
  }
}

}  // namespace
}  // namespace larder::fs
