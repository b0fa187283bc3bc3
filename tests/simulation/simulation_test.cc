#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "larder/base/logging.h"
#include "tests/simulation/history.h"
#include "tests/support/simulation_seeds.h"

namespace larder::simulation {
namespace {

constexpr std::uint64_t kShards = 8;  ///< Tests of their own, so that ctest runs them side by side.
/// Of each shard's seeds so many are run again for each moment at which power may be cut.
constexpr std::uint64_t kSeedsCutEverywhere = 12;
/// With fewer seeds than this a shard may miss what is rare.
constexpr std::uint64_t kSeedsToMeetEverything = 250;

HistoryResult run(std::uint64_t seed) {
  set_log_level(LogLevel::kOff);
  HistoryResult result = run_history({.seed = seed});
  EXPECT_EQ(result.failure, "") << "replay with: larder_sim --seeds 1 --trace --start " << seed;
  // A history asserts its length itself; here it stands once more, in the words of the promise.
  EXPECT_GE(result.operations, 300U) << seed;
  EXPECT_GE(result.keys, 40U) << seed;
  EXPECT_GE(result.segments, 6U) << seed;
  EXPECT_GE(result.segments_begun, 2 * result.segments) << seed;
  EXPECT_GE(result.restarts, 3U) << seed;
  EXPECT_GE(result.power_cuts, 1U) << seed;
  return result;
}

class SimulationSeeds : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(SimulationSeeds, KeepTheRulesAndTogetherMeetEverything) {
  Coverage coverage;
  const std::uint64_t count = testing::seeds_per_shard(kShards);
  const std::uint64_t first = GetParam() * count + 1;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    coverage.add(run(seed).coverage);
  }
  if (GetParam() == 0) std::printf("%s", coverage.to_string().c_str());
  if (count < kSeedsToMeetEverything) return;
  for (std::size_t i = 0; i < kSeenCount; ++i) {
    const auto what = static_cast<Seen>(i);
    EXPECT_GT(coverage[what], 0U) << name_of(what) << " was never met";
  }
}

/// What replaced a durable record must be durable before the record's segment is overwritten: when
/// the power is cut just then, nothing older than what was durable may be back.
TEST_P(SimulationSeeds, SurviveAPowerCutWheneverASegmentIsAboutToBeOverwritten) {
  const std::uint64_t count = std::min(testing::seeds_per_shard(kShards), kSeedsCutEverywhere);
  const std::uint64_t first = GetParam() * testing::seeds_per_shard(kShards) + 1;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const std::uint64_t cuts = run(seed).segments_prepared;
    EXPECT_GT(cuts, 0U) << seed;
    for (std::uint64_t cut_at = 1; cut_at <= cuts; ++cut_at) {
      EXPECT_EQ(run_history({.seed = seed, .cut_at = cut_at}).failure, "")
          << "replay with: larder_sim --seeds 1 --trace --start " << seed << " --cut-at " << cut_at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, SimulationSeeds, ::testing::Range(std::uint64_t{0}, kShards));

// Seeds that once found a defect. What is the same about them is the plan and the choices, so they
// keep leading to the neighbourhood of what they found.
TEST(SimulationTest, SeedsThatOnceFoundADefectKeepTheRules) {
  for (const std::uint64_t seed : {
           3U,      // Records moved from a segment that was overwritten before they were synced.
           4U,      // A value hashed without threads was left until the next timer.
           34U,     // The path turned without end while its probe was out.
           43U,     // An older version came back behind a record that a failed Get had forgotten.
           115U,    // A segment file removed, its name not synced, and still appended to.
           169U,    // A killed owner's file whose name no sync had made durable.
           687U,    // A flipped bit in one superblock's version refused the store.
           802U,    // A record outranked by one whose sync had failed in an earlier life.
           955U,    // Moves to two segments, of which only the later one was synced.
           1326U,   // Records evicted at open for the index's sake outrank older ones all the same.
           5990U,   // So do those that the index had no room for.
           12445U,  // A segment freed because of records that were not durable yet.
           15848U,  // Recovery that could not write a table.
           7011918U,   // An older file that was removed came back, the later one did not.
           81002850U,  // Open made no room where it could not sync the removal of a file.
           7000679U,   // A superblock whose other copy was broken was flipped: a false alarm.
           // False alarms too, of a watch that counted what another life had made durable.
           77017902U,
           77100558U,
           78025814U,
       }) {
    run(seed);
  }
}

TEST(SimulationTest, ASeedGivesTheSameHistoryEveryTime) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    EXPECT_EQ(run(seed).hash, run(seed).hash) << seed;
  }
}

}  // namespace
}  // namespace larder::simulation
