#include "larder/connector/load_model.h"

#include <gtest/gtest.h>

#include "larder/base/clock.h"

namespace larder {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST(LoadModelTest, KnowsNothingBeforeTheFirstLoad) {
  const LoadModel model;
  EXPECT_EQ(model.load_ns(kMiB, 5), kNever);
}

TEST(LoadModelTest, TellsLatencyAndBandwidthApart) {
  LoadModel model;
  // 2 ms and 1 ms for each MiB.
  for (std::uint64_t i = 0; i < 64; ++i) {
    const std::uint64_t mib = 1 + i % 8;
    model.add(mib * kMiB, (2 + mib) * kMs, i);
  }
  const auto expect_ms = [&](std::uint64_t mib, double ms) {
    EXPECT_NEAR(static_cast<double>(model.load_ns(mib * kMiB, 64)), ms * 1e6, 1e4) << mib;
  };
  expect_ms(0, 2);
  expect_ms(1, 3);
  expect_ms(8, 10);
  expect_ms(100, 102);
}

TEST(LoadModelTest, WithLoadsOfOneSizeScalesUpAndNotDown) {
  LoadModel model;
  for (std::uint64_t i = 0; i < 10; ++i) model.add(4 * kMiB, 8 * kMs, i);
  EXPECT_EQ(model.load_ns(4 * kMiB, 10), 8 * kMs);
  EXPECT_EQ(model.load_ns(8 * kMiB, 10), 16 * kMs);
  EXPECT_EQ(model.load_ns(1 * kMiB, 10), 8 * kMs);
}

TEST(LoadModelTest, WhereMoreTakesLessStaysWithTheMean) {
  LoadModel model;
  model.add(1 * kMiB, 9 * kMs, 0);
  model.add(3 * kMiB, 1 * kMs, 0);
  const std::uint64_t at_mean = model.load_ns(1 * kMiB, 0);
  EXPECT_GT(at_mean, 4 * kMs);
  EXPECT_LT(at_mean, 6 * kMs);
  EXPECT_GT(model.load_ns(100 * kMiB, 0), 100 * kMs);
}

TEST(LoadModelTest, FollowsAStoreThatBecomesSlow) {
  LoadModel model;
  for (std::uint64_t i = 0; i < 100; ++i) model.add(kMiB * (1 + i % 2), kMs * (1 + i % 2), i);
  EXPECT_NEAR(static_cast<double>(model.load_ns(10 * kMiB, 100)), 10e6, 1e5);
  for (std::uint64_t i = 0; i < 100; ++i) model.add(kMiB * (1 + i % 2), 50 * kMs * (1 + i % 2), i);
  EXPECT_NEAR(static_cast<double>(model.load_ns(10 * kMiB, 100)), 500e6, 5e7);
}

TEST(LoadModelTest, ForgetsWhatIsOlderThanAMinute) {
  LoadModel model;
  model.add(kMiB, 1000 * kMs, 0);
  EXPECT_EQ(model.load_ns(kMiB, LoadModel::kForgottenNs - 1), 1000 * kMs);
  EXPECT_EQ(model.load_ns(kMiB, LoadModel::kForgottenNs), kNever);
  model.add(kMiB, 1 * kMs, LoadModel::kForgottenNs);
  EXPECT_EQ(model.load_ns(kMiB, LoadModel::kForgottenNs), 1 * kMs);
}

TEST(LoadModelTest, ManySmallValuesCostMoreThanTheirBytes) {
  EXPECT_EQ(load_cost(1, kMiB), kMiB);
  EXPECT_EQ(load_cost(1000, 1000), 1000 * kLoadCostBytesMin);
  EXPECT_EQ(load_cost(0, 0), 0U);
}

}  // namespace
}  // namespace larder
