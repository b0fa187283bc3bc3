#include "larder/connectors/log/machine/segment_preparer.h"

#include <cerrno>

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class SegmentPreparerTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    errors_ = std::make_unique<WriteErrors>(*state_);
    files_ = std::make_unique<SegmentFiles>(*state_);
    preparer_ = std::make_unique<SegmentPreparer>(*state_, *files_, *errors_);
    preparer_->begin_generations(3);
  }
  std::uint64_t durable_generation(std::uint32_t number) const {
    const auto image = disk_.read_durable_image(segment_file_name(number), 0, kGrain);
    return decode_segment_header(image, state_->superblock.path_id, number,
                                 state_->superblock.secret)
        .value_or(0);
  }

  std::unique_ptr<WriteErrors> errors_;
  std::unique_ptr<SegmentFiles> files_;
  std::unique_ptr<SegmentPreparer> preparer_;
};

TEST_F(SegmentPreparerTest, TheHeaderOfAReadySegmentIsDurable) {
  preparer_->prepare_next();
  EXPECT_TRUE(preparer_->is_preparing());
  EXPECT_TRUE(preparer_->is_on_its_way());
  EXPECT_FALSE(preparer_->ready().has_value());
  run();
  ASSERT_EQ(preparer_->ready(), 0U);
  EXPECT_FALSE(preparer_->is_preparing());
  EXPECT_EQ(segment(0).state(), SegmentState::kReady);
  EXPECT_EQ(durable_generation(0), (std::uint64_t{3} << 32) + 1);
  EXPECT_EQ(segment(0).generation, durable_generation(0));
}

TEST_F(SegmentPreparerTest, OneIsReadyAtATimeAndEachHasALaterGeneration) {
  preparer_->prepare_next();
  run();
  preparer_->prepare_next();
  EXPECT_FALSE(preparer_->is_preparing());
  EXPECT_EQ(preparer_->take_ready(), 0U);
  EXPECT_FALSE(preparer_->ready().has_value());
  preparer_->prepare_next();
  run();
  ASSERT_EQ(preparer_->ready(), 1U);
  EXPECT_GT(segment(1).generation, segment(0).generation);
}

TEST_F(SegmentPreparerTest, AFailedHeaderHasTheFileMadeAnew) {
  make_free(0);
  disk_.faults().write_error = 1;
  preparer_->prepare_next();
  run();
  disk_.faults().write_error = 0;
  EXPECT_FALSE(preparer_->ready().has_value());
  EXPECT_TRUE(has_condition("its header could not be written"));
  EXPECT_EQ(segment(0).state(), SegmentState::kAbsent);
  preparer_->prepare_next();
  run();
  EXPECT_EQ(preparer_->ready(), 0U);
  EXPECT_FALSE(has_condition("its header could not be written"));
}

TEST_F(SegmentPreparerTest, WithoutSpaceForTheHeaderTheSegmentStaysTheNextOne) {
  make_free(0);
  files_->set_growth(false);
  preparer_->prepare_next();
  errors_->note("another write", ENOSPC);
  disk_.faults().write_error = 1;
  run();
  disk_.faults().write_error = 0;
  EXPECT_EQ(segment(0).state(), SegmentState::kFree);
  EXPECT_TRUE(segment(0).has_failed_header);
  EXPECT_EQ(state_->segments.next_free(), 0U);
  EXPECT_FALSE(has_condition("its header could not be written"));
}

TEST_F(SegmentPreparerTest, AHeaderThatMayStillLandIsSettledByASyncBeforeTheNextOne) {
  make_free(0);
  segment(0).has_failed_header = true;
  preparer_->prepare_next();
  run();
  EXPECT_EQ(preparer_->ready(), 0U);
  EXPECT_EQ(disk_.counts().syncs, 2U);
  EXPECT_FALSE(segment(0).has_failed_header);
}

TEST_F(SegmentPreparerTest, NothingIsPreparedWhileNothingMayBeWritten) {
  state_->is_frozen = true;
  preparer_->prepare_next();
  EXPECT_FALSE(preparer_->is_preparing());
  EXPECT_FALSE(preparer_->is_on_its_way());
}

TEST_F(SegmentPreparerTest, StoresDoNotWaitForASyncThatHasStalled) {
  preparer_->prepare_next();
  preparer_->set_syncs_stalled(true);
  EXPECT_FALSE(preparer_->is_on_its_way());
  run();
}

TEST_F(SegmentPreparerTest, WhatIsNotReadyIsNotTaken) {
  EXPECT_DEATH(preparer_->take_ready(), "LARDER_CHECK");
}

}  // namespace
}  // namespace larder::log_store
