#include "larder/connectors/log/machine/publisher.h"

#include <array>

#include "larder/connectors/log/machine/append_parts_test_support.h"

namespace larder::log_store {
namespace {

class PublisherTest : public AppendPartsTest {
 protected:
  void settle_delete(DeleteTask& task, const Error& error = {}) {
    const Location location = head_->allocate(kGrain, 1, task.key.size());
    in_flight_->begin(task.fingerprint);
    if (const auto present = state_->index.find(task.fingerprint)) {
      task.value_before = state_->segments.place_of(present->location);
    }
    const std::array<DeleteTask*, 1> tasks{&task};
    publisher_->settle(tasks, location, error);
  }
};

TEST_F(PublisherTest, AWrittenRecordIsInTheIndexAndInTheTable) {
  StoreTask& task = placed("a", 100);
  publisher_->settle(task);
  EXPECT_EQ(sink_.stores, std::vector<StoreTask*>{&task});
  EXPECT_TRUE(task.was_published);
  EXPECT_TRUE(points_to(task));
  EXPECT_EQ(segment(0).live_records, 1U);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
  EXPECT_EQ(segment(0).table->entry_count(), 1U);
  EXPECT_EQ(in_flight_->count(), 0U);
}

TEST_F(PublisherTest, AFailedWriteChangesNothing) {
  StoreTask& task = placed("a", 100);
  task.error = Error{ErrorCode::kIo, "log", "a write ended early"};
  publisher_->settle(task);
  EXPECT_EQ(sink_.stores.size(), 1U);
  EXPECT_FALSE(task.was_published);
  EXPECT_EQ(state_->index.keys(), 0U);
  EXPECT_EQ(segment(0).table->entry_count(), 0U);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
  EXPECT_EQ(segment(0).append_offset, 3U * kGrain);  // Its range is dead.
}

TEST_F(PublisherTest, TheLaterPlaceStaysWhicheverEndsFirst) {
  StoreTask& earlier = placed("a", 100);
  StoreTask& later = placed("a", 200);
  publisher_->settle(later);
  publisher_->settle(earlier);
  EXPECT_TRUE(points_to(later));
  EXPECT_FALSE(earlier.was_published);
  EXPECT_EQ(earlier.error.code(), ErrorCode::kNone);
  EXPECT_EQ(segment(0).table->entry_count(), 2U);
}

TEST_F(PublisherTest, AMoveIsPublishedOnlyWhileTheIndexPointsToItsSource) {
  StoreTask& original = placed("a", 100);
  publisher_->settle(original);
  StoreTask& move = tasks_->store("a", 100);
  move.source = original.location;
  place(move);
  publisher_->settle(move);
  EXPECT_TRUE(move.was_published);
  EXPECT_TRUE(points_to(move));
  StoreTask& second = tasks_->store("a", 100);
  second.source = original.location;  // No more.
  place(second);
  publisher_->settle(second);
  EXPECT_FALSE(second.was_published);
  EXPECT_TRUE(points_to(move));
}

TEST_F(PublisherTest, ADeleteRemovesWhatIsEarlierAndCounts) {
  StoreTask& task = placed("a", 100);
  publisher_->settle(task);
  DeleteTask& erase = tasks_->erase("a");
  settle_delete(erase);
  EXPECT_TRUE(erase.existed);
  EXPECT_EQ(state_->index.keys(), 0U);
  EXPECT_EQ(segment(0).tombstones, 1U);
  EXPECT_EQ(segment(0).table->entry_count(), 2U);
  EXPECT_EQ(sink_.deletes, std::vector<DeleteTask*>{&erase});
}

TEST_F(PublisherTest, ADeleteOfNothingIsWrittenAndSaysSo) {
  DeleteTask& erase = tasks_->erase("a");
  settle_delete(erase);
  EXPECT_FALSE(erase.existed);
  EXPECT_EQ(segment(0).tombstones, 1U);
}

TEST_F(PublisherTest, AStoreThatADeleteHasOvertakenIsNotPublished) {
  StoreTask& store = placed("a", 100);
  DeleteTask& erase = tasks_->erase("a");
  settle_delete(erase);
  publisher_->settle(store);
  EXPECT_FALSE(store.was_published);
  EXPECT_EQ(state_->index.keys(), 0U);
}

TEST_F(PublisherTest, AFailedDeleteChangesNothing) {
  StoreTask& task = placed("a", 100);
  publisher_->settle(task);
  DeleteTask& erase = tasks_->erase("a");
  settle_delete(erase, Error{ErrorCode::kIo, "log", "a write ended early"});
  EXPECT_EQ(erase.error.code(), ErrorCode::kIo);
  EXPECT_TRUE(points_to(task));
  EXPECT_EQ(segment(0).tombstones, 0U);
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
}

TEST_F(PublisherTest, WhatWantsASyncEndsWithTheSync) {
  StoreTask& store = placed("a", 100);
  store.wants_sync = true;
  publisher_->settle(store);
  EXPECT_TRUE(points_to(store));  // Published, not acknowledged.
  EXPECT_EQ(segment(0).writes_in_flight, 0U);
  EXPECT_TRUE(sink_.stores.empty());
  DeleteTask& erase = tasks_->erase("b");
  erase.wants_sync = true;
  settle_delete(erase);
  EXPECT_TRUE(sink_.deletes.empty());
  commit_->start_due();
  run();
  EXPECT_EQ(sink_.stores.size(), 1U);
  EXPECT_EQ(sink_.deletes.size(), 1U);
}

TEST_F(PublisherTest, AfterAFailedSyncNothingInTheSegmentIsAcknowledgedAsSynced) {
  segment(0).sync_failed = true;
  StoreTask& store = placed("a", 100);
  store.wants_sync = true;
  publisher_->settle(store);
  EXPECT_EQ(store.error.code(), ErrorCode::kIo);
  DeleteTask& erase = tasks_->erase("b");
  erase.wants_sync = true;
  settle_delete(erase);
  EXPECT_EQ(erase.error.code(), ErrorCode::kIo);
  StoreTask& other = placed("c", 100);
  publisher_->settle(other);
  EXPECT_EQ(other.error.code(), ErrorCode::kNone);
  EXPECT_EQ(sink_.stores.size(), 2U);
}

}  // namespace
}  // namespace larder::log_store
