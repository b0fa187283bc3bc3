#include "larder/cache/policies/column_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <list>
#include <vector>

#include "larder/base/random.h"

namespace larder::cache {
namespace {

class ColumnOrderTest : public ::testing::Test {
 protected:
  void push(ColumnId column, std::uint64_t bytes = 1) {
    records_.make(column).bytes = bytes;
    order_.reserve(order_.size() + 1);
    order_.push(column);
  }
  void hide(ColumnId column) {
    order_.hide(column);
    records_[column].is_hidden = true;
  }
  void show(ColumnId column) {
    records_[column].is_hidden = false;
    order_.show(column);
  }
  std::vector<ColumnId> visible() const {
    std::vector<ColumnId> columns;
    ColumnOrder::Place place = 0;
    while ((place = order_.visible_from(place)) != ColumnOrder::kEnd) {
      columns.push_back(order_.at(place++));
    }
    return columns;
  }

  ColumnRecords records_;
  ColumnOrder order_{records_};
};

using Columns = std::vector<ColumnId>;

TEST_F(ColumnOrderTest, AnEmptyOneHasNoColumns) {
  EXPECT_EQ(order_.visible_from(0), ColumnOrder::kEnd);
  order_.reserve(10);
  EXPECT_EQ(order_.visible_from(0), ColumnOrder::kEnd);
  EXPECT_EQ(order_.visible_from(1'000'000), ColumnOrder::kEnd);
}

TEST_F(ColumnOrderTest, AHiddenColumnKeepsItsPlace) {
  for (ColumnId column = 0; column < 5; ++column) push(column);
  hide(0);
  hide(2);
  EXPECT_EQ(visible(), (Columns{1, 3, 4}));
  push(5);
  show(2);
  show(0);
  EXPECT_EQ(visible(), (Columns{0, 1, 2, 3, 4, 5}));
}

TEST_F(ColumnOrderTest, BytesAreThoseOfAllColumns) {
  push(0, 10);
  push(1, 20);
  hide(1);
  order_.resize(1, 5);
  records_[1].bytes = 5;
  EXPECT_EQ(order_.bytes(), 15U);
  order_.remove(0);
  EXPECT_EQ(order_.bytes(), 5U);
  EXPECT_EQ(order_.size(), 1U);
}

TEST_F(ColumnOrderTest, RandomHistoriesAgreeWithAList) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    Random random{seed};
    ColumnRecords records;
    ColumnOrder order{records};
    std::list<ColumnId> model;
    constexpr ColumnId kColumns = 5000;
    order.reserve(seed == 1 ? kColumns : 1);
    std::vector<bool> is_in(kColumns, false);
    for (int step = 0; step < 60'000; ++step) {
      const auto column = static_cast<ColumnId>(random.below(kColumns));
      ColumnRecord& record = records.make(column);
      switch (random.below(4)) {
        case 0:
        case 1:  // Inserted, or moved to the hot end.
          if (is_in[column]) {
            order.remove(column);
            model.remove(column);
          } else {
            order.reserve(order.size() + 1);
          }
          order.push(column);
          model.push_back(column);
          is_in[column] = true;
          break;
        case 2:
          if (!is_in[column] || model.size() < 100) break;
          order.remove(column);
          model.remove(column);
          is_in[column] = false;
          break;
        default:
          if (is_in[column]) record.is_hidden ? order.show(column) : order.hide(column);
          record.is_hidden = !record.is_hidden;
      }
      ASSERT_EQ(order.size(), model.size());
      if (step % 100 != 0) continue;
      ColumnOrder::Place place = 0;
      for (const ColumnId expected : model) {
        if (records[expected].is_hidden) continue;
        place = order.visible_from(place);
        ASSERT_NE(place, ColumnOrder::kEnd) << "seed " << seed << " step " << step;
        ASSERT_EQ(order.at(place), expected) << "seed " << seed << " step " << step;
        ++place;
      }
      ASSERT_EQ(order.visible_from(place), ColumnOrder::kEnd);
    }
  }
}

TEST_F(ColumnOrderTest, PlacesNeverRunOutWhateverIsMoved) {
  for (const ColumnId columns : {32U, 42U, 1000U, 1365U}) {  // 42 and 1365 fill a third.
    for (const int pattern : {0, 1, 2, 3}) {
      ColumnRecords records;
      ColumnOrder order{records};
      order.reserve(columns);
      std::list<ColumnId> model;
      for (ColumnId column = 0; column < columns; ++column) {
        records.make(column);
        order.push(column);
        model.push_back(column);
      }
      Random random{columns};
      for (int step = 0; step < 20'000; ++step) {
        // The coldest, the hottest but one, one at an eighth, or any of the coldest quarter.
        auto moved = model.begin();
        if (pattern == 1) moved = std::prev(model.end(), 2);
        if (pattern == 2) moved = std::next(model.begin(), columns / 8);
        if (pattern == 3) {
          moved = std::next(model.begin(), static_cast<int>(random.below(columns / 4)));
        }
        const ColumnId column = *moved;
        model.erase(moved);
        model.push_back(column);
        order.remove(column);
        order.push(column);  // Aborts where no place is left.
      }
      ColumnOrder::Place place = 0;
      for (const ColumnId expected : model) {
        place = order.visible_from(place);
        ASSERT_NE(place, ColumnOrder::kEnd);
        ASSERT_EQ(order.at(place++), expected) << columns << " columns, pattern " << pattern;
      }
    }
  }
}

TEST_F(ColumnOrderTest, HiddenColumnsCostNothing) {
  constexpr ColumnId kColumns = 300'000;
  for (ColumnId column = 0; column < kColumns; ++column) push(column);
  for (ColumnId column = 0; column < kColumns - 1; ++column) hide(column);
  const std::uint64_t before = order_.steps();
  EXPECT_EQ(order_.at(order_.visible_from(0)), kColumns - 1);
  EXPECT_LE(order_.steps() - before, 8U) << "four levels up and down";
}

}  // namespace
}  // namespace larder::cache
