#include "larder/connectors/log/machine/space_watch.h"

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

class SpaceWatchTest : public PathStateTest {
 protected:
  void SetUp() override {
    options_.min_free_bytes = 4 * kSegmentBytes;
    PathStateTest::SetUp();
    superblock_file_ = std::make_unique<SuperblockFile>(*device_, *device_, clock_, "the disk");
    auto created = superblock_file_->create(state_->segments.geometry(), 7);
    ASSERT_TRUE(created.has_value());
    state_->superblock = *created;
    appender_ = std::make_unique<Appender>(*state_);
    watch_ = std::make_unique<SpaceWatch>(*state_, *appender_, *superblock_file_);
  }
  static io::Space free(std::uint64_t bytes) {
    return {.total_bytes = std::uint64_t{1} << 30, .free_bytes = bytes};
  }
  void look_again() {
    clock_.advance_to_ns(clock_.now_ns() + kSecond);
    watch_->turn(clock_.now_ns(), false);
  }

  std::unique_ptr<SuperblockFile> superblock_file_;
  std::unique_ptr<Appender> appender_;
  std::unique_ptr<SpaceWatch> watch_;
};

TEST_F(SpaceWatchTest, NothingGrowsBelowTheFloor) {
  watch_->begin(free(5 * kSegmentBytes), 0);
  EXPECT_EQ(appender_->free_segments(), 6U);
  watch_->begin(free(5 * kSegmentBytes - 1), 0);
  EXPECT_EQ(appender_->free_segments(), 0U);
  EXPECT_TRUE(has_condition("too full to grow"));
  watch_->begin(free(5 * kSegmentBytes), 0);
  EXPECT_FALSE(has_condition("too full to grow"));
}

TEST_F(SpaceWatchTest, BelowTheFloorFreeSegmentsAreGivenBackButForTwo) {
  for (std::uint32_t number = 0; number < 4; ++number) make_free(number);
  for (int looks = 0; looks < 4; ++looks) watch_->begin(free(3 * kSegmentBytes), 0);
  EXPECT_EQ(state_->segments.free_count(), 2U);
  EXPECT_EQ(state_->counters.segments_given_back_total.value(), 2U);
}

TEST_F(SpaceWatchTest, ItLooksOnceASecond) {
  watch_->turn(clock_.now_ns(), false);
  EXPECT_EQ(watch_->next_timer_ns(), clock_.now_ns() + kSecond);
}

TEST_F(SpaceWatchTest, AStoreWhoseFilesWereRemovedIsToldAndAddsNone) {
  look_again();
  EXPECT_FALSE(has_condition("the store's files were removed"));
  disk_.remove(kSuperblockFileName);
  look_again();
  EXPECT_TRUE(has_condition("the store's files were removed"));
  EXPECT_EQ(appender_->free_segments(), 0U);
}

TEST_F(SpaceWatchTest, AFrozenPathThawsOnceTheSuperblockCanBeWritten) {
  state_->is_frozen = true;
  disk_.faults().write_error = 1;
  look_again();
  EXPECT_FALSE(watch_->is_quiet());
  run();
  look_again();
  EXPECT_TRUE(state_->is_frozen);
  run();
  disk_.faults().write_error = 0;
  for (int looks = 0; state_->is_frozen; ++looks) {
    ASSERT_LT(looks, 5);
    look_again();
    run();
  }
  EXPECT_TRUE(watch_->is_quiet());
}

TEST_F(SpaceWatchTest, WhileItStopsNothingIsThawed) {
  state_->is_frozen = true;
  clock_.advance_to_ns(clock_.now_ns() + kSecond);
  watch_->turn(clock_.now_ns(), true);
  EXPECT_TRUE(watch_->is_quiet());
}

}  // namespace
}  // namespace larder::log_store
