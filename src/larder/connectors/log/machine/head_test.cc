#include "larder/connectors/log/machine/head.h"

#include <gtest/gtest.h>

namespace larder::log_store {
namespace {

constexpr std::uint32_t kGrain = 4096;
constexpr std::uint64_t kSegmentGrains = 64;

class HeadTest : public ::testing::Test {
 protected:
  void make_ready(std::uint32_t number, std::uint64_t generation) {
    segments_.put_back(number);
    segments_.begin_preparing(number, generation);
    segments_.note_ready(number);
  }

  Segments segments_{Geometry{.grain_bytes = kGrain,
                              .segment_count = 8,
                              .slot_bytes = kSegmentGrains * kGrain + 65536,
                              .segment_bytes = kSegmentGrains * kGrain},
                     0};
  Head head_{segments_};
};

TEST_F(HeadTest, ThereIsNoneAtFirst) {
  EXPECT_FALSE(head_.segment().has_value());
}

TEST_F(HeadTest, PlacesAscendFromTheGrainBehindTheSegmentsHeader) {
  make_ready(3, 7);
  head_.begin(3);
  EXPECT_EQ(head_.segment(), 3U);
  EXPECT_EQ(segments_.at(3).state(), SegmentState::kOpen);
  const Location first = head_.allocate(2 * kGrain, 1, 10);
  const Location second = head_.allocate(5 * kGrain, 1, 10);
  const Location third = head_.allocate(kGrain, 0, 0);
  EXPECT_EQ(first.segment, 3U);
  EXPECT_EQ(first.grain, 1U);
  EXPECT_EQ(second.grain, 3U);
  EXPECT_EQ(third.grain, 8U);
  EXPECT_EQ(segments_.at(3).writes_in_flight, 3U);
}

TEST_F(HeadTest, BehindThePlacesIsAlwaysRoomForTheTable) {
  make_ready(0, 1);
  head_.begin(0);
  std::uint64_t places = 0;
  while (head_.has_room(2 * kGrain, 1, 1024)) {
    head_.allocate(2 * kGrain, 1, 1024);
    ++places;
  }
  const Segment& segment = segments_.at(0);
  const std::uint64_t table = table_bytes(places, places * 1024, kGrain);
  EXPECT_GT(places, 20U);
  EXPECT_LE(segment.append_offset + table, kSegmentGrains * kGrain);
  EXPECT_GT(
      segment.append_offset + 2 * kGrain + table_bytes(places + 1, (places + 1) * 1024, kGrain),
      kSegmentGrains * kGrain);
}

TEST_F(HeadTest, WhatIsReservedInTheTableTakesRoomToo) {
  make_ready(0, 1);
  head_.begin(0);
  const std::uint64_t all_but_the_table = (kSegmentGrains - 1 - 2 - 1) * kGrain;
  EXPECT_TRUE(head_.has_room(all_but_the_table, 1, 1));
  head_.reserve(kGrain / kTableEntryBytes, 1);
  EXPECT_FALSE(head_.has_room(all_but_the_table, 1, 1));
}

TEST_F(HeadTest, ASegmentThatIsLeftIsToBeSealed) {
  make_ready(0, 1);
  head_.begin(0);
  EXPECT_EQ(head_.leave(), 0U);
  EXPECT_EQ(segments_.at(0).state(), SegmentState::kSealing);
  EXPECT_FALSE(head_.segment().has_value());
  make_ready(5, 2);
  head_.begin(5);
  EXPECT_EQ(head_.allocate(kGrain, 1, 1).segment, 5U);
}

TEST_F(HeadTest, OneThatIsTakenOverGoesOnWhereItWas) {
  segments_.note_found(2, 9);
  segments_.reopen(2);
  segments_.at(2).append_offset = 17 * kGrain;
  segments_.at(2).table = std::make_unique<TableBuilder>();
  head_.adopt(2);
  EXPECT_EQ(head_.allocate(kGrain, 1, 1).grain, 17U);
}

TEST_F(HeadTest, ItDoesNotBeginBeforeItHasLeft) {
  make_ready(0, 1);
  head_.begin(0);
  make_ready(1, 2);
  EXPECT_DEATH(head_.begin(1), "LARDER_CHECK");
}

}  // namespace
}  // namespace larder::log_store
