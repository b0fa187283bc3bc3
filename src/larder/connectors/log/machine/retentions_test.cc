#include "larder/connectors/log/machine/retentions.h"

#include <gtest/gtest.h>

namespace larder::log_store {
namespace {

constexpr Fingerprint kA{.low = 1, .high = 2};
constexpr Fingerprint kB{.low = 2, .high = 1};
constexpr Fingerprint kC{.low = 3, .high = 2};

TEST(RetentionsTest, LastUntilTheirTimeAndTheLaterOneCounts) {
  Retentions retentions{100'000};
  EXPECT_FALSE(retentions.has(kA, 0));
  EXPECT_TRUE(retentions.add(kA, 7, 10'000, 50, 0));
  EXPECT_TRUE(retentions.add(kA, 7, 10'000, 40, 0));
  EXPECT_TRUE(retentions.has(kA, 49));
  EXPECT_FALSE(retentions.has(kA, 50));
  EXPECT_FALSE(retentions.has(kC, 0)) << "of another fingerprint";
  EXPECT_EQ(retentions.bytes(), 10'000U);
  EXPECT_FALSE(retentions.end(kA, 50)) << "it was over";
  EXPECT_EQ(retentions.bytes(), 0U);
}

TEST(RetentionsTest, AreRefusedBeyondTheBudgetUntilSomeAreOver) {
  Retentions retentions{20'000};
  EXPECT_TRUE(retentions.add(kA, 7, 12'000, 50, 0));
  EXPECT_FALSE(retentions.add(kB, 7, 12'000, 90, 0));
  EXPECT_TRUE(retentions.add(kB, 7, 1, 90, 0));
  EXPECT_EQ(retentions.bytes(), 12'000 + Retentions::kBytesMin) << "a small one counts for more";
  EXPECT_FALSE(retentions.add(kC, 7, 8'000, 90, 49));
  EXPECT_TRUE(retentions.add(kC, 7, 8'000, 90, 50));
  EXPECT_EQ(retentions.keys(), 2U);
  EXPECT_TRUE(retentions.end(kB, 60));
  EXPECT_FALSE(retentions.end(kB, 60));
  EXPECT_EQ(retentions.bytes(), 8'000U);
}

TEST(RetentionsTest, KnowTheSegmentsOfTheirKeys) {
  Retentions retentions{100'000};
  EXPECT_TRUE(retentions.add(kA, 7, 10'000, 50, 0));
  EXPECT_TRUE(retentions.add(kB, 7, 10'000, 90, 0));
  retentions.note_moved(kB, 9);
  retentions.note_moved(kC, 5);
  EXPECT_TRUE(retentions.has_in(7) && retentions.has_in(9));
  EXPECT_FALSE(retentions.has_in(5)) << "that key is not retained";
  retentions.drop_expired(49);
  EXPECT_TRUE(retentions.has_in(7));
  retentions.drop_expired(50);
  EXPECT_FALSE(retentions.has_in(7));
  EXPECT_EQ(retentions.keys(), 1U);
  EXPECT_TRUE(retentions.end(kB, 60));
  EXPECT_FALSE(retentions.has_in(9));
}

}  // namespace
}  // namespace larder::log_store
