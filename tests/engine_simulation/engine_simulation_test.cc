#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "larder/base/logging.h"
#include "tests/engine_simulation/history.h"
#include "tests/support/simulation_seeds.h"

namespace larder::cache::simulation {
namespace {

constexpr std::uint64_t kShards = 8;  ///< Tests of their own, so that ctest runs them side by side.
/// With fewer seeds than this a shard may miss what is rare.
constexpr std::uint64_t kSeedsToMeetEverything = 250;
/// Each shard of 250 from here on meets everything; of those from 1 on, one has no plan in which
/// free room lies in pieces.
constexpr std::uint64_t kFirstSeed = 2001;

HistoryResult run(std::uint64_t seed) {
  set_log_level(LogLevel::kOff);
  HistoryResult result = run_history({.seed = seed});
  EXPECT_EQ(result.failure, "") << "replay with: larder_engine_sim --seeds 1 --trace --start "
                                << seed;
  return result;
}

class EngineSimulationSeeds : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(EngineSimulationSeeds, KeepTheRulesAndTogetherMeetEverything) {
  Coverage coverage;
  const std::uint64_t count = testing::seeds_per_shard(kShards);
  const std::uint64_t first = kFirstSeed + GetParam() * count;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    coverage.add(run(seed).coverage);
  }
  if (GetParam() == 0) std::printf("%s", coverage.to_string().c_str());
  if (count < kSeedsToMeetEverything) return;
  EXPECT_EQ(coverage.lacks(), "") << "was never met";
}

INSTANTIATE_TEST_SUITE_P(Shards, EngineSimulationSeeds,
                         ::testing::Range(std::uint64_t{0}, kShards));

// Seeds that once found a defect. What is the same about them is the plan and the choices, so they
// keep leading to the neighbourhood of what they found.
TEST(EngineSimulationTest, SeedsThatOnceFoundADefectKeepTheRules) {
  for (const std::uint64_t seed : {
           35U,      // Stores queued without a bound behind a load that the connector refused.
           62U,      // A load went on that had been joined and then left by everybody.
           75U,      // A lookup loaded cells of a layout that had been replaced meanwhile.
           895U,     // A buffer-only column stayed because a part of it was loaded.
           1462U,    // A drain stored on after its deadline.
           5337U,    // A lookup that lost its load to a purge loaded the old copy again.
           701039U,  // A purge cannot name groups of layouts from before a restart (the oracle).
           801156U,  // A key went before the batch came back in which it existed (the oracle).
           814550U,  // A load that waited went on although a worker had stored its cells.
           818380U,  // The log did not list what a segment got after a scan had stopped in it.
       }) {
    run(seed);
  }
}

TEST(EngineSimulationTest, ASeedGivesTheSameHistoryEveryTime) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    EXPECT_EQ(run(seed).digest, run(seed).digest) << seed;
  }
}

}  // namespace
}  // namespace larder::cache::simulation
