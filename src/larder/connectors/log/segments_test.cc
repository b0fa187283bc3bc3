#include "larder/connectors/log/segments.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace larder::log_store {
namespace {

constexpr std::uint32_t kGrain = 4096;

Geometry geometry_of_files(std::uint32_t files) {
  return {.grain_bytes = kGrain,
          .segment_count = files,
          .slot_bytes = (1U << 20) + 65536,
          .segment_bytes = 1U << 20};
}

void give_file(Segments& segments, std::uint32_t number) {
  segments.set_has_file(number, true);
}

void use(Segments& segments, std::uint32_t number, SegmentState state, std::uint64_t generation) {
  give_file(segments, number);
  segments.at(number).state = state;
  segments.at(number).generation = generation;
}

std::vector<std::uint32_t> take_all_free(Segments& segments) {
  std::vector<std::uint32_t> order;
  while (const auto next = segments.next_free()) {
    segments.pop_free(*next);
    order.push_back(*next);
  }
  return order;
}

TEST(SegmentsTest, FilesAreCountedAsTheyComeAndGo) {
  Segments segments{geometry_of_files(32), 0};
  EXPECT_EQ(segments.files_count(), 0U);
  for (const std::uint32_t number : {3U, 4U, 4U}) segments.set_has_file(number, true);
  EXPECT_EQ(segments.files_count(), 2U);
  EXPECT_EQ(segments.absent_count(), 30U);
  segments.set_has_file(5, false);
  EXPECT_EQ(segments.files_count(), 2U);
  segments.push_free(3);
  segments.begin_removal(3);
  segments.end_removal(3, true);
  EXPECT_EQ(segments.files_count(), 1U);
  EXPECT_FALSE(segments.at(3).has_file);
}

TEST(SegmentsTest, SegmentsThatCouldNotBeRemovedGoBackToTheirPlaces) {
  Segments segments{geometry_of_files(32), 0};
  for (const std::uint32_t number : {7U, 2U, 30U, 0U}) {
    give_file(segments, number);
    segments.push_free(number);
  }
  for (const std::uint32_t number : {7U, 2U, 30U}) segments.begin_removal(number);
  segments.end_removal(7, false);
  segments.end_removal(2, false);
  segments.end_removal(30, true);
  EXPECT_EQ(take_all_free(segments), (std::vector<std::uint32_t>{7, 2, 0}));
}

TEST(SegmentsTest, FreeSegmentsAreReusedInTheOrderInWhichTheyWereFreed) {
  Segments segments{geometry_of_files(32), 0};
  for (const std::uint32_t number : {7U, 2U, 30U, 0U}) {
    give_file(segments, number);
    segments.push_free(number);
  }
  EXPECT_EQ(segments.free_count(), 4U);
  EXPECT_EQ(take_all_free(segments), (std::vector<std::uint32_t>{7, 2, 30, 0}));
  EXPECT_EQ(segments.free_count(), 0U);
}

TEST(SegmentsTest, SegmentsThatHoldNothingGoBeforeTheOthers) {
  Segments segments{geometry_of_files(32), 0};
  segments.push_free(1);
  segments.put_back(2);
  segments.push_free(3);
  EXPECT_EQ(take_all_free(segments), (std::vector<std::uint32_t>{2, 1, 3}));
}

TEST(SegmentsTest, AFreedSegmentForgetsItsTombstonesAndTable) {
  Segments segments{geometry_of_files(32), 0};
  use(segments, 4, SegmentState::kSealed, 9);
  segments.at(4).tombstones = 3;
  segments.at(4).table = std::make_unique<TableBuilder>();
  segments.push_free(4);
  EXPECT_EQ(segments.at(4).state, SegmentState::kFree);
  EXPECT_EQ(segments.at(4).tombstones, 0U);
  EXPECT_EQ(segments.at(4).table, nullptr);
}

TEST(SegmentsDeathTest, ASegmentThatSomethingPointsIntoIsNotFreed) {
  Segments segments{geometry_of_files(32), 0};
  use(segments, 1, SegmentState::kSealed, 1);
  segments.add_live({.segment = 1, .grain = 1}, 100);
  EXPECT_DEATH(segments.push_free(1), "LARDER_CHECK");
  segments.remove_live({.segment = 1, .grain = 1}, 100);
  segments.at(1).pins = 1;
  EXPECT_DEATH(segments.push_free(1), "LARDER_CHECK");
  segments.at(1).pins = 0;
  segments.at(1).writes_in_flight = 1;
  EXPECT_DEATH(segments.push_free(1), "LARDER_CHECK");
  segments.at(1).writes_in_flight = 0;
  segments.push_free(1);
  EXPECT_EQ(segments.free_count(), 1U);
}

TEST(SegmentsTest, LiveBytesAreCountedInWholeRecords) {
  Segments segments{geometry_of_files(32), 0};
  segments.add_live({.segment = 1, .grain = 1}, 1);
  segments.add_live({.segment = 1, .grain = 3}, kGrain);
  segments.add_live({.segment = 2, .grain = 1}, 0);
  EXPECT_EQ(segments.at(1).live_records, 2U);
  EXPECT_EQ(segments.at(1).live_bytes, 4 * kGrain);
  EXPECT_EQ(segments.live_bytes(), 5 * kGrain);
  segments.remove_live({.segment = 1, .grain = 1}, 1);
  EXPECT_EQ(segments.at(1).live_records, 1U);
  EXPECT_EQ(segments.live_bytes(), 3 * kGrain);
}

TEST(SegmentsDeathTest, MoreThanWasAddedCannotBeRemoved) {
  Segments segments{geometry_of_files(32), 0};
  EXPECT_DEATH(segments.remove_live({.segment = 1, .grain = 1}, 1), "LARDER_CHECK");
}

TEST(SegmentsTest, FilesAreMadeUpToTheLimitAndLowestNumbersFirst) {
  Segments segments{geometry_of_files(3), 0};
  EXPECT_EQ(segments.absent_count(), 3U);
  for (std::uint32_t number = 0; number < 3; ++number) {
    ASSERT_EQ(segments.next_absent(), number);
    use(segments, number, SegmentState::kOpen, number + 1);
  }
  EXPECT_EQ(segments.absent_count(), 0U);
  EXPECT_FALSE(segments.next_absent().has_value());
}

TEST(SegmentsTest, MoreNumbersThanFilesMayExistAfterTheCapacityWasLowered) {
  Segments segments{geometry_of_files(3), 10};
  EXPECT_EQ(segments.count(), 10U);
  EXPECT_EQ(segments.files_max(), 3U);
  for (const std::uint32_t number : {0U, 8U, 9U, 5U}) {
    use(segments, number, SegmentState::kSealed, number + 1);
  }
  EXPECT_EQ(segments.files_count(), 4U);
  EXPECT_EQ(segments.absent_count(), 0U);
  EXPECT_FALSE(segments.next_absent().has_value());
  segments.push_free(9);
  segments.begin_removal(9);
  segments.end_removal(9, true);
  EXPECT_EQ(segments.at(9).state, SegmentState::kAbsent);
  EXPECT_EQ(segments.files_count(), 3U);
  EXPECT_EQ(segments.free_count(), 0U);
  segments.push_free(8);
  segments.begin_removal(8);
  segments.end_removal(8, true);
  EXPECT_EQ(segments.absent_count(), 1U);
  EXPECT_EQ(segments.next_absent(), 1U);
}

TEST(SegmentsTest, OldestIsTheUsedSegmentOfTheLowestGeneration) {
  Segments segments{geometry_of_files(8), 0};
  EXPECT_FALSE(segments.oldest().has_value());
  use(segments, 0, SegmentState::kFree, 1);  // An earlier life; nothing points into it.
  use(segments, 1, SegmentState::kSealed, 30);
  use(segments, 2, SegmentState::kOpen, 50);
  use(segments, 3, SegmentState::kReady, 2);
  use(segments, 4, SegmentState::kReclaiming, 10);
  use(segments, 5, SegmentState::kSealing, 40);
  use(segments, 6, SegmentState::kFailed, 3);
  use(segments, 7, SegmentState::kPreparing, 4);
  EXPECT_EQ(segments.oldest(), 4U);
  EXPECT_EQ(segments.oldest_from(10), 4U);
  EXPECT_EQ(segments.oldest_from(11), 1U);
  EXPECT_EQ(segments.oldest_from(31), 5U);
  EXPECT_EQ(segments.oldest_from(50), 2U);
  EXPECT_FALSE(segments.oldest_from(51).has_value());
}

TEST(SegmentsTest, ASegmentWaitsUntilTheRecordsMovedFromItAreSynced) {
  Segments segments{geometry_of_files(8), 0};
  use(segments, 1, SegmentState::kReclaiming, 10);
  use(segments, 2, SegmentState::kOpen, 50);
  EXPECT_FALSE(segments.waits_for_its_copies(1));  // Nothing was moved.
  segments.at(1).moved_to_first = segments.at(1).moved_to_last = 50;
  EXPECT_TRUE(segments.waits_for_its_copies(1));
  segments.at(2).state = SegmentState::kSealing;
  EXPECT_TRUE(segments.waits_for_its_copies(1));
  segments.at(2).state = SegmentState::kSealed;
  EXPECT_FALSE(segments.waits_for_its_copies(1));
  use(segments, 2, SegmentState::kOpen, 51);  // Reused since.
  EXPECT_FALSE(segments.waits_for_its_copies(1));
}

TEST(SegmentsTest, PlacesAreOrderedByGenerationThenOffset) {
  Segments segments{geometry_of_files(8), 0};
  use(segments, 1, SegmentState::kSealed, 9);
  use(segments, 5, SegmentState::kSealed, 8);
  const Place later = segments.place_of({.segment = 1, .grain = 1});
  const Place earlier = segments.place_of({.segment = 5, .grain = 200});
  EXPECT_GT(later, earlier);
  EXPECT_EQ(earlier.offset, 200U * kGrain);
  EXPECT_GT(segments.place_of({.segment = 1, .grain = 2}), later);
  EXPECT_GT(later, Place{});
}

TEST(SegmentsTest, FileNamesAndNumbersGoBothWays) {
  EXPECT_EQ(segment_file_name(0), "segment-0000000");
  EXPECT_EQ(segment_file_name(42), "segment-0000042");
  for (const std::uint32_t number : {0U, 1U, 42U, 99999U, 1048575U, 9999999U}) {
    EXPECT_EQ(segment_of_file_name(segment_file_name(number)), number);
  }
  for (const char* const name :
       {"segment-", "segment-1", "segment-000000", "segment-00000001", "segment-00000x1",
        "segment-+000001", "segment--000001", "Segment-0000001", "segment-0000001.bak",
        "superblock", "xsegment-0000001", "segment-000001 "}) {
    EXPECT_FALSE(segment_of_file_name(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace larder::log_store
