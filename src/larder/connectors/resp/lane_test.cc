#include "larder/connectors/resp/lane.h"

#include <gtest/gtest.h>

#include <array>
#include <map>

namespace larder::resp {
namespace {

/// A batch of empty items that waits.
struct Waiting {
  explicit Waiting(std::size_t count, Urgency urgency = Urgency::kDemand) : items(count) {
    batch.items = items;
    batch.urgency = urgency;
    state.batch = &batch;
  }
  std::vector<Item> items;
  Batch batch;
  BatchState state;
};

/// Takes one item, as a node does.
BatchState* take(Lane& lane) {
  BatchState* const state = lane.next();
  if (state == nullptr) return nullptr;
  if (++state->next_item == state->batch->items.size()) lane.remove(*state);
  return state;
}

TEST(LaneTest, EveryItemIsTakenOnce) {
  Lane lane;
  std::array<Waiting, 3> batches{Waiting{100}, Waiting{1}, Waiting{33}};
  for (Waiting& waiting : batches) lane.add(waiting.state);
  int taken = 0;
  while (take(lane) != nullptr) ++taken;
  EXPECT_EQ(taken, 134);
  EXPECT_TRUE(lane.empty());
}

TEST(LaneTest, UrgenciesGetTheirShareAndNoneStarves) {
  Lane lane;
  std::array<Waiting, kUrgencyCount> batches{
      Waiting{1500, Urgency::kDemand}, Waiting{1500, Urgency::kPrefetch},
      Waiting{1500, Urgency::kStore}, Waiting{1500, Urgency::kBackground}};
  for (Waiting& waiting : batches) lane.add(waiting.state);
  for (int i = 0; i < 1500; ++i) take(lane);
  EXPECT_EQ(batches[0].state.next_item, 800U);
  EXPECT_EQ(batches[1].state.next_item, 400U);
  EXPECT_EQ(batches[2].state.next_item, 200U);
  EXPECT_EQ(batches[3].state.next_item, 100U);
}

TEST(LaneTest, ASmallBatchDoesNotWaitForALargeOne) {
  Lane lane;
  Waiting large{100'000};
  Waiting small{1};
  lane.add(large.state);
  lane.add(small.state);
  int taken = 0;
  while (small.state.is_waiting) {
    take(lane);
    ++taken;
  }
  EXPECT_LE(taken, 33);
}

TEST(LaneTest, OperationsComeBeforeBatchesAndGoWithTheirBatch) {
  Lane lane;
  Waiting one{2};
  Waiting other{2};
  for (const BatchState* const state : {&one.state, &other.state}) {
    Operation operation;
    operation.batch = const_cast<BatchState*>(state);
    operation.item = 1;
    lane.put_last(operation);
    operation.kind = CommandKind::kAnyExists;
    operation.items = {0, 1};
    lane.put_first(operation);
  }
  std::multimap<std::uint32_t, bool> given_up;
  lane.drop_operations(one.state, [&](std::uint32_t item) { given_up.emplace(item, true); });
  EXPECT_EQ(given_up.count(0), 1U);
  EXPECT_EQ(given_up.count(1), 2U);
  Operation operation;
  ASSERT_TRUE(lane.take_again(operation));
  EXPECT_EQ(operation.batch, &other.state);
  EXPECT_EQ(operation.kind, CommandKind::kAnyExists);
  ASSERT_TRUE(lane.take_again(operation));
  EXPECT_FALSE(lane.take_again(operation));
}

}  // namespace
}  // namespace larder::resp
