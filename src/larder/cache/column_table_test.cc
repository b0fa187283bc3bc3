#include "larder/cache/column_table.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "larder/base/random.h"

namespace larder::cache {
namespace {

ChunkHash hash_of(std::uint64_t number) {
  ChunkHash hash;
  std::memcpy(hash.bytes.data(), &number, sizeof number);
  return hash;
}

TEST(ColumnTableTest, FindsAColumnBySpaceAndHash) {
  ColumnTable table{16};
  const ColumnId column = table.make(SpaceId{1}, hash_of(5), LayoutId{2}, 3);

  EXPECT_EQ(table.find(SpaceId{1}, hash_of(5)), column);
  EXPECT_EQ(table.find(SpaceId{2}, hash_of(5)), kNone);
  EXPECT_EQ(table.find(SpaceId{1}, hash_of(6)), kNone);
  EXPECT_EQ(table[column].rows, 3);
  EXPECT_EQ(table[column].all().size(), 3U);
}

TEST(ColumnTableTest, ARefOfAnErasedColumnIsVoidThoughItsPlaceIsUsedAgain) {
  ColumnTable table{16};
  const ColumnId first = table.make(SpaceId{1}, hash_of(5), LayoutId{2}, 1);
  const ColumnRef ref = table.ref(first);
  EXPECT_TRUE(table.is_current(ref));

  table.erase(first);
  EXPECT_FALSE(table.is_current(ref));
  const ColumnId second = table.make(SpaceId{1}, hash_of(5), LayoutId{2}, 1);

  EXPECT_EQ(second, first);
  EXPECT_FALSE(table.is_current(ref));
}

TEST(ColumnTableTest, CellsAreAbsentWhenTheyAreUsedAgain) {
  ColumnTable table{16};
  const ColumnId first = table.make(SpaceId{1}, hash_of(1), LayoutId{0}, 4);
  table[first].cells[2].grains = 9;
  table.erase(first);

  const ColumnId second = table.make(SpaceId{1}, hash_of(2), LayoutId{0}, 4);

  EXPECT_EQ(table[second].cells[2].grains, 0U);
  EXPECT_EQ(table[second].cells[2].state, CellState::kAbsent);
}

TEST(ColumnTableTest, RandomMakesAndErasesMatchAMap) {
  ColumnTable table{4};
  std::map<std::uint64_t, ColumnId> model;
  Random random{20261129};
  for (int step = 0; step < 20'000; ++step) {
    // Few numbers, so that places collide and holes are shifted into.
    const std::uint64_t number = random.below(3'000);
    const auto found = model.find(number);
    ASSERT_EQ(table.find(SpaceId{0}, hash_of(number)),
              found == model.end() ? kNone : found->second);
    if (found == model.end()) {
      model[number] =
          table.make(SpaceId{0}, hash_of(number), LayoutId{0}, static_cast<Row>(1 + number % 5));
    } else {
      table.erase(found->second);
      model.erase(found);
    }
  }
  table.check_invariants();
  EXPECT_EQ(table.size(), model.size());
}

}  // namespace
}  // namespace larder::cache
