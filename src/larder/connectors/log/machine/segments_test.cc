#include "larder/connectors/log/machine/segments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace larder::log_store {
namespace {

IndexEntry entry_at(std::uint32_t segment, std::uint32_t grain, std::uint32_t value_bytes) {
  return {.location = {.segment = segment, .grain = grain}, .value_bytes = value_bytes};
}

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

/// Takes an absent segment to `state`, by the ways that the store goes.
void use(Segments& segments, std::uint32_t number, SegmentState state, std::uint64_t generation) {
  give_file(segments, number);
  if (state == SegmentState::kFailed) return segments.fail(number);
  if (state == SegmentState::kSealed || state == SegmentState::kReclaiming) {
    segments.note_found(number, generation);
    if (state == SegmentState::kReclaiming) segments.begin_reclaiming(number);
    return;
  }
  segments.put_back(number);
  if (state == SegmentState::kRemoving) return segments.begin_removal(number);
  if (state == SegmentState::kFree) return;
  segments.begin_preparing(number, generation);
  if (state == SegmentState::kPreparing) return;
  segments.note_ready(number);
  if (state == SegmentState::kReady) return;
  segments.begin_appending(number);
  if (state == SegmentState::kSealing) segments.begin_sealing(number);
}

std::vector<std::uint32_t> take_all_free(Segments& segments) {
  std::vector<std::uint32_t> order;
  while (const auto next = segments.next_free()) {
    segments.begin_preparing(*next, 100 + order.size());
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
  EXPECT_EQ(segments.at(4).state(), SegmentState::kFree);
  EXPECT_EQ(segments.at(4).tombstones, 0U);
  EXPECT_EQ(segments.at(4).table, nullptr);
}

TEST(SegmentsDeathTest, ASegmentThatSomethingPointsIntoIsNotFreed) {
  Segments segments{geometry_of_files(32), 0};
  use(segments, 1, SegmentState::kSealed, 1);
  segments.add_live(entry_at(1, 1, 100));
  EXPECT_DEATH(segments.push_free(1), "LARDER_CHECK");
  segments.remove_live(entry_at(1, 1, 100));
  SegmentPin pin = segments.pin(1);
  EXPECT_DEATH(segments.push_free(1), "LARDER_CHECK");
  pin.reset();
  segments.at(1).writes_in_flight = 1;
  EXPECT_DEATH(segments.push_free(1), "LARDER_CHECK");
  segments.at(1).writes_in_flight = 0;
  segments.push_free(1);
  EXPECT_EQ(segments.free_count(), 1U);
}

TEST(SegmentsTest, ASegmentGoesFromFreeToSealedAndBack) {
  Segments segments{geometry_of_files(8), 0};
  use(segments, 2, SegmentState::kFree, 0);
  segments.at(2).sync_failed = segments.at(2).is_unproven = true;
  segments.at(2).moved_to_first = segments.at(2).moved_to_last = 3;
  segments.begin_preparing(2, 7);
  EXPECT_EQ(segments.at(2).state(), SegmentState::kPreparing);
  EXPECT_EQ(segments.at(2).generation, 7U);
  EXPECT_FALSE(segments.at(2).sync_failed || segments.at(2).is_unproven);
  EXPECT_EQ(segments.at(2).moved_to_last, 0U);
  EXPECT_EQ(segments.free_count(), 0U);
  segments.note_ready(2);
  EXPECT_EQ(segments.at(2).table, nullptr);
  segments.begin_appending(2);
  EXPECT_EQ(segments.at(2).state(), SegmentState::kOpen);
  EXPECT_EQ(segments.at(2).append_offset, kGrain);
  EXPECT_NE(segments.at(2).table, nullptr);
  segments.begin_sealing(2);
  segments.note_sealed(2);
  segments.begin_reclaiming(2);
  EXPECT_EQ(segments.at(2).state(), SegmentState::kReclaiming);
  segments.push_free(2);
  EXPECT_EQ(segments.next_free(), 2U);
}

TEST(SegmentsTest, OfAllPairsOfStatesTheseAreTransitions) {
  using enum SegmentState;
  const std::vector<std::pair<SegmentState, SegmentState>> legal{
      {kAbsent, kFree},        {kAbsent, kSealed},     {kAbsent, kFailed},   {kAbsent, kRemoving},
      {kFree, kPreparing},     {kFree, kRemoving},     {kPreparing, kReady}, {kPreparing, kFree},
      {kPreparing, kRemoving}, {kReady, kOpen},        {kOpen, kSealing},    {kOpen, kSealed},
      {kSealing, kSealed},     {kSealed, kReclaiming}, {kSealed, kFree},     {kSealed, kOpen},
      {kSealed, kFailed},      {kReclaiming, kFree},   {kRemoving, kAbsent}, {kRemoving, kFree},
  };
  for (int from = 0; from <= static_cast<int>(kFailed); ++from) {
    for (int to = 0; to <= static_cast<int>(kFailed); ++to) {
      const std::pair move{static_cast<SegmentState>(from), static_cast<SegmentState>(to)};
      EXPECT_EQ(is_legal_move(move.first, move.second), std::ranges::count(legal, move) == 1)
          << from << " to " << to;
    }
  }
}

TEST(SegmentsDeathTest, AnIllegalTransitionIsABug) {
  Segments segments{geometry_of_files(16), 0};
  use(segments, 0, SegmentState::kOpen, 1);
  use(segments, 1, SegmentState::kReady, 2);
  use(segments, 2, SegmentState::kSealed, 3);
  use(segments, 3, SegmentState::kFailed, 0);
  use(segments, 4, SegmentState::kFree, 0);
  EXPECT_DEATH(segments.push_free(0), "LARDER_CHECK");        // The head.
  EXPECT_DEATH(segments.begin_sealing(1), "LARDER_CHECK");    // Nothing was appended.
  EXPECT_DEATH(segments.begin_removal(2), "LARDER_CHECK");    // Its records are served.
  EXPECT_DEATH(segments.begin_appending(2), "LARDER_CHECK");  // Without a new generation.
  EXPECT_DEATH(segments.put_back(3), "LARDER_CHECK");         // It may outrank others.
  EXPECT_DEATH(segments.push_free(4), "LARDER_CHECK");        // Twice.
  EXPECT_DEATH(segments.end_removal(4, true), "LARDER_CHECK");
}

TEST(SegmentsDeathTest, OnlyTheNextFreeSegmentIsTaken) {
  Segments segments{geometry_of_files(8), 0};
  for (const std::uint32_t number : {5U, 6U}) {
    give_file(segments, number);
    segments.push_free(number);
  }
  EXPECT_DEATH(segments.begin_preparing(6, 1), "LARDER_CHECK");
}

TEST(SegmentPinTest, APinCountsOnceWhereverItGoes) {
  Segments segments{geometry_of_files(8), 0};
  use(segments, 1, SegmentState::kSealed, 1);
  {
    SegmentPin first = segments.pin(1);
    EXPECT_EQ(segments.at(1).pins(), 1U);
    const SegmentPin second = segments.pin(1);
    EXPECT_EQ(segments.at(1).pins(), 2U);
    SegmentPin moved = std::move(first);
    EXPECT_TRUE(moved);
    EXPECT_EQ(segments.at(1).pins(), 2U);
    moved = segments.pin(1);  // Lets the one that it had go.
    EXPECT_EQ(segments.at(1).pins(), 2U);
    moved.reset();
    moved.reset();
    EXPECT_EQ(segments.at(1).pins(), 1U);
  }
  EXPECT_EQ(segments.at(1).pins(), 0U);
}

TEST(SegmentsDeathTest, APinnedSegmentIsNotTakenForItsNextUse) {
  Segments segments{geometry_of_files(8), 0};
  use(segments, 1, SegmentState::kFree, 0);
  const SegmentPin pin = segments.pin(1);
  EXPECT_DEATH(segments.begin_preparing(1, 2), "LARDER_CHECK");
}

TEST(SegmentsTest, LiveBytesAreCountedInWholeRecords) {
  Segments segments{geometry_of_files(32), 0};
  segments.add_live(entry_at(1, 1, 1));
  segments.add_live(entry_at(1, 3, kGrain));
  segments.add_live(entry_at(2, 1, 0));
  EXPECT_EQ(segments.at(1).live_records, 2U);
  EXPECT_EQ(segments.at(1).live_bytes, 4 * kGrain);
  EXPECT_EQ(segments.live_bytes(), 5 * kGrain);
  segments.remove_live(entry_at(1, 1, 1));
  EXPECT_EQ(segments.at(1).live_records, 1U);
  EXPECT_EQ(segments.live_bytes(), 3 * kGrain);
  IndexEntry packed = entry_at(1, 5, kGrain + 1);
  packed.is_packed = true;  // Without its share of the header.
  segments.add_live(packed);
  EXPECT_EQ(segments.live_bytes(), 5 * kGrain);
}

TEST(SegmentsDeathTest, MoreThanWasAddedCannotBeRemoved) {
  Segments segments{geometry_of_files(32), 0};
  EXPECT_DEATH(segments.remove_live(entry_at(1, 1, 1)), "LARDER_CHECK");
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
  EXPECT_EQ(segments.at(9).state(), SegmentState::kAbsent);
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
  use(segments, 1, SegmentState::kSealed, 30);
  use(segments, 2, SegmentState::kOpen, 50);
  use(segments, 3, SegmentState::kReady, 2);
  use(segments, 4, SegmentState::kReclaiming, 10);
  use(segments, 5, SegmentState::kSealing, 40);
  use(segments, 6, SegmentState::kFailed, 3);
  use(segments, 7, SegmentState::kPreparing, 4);
  use(segments, 0, SegmentState::kFree, 0);
  segments.at(0).generation = 1;  // An earlier life; nothing points into it.
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
  segments.begin_sealing(2);
  EXPECT_TRUE(segments.waits_for_its_copies(1));
  segments.note_sealed(2);
  EXPECT_FALSE(segments.waits_for_its_copies(1));
  segments.push_free(2);
  segments.begin_preparing(2, 51);  // Reused since.
  segments.note_ready(2);
  segments.begin_appending(2);
  EXPECT_FALSE(segments.waits_for_its_copies(1));
}

TEST(SegmentsTest, ASegmentLeavesEarlyOnlyIfItOutranksNothing) {
  Segments segments{geometry_of_files(32), 0};
  for (std::uint32_t i = 0; i < 4; ++i) use(segments, i, SegmentState::kSealed, 10 + i);
  const auto may_leave = [&](std::uint32_t number) {
    return segments.may_leave_early(number, segments.first_unsettled());
  };
  EXPECT_EQ(segments.first_unsettled(), UINT64_MAX);
  EXPECT_TRUE(may_leave(2));
  segments.at(2).outranks = 1;
  EXPECT_FALSE(may_leave(2));
  EXPECT_TRUE(may_leave(3));
  segments.at(3).tombstones = 1;
  EXPECT_FALSE(may_leave(3));
  segments.at(1).needs_repair = true;
  EXPECT_FALSE(may_leave(1));
}

TEST(SegmentsTest, NothingLeavesBeforeAnOlderSegmentOfWhichTheDiskMayHoldMore) {
  for (int what = 0; what < 4; ++what) {
    Segments segments{geometry_of_files(32), 0};
    for (std::uint32_t i = 0; i < 4; ++i) use(segments, i, SegmentState::kSealed, 10 + i);
    Segment& segment = segments.at(1);
    if (what == 0) segment.strays = 1;
    if (what == 1) segment.sync_failed = true;
    if (what == 2) segment.is_unproven = true;
    if (what == 3) segment.table = std::make_unique<TableBuilder>();
    const std::uint64_t first = segments.first_unsettled();
    EXPECT_EQ(first, 11U) << what;
    EXPECT_TRUE(segments.may_leave_early(0, first)) << what;
    EXPECT_FALSE(segments.may_leave_early(1, first)) << what;
    EXPECT_FALSE(segments.may_leave_early(2, first)) << what;
    EXPECT_FALSE(segments.may_leave_early(3, first)) << what;
  }
  Segments segments{geometry_of_files(32), 0};
  use(segments, 0, SegmentState::kSealing, 10);
  use(segments, 1, SegmentState::kSealed, 11);
  EXPECT_EQ(segments.first_unsettled(), 10U);
}

TEST(SegmentsTest, ItsNextUseOutranksNothing) {
  Segments segments{geometry_of_files(32), 0};
  use(segments, 0, SegmentState::kReclaiming, 10);
  segments.at(0).outranks = segments.at(0).strays = segments.at(0).tombstones = 1;
  segments.push_free(0);
  EXPECT_EQ(segments.at(0).outranks + segments.at(0).strays + segments.at(0).tombstones, 0U);
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

}  // namespace
}  // namespace larder::log_store
