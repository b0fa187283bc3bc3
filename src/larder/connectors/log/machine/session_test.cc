#include "larder/connectors/log/machine/session.h"

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class SessionTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    superblock_file_ = std::make_unique<SuperblockFile>(*device_, *device_, clock_, "the disk");
    auto created = superblock_file_->create(state_->segments.geometry(), 7);
    ASSERT_TRUE(created.has_value());
    state_->superblock = *created;
    appender_ = std::make_unique<Appender>(*state_);
    session_ = std::make_unique<Session>(*state_, *superblock_file_, *appender_);
    tasks_ = std::make_unique<TestTasks>(*state_, sink_);
  }
  Superblock on_disk() {
    const auto read = superblock_file_->read();
    EXPECT_TRUE(read.has_value());
    return read.value_or(Superblock{});
  }
  TableTrailer durable_trailer(std::uint32_t number) const {
    const auto image =
        disk_.read_durable_image(segment_file_name(number), kSegmentBytes - kGrain, kGrain);
    return decode_table_trailer(image, state_->identity(number), kSegmentBytes, kGrain,
                                state_->superblock.secret)
        .value_or(TableTrailer{});
  }
  void store(const std::string& key) {
    while (appender_->start_store(tasks_->store(key, 100)) != Admission::kStarted) run();
    do {
      appender_->turn();
      run();
    } while (!appender_->is_quiet() || appender_->in_flight() > 0);
  }

  RecordingSink sink_;
  std::unique_ptr<SuperblockFile> superblock_file_;
  std::unique_ptr<Appender> appender_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<TestTasks> tasks_;
};

TEST_F(SessionTest, ItBeginsByRaisingTheOpenCount) {
  state_->superblock.is_clean = true;
  ASSERT_TRUE(session_->begin(0).has_value());
  EXPECT_EQ(on_disk().open_count, 1U);
  EXPECT_FALSE(on_disk().is_clean);
  store("a");
  EXPECT_EQ(segment(0).generation >> 32, 1U);
}

TEST_F(SessionTest, ASuperblockThatIsOlderThanItsSegmentsGoesOnFromTheirs) {
  ASSERT_TRUE(session_->begin(9).has_value());
  EXPECT_EQ(on_disk().open_count, 10U);
  EXPECT_TRUE(has_condition("the superblock is older than the segments"));
}

TEST_F(SessionTest, ACleanEndLeavesACheckpointForTheHeadAndTheReadySegment) {
  ASSERT_TRUE(session_->begin(0).has_value());
  store("a");
  ASSERT_EQ(appender_->head(), 0U);
  ASSERT_EQ(appender_->ready(), 1U);
  ASSERT_TRUE(session_->end().has_value());
  EXPECT_EQ(durable_trailer(0).kind, TableKind::kCheckpoint);
  EXPECT_EQ(durable_trailer(0).entry_count, 1U);
  EXPECT_EQ(durable_trailer(0).open_count, 1U);
  EXPECT_EQ(durable_trailer(1).kind, TableKind::kCheckpoint);
  EXPECT_EQ(durable_trailer(1).entry_count, 0U);
  EXPECT_TRUE(on_disk().is_clean);
  EXPECT_EQ(on_disk().segment_files, 2U);
}

TEST_F(SessionTest, AfterAFailedSyncOfTheHeadTheEndIsNotClean) {
  ASSERT_TRUE(session_->begin(0).has_value());
  store("a");
  segment(0).sync_failed = true;
  EXPECT_FALSE(session_->end().has_value());
  EXPECT_FALSE(on_disk().is_clean);
}

TEST_F(SessionTest, AFrozenOneEndsWithoutAWrite) {
  state_->is_frozen = true;
  const std::uint64_t sequence = on_disk().sequence;
  EXPECT_TRUE(session_->end().has_value());
  EXPECT_EQ(on_disk().sequence, sequence);
}

TEST_F(SessionTest, TheCheckpointOfAHeadThatIsTakenOverCountsNoMore) {
  ASSERT_TRUE(session_->begin(0).has_value());
  store("a");
  ASSERT_TRUE(session_->end().has_value());
  Appender next{*state_};
  Session following{*state_, *superblock_file_, next};
  following.adopt_head(0);
  EXPECT_EQ(next.head(), 0U);
  EXPECT_EQ(durable_trailer(0).open_count, 0U);
}

TEST_F(SessionTest, AHeadThatSharesItsBlocksWithACopyIsNotTakenOver) {
  ASSERT_TRUE(session_->begin(0).has_value());
  store("a");
  ASSERT_TRUE(session_->end().has_value());
  disk_.copy_by_reference();
  Appender next{*state_};
  Session following{*state_, *superblock_file_, next};
  following.adopt_head(0);
  EXPECT_FALSE(next.head().has_value());
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
}

}  // namespace
}  // namespace larder::log_store
