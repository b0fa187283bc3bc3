#include "larder/connectors/log/machine/tombstones.h"

#include "larder/connectors/log/machine/append_parts_test_support.h"

namespace larder::log_store {
namespace {

class TombstonesTest : public AppendPartsTest {
 protected:
  void SetUp() override {
    AppendPartsTest::SetUp();
    tombstones_ = std::make_unique<Tombstones>(*state_, *head_, *errors_, *in_flight_, *publisher_);
  }
  /// As the appender does it.
  DeleteTask& erase(const std::string& key) {
    DeleteTask& task = tasks_->erase(key);
    if (!tombstones_->has_room(task)) {
      tombstones_->flush();
      EXPECT_TRUE(tombstones_->begin());
    }
    tombstones_->add(task);
    return task;
  }
  std::vector<std::string> keys_at(std::uint32_t grain) const {
    const std::uint64_t offset = std::uint64_t{grain} * kGrain;
    const auto image = disk_.read_image(segment_file_name(0), offset, kGrain);
    const auto header =
        decode_record_header(image, state_->identity(0), offset, state_->superblock.secret);
    std::vector<std::string> keys;
    if (!header || header->kind != RecordKind::kTombstones) return keys;
    const Status walked = for_each_tombstone(
        header->payload,
        [](void* context, std::span<const std::byte> key) {
          static_cast<std::vector<std::string>*>(context)->emplace_back(
              reinterpret_cast<const char*>(key.data()), key.size());
        },
        &keys);
    EXPECT_TRUE(walked.has_value());
    return keys;
  }

  std::unique_ptr<Tombstones> tombstones_;
};

TEST_F(TombstonesTest, TheDeletesOfARoundShareAGrain) {
  erase("a");
  erase("bc");
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  tombstones_->flush();
  run();
  EXPECT_EQ(disk_.counts().writes, 1U);
  EXPECT_EQ(keys_at(1), (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(sink_.deletes.size(), 2U);
  EXPECT_EQ(segment(0).tombstones, 2U);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
  EXPECT_EQ(in_flight_->count(), 0U);
}

TEST_F(TombstonesTest, NothingIsWrittenForNothing) {
  tombstones_->flush();
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
  EXPECT_EQ(segment(0).append_offset, kGrain);
}

TEST_F(TombstonesTest, AFullGrainIsFollowedByAnother) {
  for (int i = 0; i < 4; ++i) erase(std::string(1000, static_cast<char>('a' + i)));
  tombstones_->flush();
  run();
  EXPECT_EQ(disk_.counts().writes, 2U);
  EXPECT_EQ(keys_at(1).size(), 3U);
  EXPECT_EQ(keys_at(2).size(), 1U);
  EXPECT_EQ(sink_.deletes.size(), 4U);
}

TEST_F(TombstonesTest, TheyDoNotWaitForATransfer) {
  while (state_->transfers.acquire() != nullptr) {
  }
  erase("a");
  tombstones_->flush();
  run();
  EXPECT_EQ(sink_.deletes.size(), 1U);
}

TEST_F(TombstonesTest, AFailedWriteFailsItsDeletes) {
  disk_.faults().write_error = 1;
  erase("a");
  erase("b");
  tombstones_->flush();
  run();
  ASSERT_EQ(sink_.deletes.size(), 2U);
  for (const DeleteTask* const task : sink_.deletes) EXPECT_EQ(task->error.code(), ErrorCode::kIo);
  EXPECT_EQ(segment(0).tombstones, 0U);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
}

TEST_F(TombstonesTest, WhatWasGatheredWhenThePathIsDownFails) {
  erase("a");
  tombstones_->fail(Error{ErrorCode::kUnavailable, "log", "the storage does not answer"});
  ASSERT_EQ(sink_.deletes.size(), 1U);
  EXPECT_EQ(sink_.deletes[0]->error.code(), ErrorCode::kUnavailable);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
  tombstones_->flush();
  EXPECT_EQ(state_->transfers.in_flight(), 0U);
}

TEST_F(TombstonesTest, ADeleteRemembersTheLatestValueBeforeIt) {
  const StoreTask& store = placed("a", 100);  // Still being written.
  DeleteTask& after = erase("a");
  EXPECT_EQ(after.value_before, state_->segments.place_of(store.location));
  DeleteTask& other = erase("b");
  EXPECT_EQ(other.value_before, Place{});
  tombstones_->flush();
  run();
  EXPECT_TRUE(after.existed);
  EXPECT_FALSE(other.existed);
}

TEST_F(TombstonesTest, OneGrainIsGatheredAtATime) {
  erase("a");
  EXPECT_DEATH(tombstones_->begin(), "LARDER_CHECK");
}

}  // namespace
}  // namespace larder::log_store
