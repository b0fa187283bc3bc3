// larder_sim: runs histories of the log store from seeds, or replays one.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "larder/base/logging.h"
#include "tests/simulation/history.h"

namespace {

constexpr const char* kUsage =
    "larder_sim [--start SEED] [--seeds COUNT] [--cuts | --cut-at N] [--trace]\n"
    "  Runs the log store under simulated disks, faults, kills and power cuts. Everything follows\n"
    "  from the seed; --trace prints the history of each. --cuts runs each\n"
    "  seed again and again, cut off from power whenever a segment was about to be overwritten;\n"
    "  --cut-at runs it once, cut off at the N-th of these moments.\n"
    "  Exit code 0: every rule held.\n";

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t start = 1;
  std::uint64_t seeds = 100;
  bool trace = false;
  bool cuts = false;
  std::uint64_t cut_at_first = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--trace") {
      trace = true;
    } else if (argument == "--cut-at" && i + 1 < argc) {
      cut_at_first = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--cuts") {
      cuts = true;
    } else if (argument == "--start" && i + 1 < argc) {
      start = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--seeds" && i + 1 < argc) {
      seeds = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fputs(kUsage, stderr);
      return 2;
    }
  }
  if (!trace) larder::set_log_level(larder::LogLevel::kOff);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  larder::simulation::Coverage coverage;
  std::uint64_t failures = 0;
  std::uint64_t operations = 0;
  for (std::uint64_t seed = start; seed < start + seeds; ++seed) {
    std::uint64_t cuts_left = cut_at_first;
    for (std::uint64_t cut_at = cut_at_first; cut_at <= cuts_left; ++cut_at) {
      const auto result =
          larder::simulation::run_history({.seed = seed, .trace = trace, .cut_at = cut_at});
      if (cuts && cut_at == 0) cuts_left = result.segments_prepared;
      coverage.add(result.coverage);
      operations += result.operations;
      if (result.failure.empty()) continue;
      ++failures;
      std::printf("seed %llu, cut at %llu: %s\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(cut_at), result.failure.c_str());
    }
  }
  std::printf("%llu seeds, %llu operations, %llu failed\n%s",
              static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(operations),
              static_cast<unsigned long long>(failures), coverage.to_string().c_str());
  return failures == 0 ? 0 : 1;
}
