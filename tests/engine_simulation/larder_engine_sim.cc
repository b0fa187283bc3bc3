// larder_engine_sim: runs histories of the cache engine from seeds, or replays one.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "larder/base/logging.h"
#include "tests/engine_simulation/history.h"

namespace {

constexpr const char* kUsage =
    "larder_engine_sim [--start SEED] [--seeds COUNT] [--steps N] [--trace]\n"
    "  Runs the cache engine with simulated clients, workers, tiers and time, N steps a seed "
    "(500).\n"
    "  Everything follows from the seed; --trace prints the history of each.\n"
    "  Exit code 0: every rule held.\n";

unsigned long long wide(std::uint64_t number) {
  return static_cast<unsigned long long>(number);
}

}  // namespace

int main(int argc, char** argv) {
  larder::cache::simulation::HistoryOptions options;
  std::uint64_t start = 1;
  std::uint64_t seeds = 100;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--trace") {
      options.trace = true;
    } else if (argument == "--start" && i + 1 < argc) {
      start = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--seeds" && i + 1 < argc) {
      seeds = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--steps" && i + 1 < argc) {
      options.steps = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fputs(kUsage, stderr);
      return 2;
    }
  }
  if (!options.trace) larder::set_log_level(larder::LogLevel::kOff);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  larder::cache::simulation::Coverage coverage;
  std::uint64_t failures = 0;
  std::uint64_t digest = 0;
  for (options.seed = start; options.seed < start + seeds; ++options.seed) {
    const auto result = larder::cache::simulation::run_history(options);
    coverage.add(result.coverage);
    digest = digest * 31 + result.digest;
    if (result.failure.empty()) continue;
    ++failures;
    std::printf("seed %llu: %s\n", wide(options.seed), result.failure.c_str());
  }
  std::printf("%s%llu seeds, %llu steps each, %llu failed, digest %016llx\n",
              coverage.to_string().c_str(), wide(seeds), wide(options.steps), wide(failures),
              wide(digest));
  return failures == 0 ? 0 : 1;
}
