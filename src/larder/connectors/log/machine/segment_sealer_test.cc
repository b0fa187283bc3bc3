#include "larder/connectors/log/machine/segment_sealer.h"

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class SegmentSealerTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    errors_ = std::make_unique<WriteErrors>(*state_);
    sealer_ = std::make_unique<SegmentSealer>(*state_, *errors_);
    make_open(0, 7);
    for (std::uint32_t grain = 1; grain <= 2; ++grain) {
      segment(0).table->reserve(1, 3);
      segment(0).table->add({.grain = grain, .key_bytes = 3}, "key");
    }
    segment(0).append_offset = 3 * kGrain;
  }
  void leave_head() {
    state_->segments.begin_sealing(0);
    sealer_->begin(0);
  }
  Result<TableTrailer> durable_trailer() const {
    const auto image =
        disk_.read_durable_image(segment_file_name(0), kSegmentBytes - kGrain, kGrain);
    return decode_table_trailer(image, state_->identity(0), kSegmentBytes, kGrain,
                                state_->superblock.secret);
  }

  std::unique_ptr<WriteErrors> errors_;
  std::unique_ptr<SegmentSealer> sealer_;
};

TEST_F(SegmentSealerTest, ASealedSegmentHasItsTableOnTheDisk) {
  leave_head();
  EXPECT_EQ(sealer_->sealing(), 1U);
  EXPECT_FALSE(sealer_->is_quiet());
  run();
  EXPECT_TRUE(sealer_->is_quiet());
  EXPECT_EQ(sealer_->sealing(), 0U);
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
  EXPECT_EQ(segment(0).table, nullptr);
  EXPECT_EQ(state_->counters.segments_sealed_total.value(), 1U);
  const auto trailer = durable_trailer();
  ASSERT_TRUE(trailer.has_value()) << trailer.error().to_string();
  EXPECT_EQ(trailer->kind, TableKind::kSealed);
  EXPECT_EQ(trailer->entry_count, 2U);
  EXPECT_EQ(trailer->append_offset, 3U * kGrain);
}

TEST_F(SegmentSealerTest, ItWaitsForTheWritesOfTheSegment) {
  segment(0).writes_in_flight = 2;
  leave_head();
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  sealer_->settle_place(0);
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  sealer_->settle_place(0);
  EXPECT_EQ(state_->transfers.in_flight(), 1U);
  run();
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
}

TEST_F(SegmentSealerTest, APlaceInTheHeadIsSettledAndNothingElse) {
  segment(0).writes_in_flight = 1;
  sealer_->settle_place(0);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  EXPECT_EQ(segment(0).state(), SegmentState::kOpen);
  EXPECT_DEATH(sealer_->settle_place(0), "LARDER_CHECK");
}

TEST_F(SegmentSealerTest, AfterAFailedSyncThereIsNoTable) {
  disk_.faults().sync_error = 1;
  leave_head();
  run();
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
  EXPECT_TRUE(segment(0).sync_failed);
  EXPECT_NE(segment(0).table, nullptr);
  EXPECT_FALSE(durable_trailer().has_value());
  EXPECT_EQ(state_->counters.sync_failures_total.value(), 1U);
}

TEST_F(SegmentSealerTest, AfterAnEarlierFailedSyncNothingIsTried) {
  segment(0).sync_failed = true;
  leave_head();
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
  EXPECT_EQ(sealer_->sealing(), 0U);
  EXPECT_NE(segment(0).table, nullptr);
}

TEST_F(SegmentSealerTest, ASyncThatCrossedWithAFailedOneProvesNothing) {
  leave_head();
  segment(0).sync_failed = true;
  run();
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
  EXPECT_NE(segment(0).table, nullptr);
  EXPECT_FALSE(durable_trailer().has_value());
}

TEST_F(SegmentSealerTest, ATableThatCouldNotBeWrittenStaysInMemory) {
  disk_.faults().write_error = 1;
  leave_head();
  run();
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
  EXPECT_FALSE(segment(0).sync_failed);
  EXPECT_NE(segment(0).table, nullptr);
}

}  // namespace
}  // namespace larder::log_store
