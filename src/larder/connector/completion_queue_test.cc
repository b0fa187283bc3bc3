#include "larder/connector/completion_queue.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace larder {
namespace {

constexpr std::size_t kThreads = 4;
constexpr std::size_t kBatches = 20'000;

bool is_readable(const CompletionQueue& queue, int timeout_ms = 0) {
  pollfd entry{queue.event_fd(), POLLIN, 0};
  return ::poll(&entry, 1, timeout_ms) == 1;
}

TEST(CompletionQueueTest, BatchesComeBackInOrder) {
  CompletionQueue queue;
  std::array<Batch, 3> batches;
  for (Batch& batch : batches) queue.push(batch);

  std::array<Batch*, 8> done{};
  ASSERT_EQ(queue.reap(done), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(done[i], &batches[i]);
    EXPECT_EQ(done[i]->connector_next, nullptr);
  }
  EXPECT_EQ(queue.reap(done), 0U);
  EXPECT_TRUE(queue.empty());
}

TEST(CompletionQueueTest, TheFdIsReadableWhileSomethingIsThere) {
  CompletionQueue queue;
  std::array<Batch, 3> batches;
  EXPECT_FALSE(is_readable(queue));
  for (Batch& batch : batches) queue.push(batch);

  std::array<Batch*, 1> one{};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(is_readable(queue));
    ASSERT_EQ(queue.reap(one), 1U);
  }
  EXPECT_FALSE(is_readable(queue));
  EXPECT_EQ(queue.reap(one), 0U);

  queue.push(batches[0]);
  EXPECT_TRUE(is_readable(queue));
  EXPECT_EQ(queue.reap({}), 0U);
  EXPECT_TRUE(is_readable(queue));
  EXPECT_EQ(queue.reap(one), 1U);
}

TEST(CompletionQueueTest, EveryBatchOfManyThreadsComesBackOnceThroughTheFd) {
  CompletionQueue queue;
  const auto batches = std::make_unique<std::array<Batch, kThreads * kBatches>>();
  std::vector<std::jthread> threads;
  threads.reserve(kThreads);
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < kBatches; ++i) queue.push((*batches)[t * kBatches + i]);
    });
  }

  std::set<Batch*> seen;
  std::array<Batch*, 7> done{};
  while (seen.size() < kThreads * kBatches) {
    // Only poll() leads to reap(): an fd that stayed unreadable would end the test here.
    ASSERT_TRUE(is_readable(queue, 20'000)) << "after " << seen.size() << " batches";
    const std::size_t count = queue.reap(done);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(seen.insert(done[i]).second) << "a batch came back twice";
    }
  }
  threads.clear();
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace larder
