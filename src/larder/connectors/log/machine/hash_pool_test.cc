#include "larder/connectors/log/machine/hash_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/random.h"

namespace larder::log_store {
namespace {

/// What a reactor sleeps on.
class Bell {
 public:
  void ring() {
    const MutexLock lock{mutex_};
    ++rings_;
    rang_.notify_all();
  }
  /// False when it did not ring within a generous time.
  bool wait() {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds{60};
    const MutexLock lock{mutex_};
    while (rings_ == 0) {
      if (std::chrono::steady_clock::now() > give_up) return false;
      rang_.wait_for(mutex_, 1'000'000'000);
    }
    rings_ = 0;
    return true;
  }
  std::uint64_t rings() {
    const MutexLock lock{mutex_};
    return rings_;
  }

 private:
  Mutex mutex_;
  CondVar rang_;
  std::uint64_t rings_ LARDER_GUARDED_BY(mutex_) = 0;
};

/// A value whose pieces are hashed by one job each, a piece being two scattered buffers.
struct Value {
  static constexpr std::size_t kPieces = 6;

  explicit Value(std::uint64_t seed) : bytes(kPieces * (1000 + seed % 7 * 333)) {
    Random{seed}.fill(bytes);
  }

  HashJob& next_job() {
    const std::size_t piece_bytes = bytes.size() / kPieces;
    std::byte* const piece = bytes.data() + pieces_done * piece_bytes;
    const std::size_t first = piece_bytes / 3;
    memory[0] = {piece, first};
    memory[1] = {piece + first, piece_bytes - first};
    job.memory = memory;
    job.state = &state;
    job.user_data = this;
    return job;
  }

  StreamingHash128 state;
  std::size_t pieces_done = 0;
  std::vector<std::byte> bytes;
  iovec memory[2] = {};
  HashJob job;
};

std::vector<std::unique_ptr<Value>> make_values(std::size_t count) {
  std::vector<std::unique_ptr<Value>> values;
  values.reserve(count);
  for (std::size_t i = 0; i < count; ++i) values.push_back(std::make_unique<Value>(i));
  return values;
}

class HashPoolTest : public ::testing::TestWithParam<std::size_t> {};

TEST_P(HashPoolTest, ValuesInPiecesHashAsAWholeAndEveryJobComesBackOnce) {
  auto values = make_values(100);
  Bell bell;
  auto pool = HashPool::create(GetParam(), [&bell] { bell.ring(); });
  ASSERT_TRUE(pool.has_value()) << pool.error().to_string();
  EXPECT_EQ((*pool)->reap(), nullptr);

  for (auto& value : values) (*pool)->submit(value->next_job());
  std::size_t jobs_left = values.size() * Value::kPieces;
  while (jobs_left > 0) {
    HashJob* job = (*pool)->reap();
    // Only the bell may be needed to learn of an end.
    if (job == nullptr) {
      ASSERT_TRUE(bell.wait());
    }
    while (job != nullptr) {
      HashJob* const next = job->next;
      Value& value = *static_cast<Value*>(job->user_data);
      ASSERT_GT(jobs_left, 0U);
      --jobs_left;
      if (++value.pieces_done < Value::kPieces) (*pool)->submit(value.next_job());
      job = next;
    }
  }

  EXPECT_EQ((*pool)->reap(), nullptr);
  for (const auto& value : values) {
    ASSERT_EQ(value->pieces_done, Value::kPieces);
    ASSERT_EQ(value->state.digest(), hash128(value->bytes));
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, HashPoolTest, ::testing::Values(0, 1, 3));

TEST(HashPoolThreadsTest, JobsEndInTheOrderOfSubmissionWithoutAWake) {
  auto values = make_values(3);
  Bell bell;
  auto pool = HashPool::create(0, [&bell] { bell.ring(); });
  ASSERT_TRUE(pool.has_value());

  for (auto& value : values) (*pool)->submit(value->next_job());

  HashJob* job = (*pool)->reap();
  for (auto& value : values) {
    ASSERT_EQ(job, &value->job);
    job = job->next;
  }
  EXPECT_EQ(job, nullptr);
  EXPECT_EQ(bell.rings(), 0U);
}

TEST(HashPoolThreadsTest, AJobWithoutMemoryEnds) {
  Bell bell;
  auto pool = HashPool::create(1, [&bell] { bell.ring(); });
  ASSERT_TRUE(pool.has_value());
  StreamingHash128 state;
  HashJob job{.memory = {}, .state = &state};

  (*pool)->submit(job);

  ASSERT_TRUE(bell.wait());
  EXPECT_EQ((*pool)->reap(), &job);
  EXPECT_EQ(state.digest(), hash128({}));
}

TEST(HashPoolThreadsTest, DestructionHashesWhatWasSubmitted) {
  auto values = make_values(50);
  Bell bell;
  {
    auto pool = HashPool::create(2, [&bell] { bell.ring(); });
    ASSERT_TRUE(pool.has_value());
    for (auto& value : values) (*pool)->submit(value->next_job());
  }

  for (const auto& value : values) {
    const std::span piece = std::span{value->bytes}.first(value->bytes.size() / Value::kPieces);
    ASSERT_EQ(value->state.digest(), hash128(piece));
  }
}

}  // namespace
}  // namespace larder::log_store
