#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "larder/base/logging.h"
#include "tests/simulation/history.h"

namespace larder::simulation {
namespace {

std::uint64_t seeds_wanted() {
  const char* const text = std::getenv("LARDER_SIM_SEEDS");
  return text == nullptr ? 200 : std::strtoull(text, nullptr, 10);
}

HistoryResult run(std::uint64_t seed) {
  HistoryResult result = run_history({.seed = seed});
  EXPECT_EQ(result.failure, "") << "replay with: larder_sim --seeds 1 --trace --start " << seed;
  EXPECT_GE(result.operations, 300U);
  return result;
}

class SimulationTest : public ::testing::Test {
 protected:
  SimulationTest() { set_log_level(LogLevel::kOff); }
};

TEST_F(SimulationTest, EverySeedKeepsTheRulesAndTogetherTheyMeetEverything) {
  Coverage coverage;
  const std::uint64_t seeds = seeds_wanted();
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) coverage.add(run(seed).coverage);
  if (seeds < 200) GTEST_SKIP() << "too few seeds to meet everything";
  for (std::size_t i = 0; i < kSeenCount; ++i) {
    const auto what = static_cast<Seen>(i);
    EXPECT_GT(coverage[what], 0U) << name_of(what) << " was never met";
  }
}

// Seeds that once found a defect. What is the same about them is the plan and the choices, so they
// keep leading to the neighbourhood of what they found.
TEST_F(SimulationTest, SeedsThatOnceFoundADefectKeepTheRules) {
  for (const std::uint64_t seed : {
           3U,      // Records moved from a segment that was overwritten before they were synced.
           4U,      // A value hashed without threads was left until the next timer.
           34U,     // The path turned without end while its probe was out.
           43U,     // An older version came back behind a record that a failed Get had forgotten.
           115U,    // A segment file removed, its name not synced, and still appended to.
           169U,    // A killed owner's file whose name no sync had made durable.
           687U,    // A flipped bit in one superblock's version refused the store.
           955U,    // Moves to two segments, of which only the later one was synced.
           1326U,   // Records evicted at open for the index's sake outrank older ones all the same.
           5990U,   // So do those that the index had no room for.
           12445U,  // A segment freed because of records that were not durable yet.
           15848U,  // Recovery that could not write a table.
       }) {
    run(seed);
  }
}

TEST_F(SimulationTest, ASeedGivesTheSameHistoryEveryTime) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed)
    EXPECT_EQ(run(seed).hash, run(seed).hash) << seed;
}

}  // namespace
}  // namespace larder::simulation
