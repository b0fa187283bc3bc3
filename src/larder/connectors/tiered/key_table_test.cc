#include "larder/connectors/tiered/key_table.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/key_text.h"

namespace larder::tiered {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span{text});
}

class KeyTableTest : public testing::Test {
 protected:
  Key& key(std::string_view text) { return keys.find_or_make(bytes(text)); }
  /// Which batches have their key now, in order.
  std::vector<const Batch*> granted() {
    std::vector<const Batch*> let_in;
    KeyTable::Granted one;
    while (keys.take_granted(one)) let_in.push_back(one.waiter.batch);
    return let_in;
  }

  KeyTable keys{1 << 20};
  std::array<Batch, 4> batches;
};

TEST_F(KeyTableTest, AKeyHasTheSameNameWheneverItComes) {
  const cache::ChunkHash name = key("a").name;
  EXPECT_NE(name, key("b").name);
  keys.drop_unused(key("a"));
  EXPECT_EQ(keys.find(bytes("a")), nullptr);

  EXPECT_EQ(key("a").name, name);
}

TEST_F(KeyTableTest, AKeyInL1IsKept) {
  Key& a = key("a");
  ASSERT_TRUE(keys.take(a, true));
  keys.set_in_l1(a.name, true);
  keys.end(a, true);
  EXPECT_EQ(keys.find(bytes("a")), &a);

  keys.set_in_l1(a.name, false);

  EXPECT_EQ(keys.size(), 0U);
}

TEST_F(KeyTableTest, ReadersShareAndAChangeIsAlone) {
  Key& a = key("a");
  EXPECT_TRUE(keys.take(a, false));
  EXPECT_TRUE(keys.take(a, false));
  EXPECT_FALSE(keys.take(a, true));
  keys.end(a, false);
  keys.end(a, false);
  Key& again = key("a");
  EXPECT_TRUE(keys.take(again, true));
  EXPECT_FALSE(keys.take(again, false));
  EXPECT_FALSE(keys.take(again, true));
  keys.end(again, true);
  EXPECT_EQ(keys.size(), 0U);
}

TEST_F(KeyTableTest, WaitersAreServedInTheirOrderAndNobodyOvertakes) {
  Key& a = key("a");
  ASSERT_TRUE(keys.take(a, false));
  keys.wait(a, {&batches[0], 0, true});
  EXPECT_FALSE(keys.take(a, false)) << "a reader overtook a change";
  keys.wait(a, {&batches[1], 0, false});
  keys.wait(a, {&batches[2], 0, false});
  EXPECT_TRUE(granted().empty());

  keys.end(a, false);
  EXPECT_EQ(granted(), std::vector<const Batch*>{&batches[0]});
  keys.end(a, true);
  EXPECT_EQ(granted(), (std::vector<const Batch*>{&batches[1], &batches[2]}));
  keys.end(a, false);
  keys.end(a, false);
  EXPECT_EQ(keys.size(), 0U);
}

TEST_F(KeyTableTest, AChangeWaitsForAStoreOfTheEngineAndAReaderDoesNot) {
  keys.begin_store(bytes("a"));
  Key& a = key("a");
  EXPECT_TRUE(keys.take(a, false));
  keys.end(a, false);
  EXPECT_FALSE(keys.take(a, true));
  keys.wait(a, {&batches[0], 0, true});

  keys.end_store(bytes("a"));

  EXPECT_EQ(granted(), std::vector<const Batch*>{&batches[0]});
}

TEST_F(KeyTableTest, WaitersThatAreTakenOutLetTheNextIn) {
  Key& a = key("a");
  ASSERT_TRUE(keys.take(a, false));
  keys.wait(a, {&batches[0], 0, true});
  keys.wait(a, {&batches[1], 0, false});
  std::vector<Waiter> out;

  keys.take_waiters([&](const Waiter& waiter) { return waiter.batch == &batches[0]; }, out);

  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(keys.waiting(), 0U);
  EXPECT_EQ(granted(), std::vector<const Batch*>{&batches[1]});
}

TEST_F(KeyTableTest, OtherThreadsSeeWhatIsShownUntilItLeaves) {
  Item item;
  item.key = bytes("a");
  item.outcome = Outcome::kMiss;
  Key& a = key("a");
  ASSERT_TRUE(keys.take(a, true));
  keys.set_in_l1(a.name, true);
  keys.find_shown({&item, 1});
  EXPECT_EQ(item.outcome, Outcome::kMiss);

  keys.show(a.name, 77);
  keys.find_shown({&item, 1});
  EXPECT_EQ(item.outcome, Outcome::kHit);
  EXPECT_EQ(item.value_bytes, 77U);

  keys.set_in_l1(a.name, false);
  keys.show(a.name, 77);  // Too late: it has left.
  item.outcome = Outcome::kMiss;
  keys.find_shown({&item, 1});
  EXPECT_EQ(item.outcome, Outcome::kMiss);
}

TEST_F(KeyTableTest, OfManyShownKeysEachIsFoundWithItsSize) {
  constexpr std::uint64_t kKeys = 300'000;  // More than the filter has slots.
  for (std::uint64_t i = 0; i < kKeys; ++i) {
    Key& one = key("key-" + std::to_string(i));
    keys.set_in_l1(one.name, true);
    keys.show(one.name, i);
    keys.show(one.name, i);  // Shown again: it counts once.
  }
  const auto find = [&](std::uint64_t i) {
    const std::string text = "key-" + std::to_string(i);
    Item item;
    item.key = bytes(text);
    item.outcome = Outcome::kMiss;
    keys.find_shown({&item, 1});
    return item.outcome == Outcome::kHit ? std::optional{item.value_bytes} : std::nullopt;
  };
  for (std::uint64_t i = 0; i < kKeys; i += 97) EXPECT_EQ(find(i), i);
  EXPECT_EQ(find(kKeys + 1), std::nullopt);

  for (std::uint64_t i = 0; i < kKeys; ++i) {
    keys.set_in_l1(key("key-" + std::to_string(i)).name, false);
  }
  EXPECT_EQ(find(7), std::nullopt);
  EXPECT_EQ(keys.size(), 0U);
}

// More keys of one slot of the filter than it can count.
TEST_F(KeyTableTest, AShownKeyIsFoundHoweverManyShareItsSlot) {
  constexpr std::uint64_t kSlots = std::uint64_t{1} << 18;
  std::vector<std::string> shared;
  for (std::uint64_t i = 0; shared.size() < 256; ++i) {
    std::string text(sizeof i, '\0');
    std::memcpy(text.data(), &i, sizeof i);
    if (hash64(bytes(text)) % kSlots == 0) shared.push_back(text);
  }
  const auto expect_last_is_found = [&] {
    Item item;
    item.key = bytes(shared.back());
    item.outcome = Outcome::kMiss;
    keys.find_shown({&item, 1});
    EXPECT_EQ(item.outcome, Outcome::kHit);
  };
  for (const std::string& text : shared) {
    Key& one = key(text);
    keys.set_in_l1(one.name, true);
    keys.show(one.name, 1);
  }
  expect_last_is_found();

  for (std::size_t i = 0; i + 1 < shared.size(); ++i) keys.set_in_l1(key(shared[i]).name, false);

  expect_last_is_found();
}

}  // namespace
}  // namespace larder::tiered
