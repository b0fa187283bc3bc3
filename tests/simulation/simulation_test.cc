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

TEST(SimulationTest, EverySeedKeepsTheRulesAndTheSeedsMeetEverything) {
  set_log_level(LogLevel::kOff);
  Coverage coverage;
  const std::uint64_t seeds = seeds_wanted();
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const HistoryResult result = run_history({.seed = seed});
    EXPECT_EQ(result.failure, "") << "replay with: larder_sim --start " << seed
                                  << " --seeds 1 --trace";
    EXPECT_GE(result.operations, 300U);
    coverage.add(result.coverage);
  }
  if (seeds < 200) return;  // Too few to meet everything.
  for (std::size_t i = 0; i < kSeenCount; ++i) {
    const auto what = static_cast<Seen>(i);
    EXPECT_GT(coverage[what], 0U) << name_of(what) << " was never met";
  }
}

TEST(SimulationTest, ASeedGivesTheSameHistoryEveryTime) {
  set_log_level(LogLevel::kOff);
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    EXPECT_EQ(run_history({.seed = seed}).hash, run_history({.seed = seed}).hash) << seed;
  }
}

}  // namespace
}  // namespace larder::simulation
