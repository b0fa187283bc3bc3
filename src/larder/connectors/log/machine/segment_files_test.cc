#include "larder/connectors/log/machine/segment_files.h"

#include <algorithm>
#include <cerrno>

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

class SegmentFilesTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    files_ = std::make_unique<SegmentFiles>(*state_);
  }
  bool is_there(std::uint32_t number) const {
    const auto names = disk_.names();
    return std::ranges::find(names, segment_file_name(number)) != names.end();
  }

  std::unique_ptr<SegmentFiles> files_;
};

TEST_F(SegmentFilesTest, AFileIsMadeWhereNoSegmentIsFree) {
  EXPECT_EQ(files_->room_to_grow(), 6U);
  const SegmentFiles::Next next = files_->next();
  EXPECT_EQ(next.segment, 0U);
  EXPECT_FALSE(next.waits_for_copies);
  EXPECT_TRUE(is_there(0));
  EXPECT_EQ(disk_.file_bytes(segment_file_name(0)), kSegmentBytes);
  EXPECT_EQ(segment(0).state(), SegmentState::kFree);
  EXPECT_EQ(files_->room_to_grow(), 5U);
}

TEST_F(SegmentFilesTest, AFreeSegmentGoesBeforeANewOne) {
  make_free(4);
  EXPECT_EQ(files_->next().segment, 4U);
  EXPECT_FALSE(is_there(0));
}

TEST_F(SegmentFilesTest, ASegmentWhoseRecordsAreNotDurableElsewhereWaitsAndAnotherIsMade) {
  make_open(1, 50);
  make_free(2);
  segment(2).moved_to_first = segment(2).moved_to_last = 50;
  files_->set_growth(false);
  const SegmentFiles::Next none = files_->next();
  EXPECT_FALSE(none.segment.has_value());
  EXPECT_TRUE(none.waits_for_copies);
  files_->set_growth(true);
  EXPECT_TRUE(files_->next().segment.has_value());
}

TEST_F(SegmentFilesTest, WithoutRoomThereIsNone) {
  files_->set_growth(false);
  EXPECT_FALSE(files_->next().segment.has_value());
  EXPECT_EQ(files_->room_to_grow(), 0U);
}

TEST_F(SegmentFilesTest, AFailureToGrowIsToldAndTriedAgain) {
  disk_.faults().allocate_error = 1;
  EXPECT_FALSE(files_->next().segment.has_value());
  EXPECT_TRUE(has_condition("cannot add a segment file"));
  EXPECT_EQ(state_->segments.files_count(), 0U);
  disk_.faults().allocate_error = 0;
  files_->retry();  // May not grow before it learns that there is room.
  EXPECT_EQ(state_->segments.files_count(), 0U);
  files_->set_growth(true);
  files_->retry();
  EXPECT_EQ(state_->segments.free_count(), 1U);
  EXPECT_FALSE(has_condition("cannot add a segment file"));
}

TEST_F(SegmentFilesTest, AFileThatIsGivenBackIsGoneForGoodBeforeAnythingElseHappens) {
  make_free(0);
  make_free(1);
  files_->give_back();
  EXPECT_FALSE(is_there(0));
  EXPECT_TRUE(disk_.removed_names().empty());  // Synced.
  EXPECT_EQ(segment(0).state(), SegmentState::kAbsent);
  EXPECT_EQ(state_->segments.free_count(), 1U);
  EXPECT_EQ(state_->counters.segments_given_back_total.value(), 1U);
}

TEST_F(SegmentFilesTest, NothingIsTakenWhileTheDirectoryCannotBeSynced) {
  make_free(0);
  files_->owe_directory_sync();
  disk_.faults().sync_directory_error = 1;
  EXPECT_FALSE(files_->next().segment.has_value());
  EXPECT_TRUE(has_condition("cannot sync the directory"));
  disk_.faults().sync_directory_error = 0;
  EXPECT_FALSE(files_->next().segment.has_value());  // Not at once.
  clock_.advance_to_ns(clock_.now_ns() + kSecond);
  EXPECT_EQ(files_->next().segment, 0U);
  EXPECT_FALSE(has_condition("cannot sync the directory"));
}

TEST_F(SegmentFilesTest, AFileThatCannotBeRemovedIsUsedAgain) {
  make_free(0);
  disk_.faults().remove_error = 1;
  files_->make_anew(0);
  EXPECT_TRUE(is_there(0));
  EXPECT_TRUE(has_condition("cannot remove"));
  EXPECT_EQ(segment(0).state(), SegmentState::kFree);
  EXPECT_EQ(files_->next().segment, 0U);
}

TEST_F(SegmentFilesTest, AFileThatCanBeNeitherRemovedNorOpenedStaysInTheWay) {
  make_free(0);
  make_free(1);
  disk_.faults().remove_error = 1;
  disk_.forbid_open(segment_file_name(0), EACCES, false);
  files_->make_anew(0);
  EXPECT_EQ(segment(0).state(), SegmentState::kRemoving);
  EXPECT_FALSE(files_->next().segment.has_value());  // L9.
  disk_.faults().remove_error = 0;
  disk_.permit_open(segment_file_name(0));
  EXPECT_FALSE(files_->next().segment.has_value());  // Not at once.
  clock_.advance_to_ns(clock_.now_ns() + kSecond);
  EXPECT_EQ(files_->next().segment, 1U);
  EXPECT_FALSE(is_there(0));
}

TEST_F(SegmentFilesTest, ASegmentThatSharesItsBlocksIsMadeAnew) {
  make_free(0);
  disk_.copy_by_reference();
  const SegmentFiles::Next next = files_->next();
  ASSERT_TRUE(next.segment.has_value());
  EXPECT_FALSE(files_->is_shared());
  EXPECT_GE(state_->counters.segments_given_back_total.value(), 1U);
  EXPECT_FALSE(*device_->shares_blocks(segment_file_name(*next.segment)));
}

TEST_F(SegmentFilesTest, WithoutRoomForAnotherASegmentThatSharesItsBlocksStays) {
  make_free(0);
  disk_.copy_by_reference();
  files_->set_growth(false);
  EXPECT_FALSE(files_->next().segment.has_value());
  EXPECT_TRUE(files_->is_shared());
  EXPECT_TRUE(has_condition("share their blocks"));
  EXPECT_TRUE(is_there(0));
  disk_.remove_copies();
  files_->set_growth(false);
  EXPECT_EQ(files_->next().segment, 0U);
  EXPECT_FALSE(has_condition("share their blocks"));
}

}  // namespace
}  // namespace larder::log_store
