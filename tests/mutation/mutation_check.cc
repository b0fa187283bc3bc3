// larder_mutation_check: breaks one rule at a time and shows that the tests notice.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/logging.h"
#include "larder/conformance/conformance.h"
#include "tests/engine_simulation/history.h"
#include "tests/mutation/child.h"
#include "tests/mutation/rules.h"
#include "tests/simulation/history.h"

namespace larder::mutation {
namespace {

constexpr const char* kUsage =
    "larder_mutation_check [--seeds COUNT] [--jobs COUNT] [--only NAME | --sample COUNT [--seed "
    "N]]\n"
    "  Breaks each rule of the log store, of the intake, of the cache engine and of the connector "
    "contract,\n  one at a time, and runs\n"
    "  what must notice: up to COUNT seeds of the simulations (8000), unit tests, or the\n"
    "  conformance suite. Prints a table. Exit code 0: all were noticed, and nothing was where no\n"
    "  rule was broken. --sample draws COUNT of the rules that few seeds\n"
    "  notice, by the number N.\n";

/// A seed or a test that takes longer than this hangs.
constexpr int kPatienceMs = 60'000;
constexpr std::size_t kWordsMax = 110;

/// Rules that take more than 500 seeds to notice: too long for a sample.
constexpr std::array<std::string_view, 6> kRarelyNoticed{
    "sync_all_moved",    "outranked_durably",  "recovered_is_unproven",
    "move_only_current", "touch_before_begin", "next_connector"};

struct Options {
  std::uint64_t seeds = 8000;
  std::size_t jobs = 2;
  std::string_view only;
  std::size_t sample = 0;  ///< 0: all.
  std::uint64_t seed = 1;  ///< Of the sample.
};

/// A line of the table, and the process that fills it.
struct Check {
  std::string letter;
  std::string what;
  std::string ring;
  bool is_seeded = false;
  bool is_engine = false;  ///< Its seeds are those of the engine's simulation.
  bool should_be_noticed = true;
  Child child;
};

std::string failure_of(std::uint64_t seed, bool is_engine) {
  return is_engine ? cache::simulation::run_history({.seed = seed}).failure
                   : simulation::run_history({.seed = seed}).failure;
}

int run_seeds(std::uint32_t rule, std::uint64_t seeds, bool is_engine) {
  break_rule(rule);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    const std::string failure = failure_of(seed, is_engine);
    if (failure.empty()) continue;
    std::printf("failed: %s\n", failure.substr(0, failure.find('\n')).c_str());
    return 1;
  }
  return 0;
}

int run_conformance(conformance::Defect defect) {
  const std::string failure = conformance::first_failure(conformance::broken_subject(defect));
  if (failure.empty()) return 0;
  std::printf("failed: %s\n", failure.substr(0, failure.find('\n')).c_str());
  return 1;
}

Check start_seeds(const BrokenRule& broken, std::uint64_t seeds) {
  const bool is_engine = broken.ring == Ring::kCacheUnit;
  return {
      .letter = broken.letter,
      .what = std::string{"`"} + broken.name + "`: " + broken.what,
      .ring = is_engine ? "engine simulation" : "simulation",
      .is_seeded = true,
      .is_engine = is_engine,
      .child = Child::run([&] { return run_seeds(broken.number, seeds, is_engine); }, kPatienceMs)};
}

/// So many seeds keep every rule where none is broken.
Check start_unbroken(std::uint64_t seeds, bool is_engine) {
  return {.letter = "none",
          .what = "nothing",
          .ring = is_engine ? "engine simulation" : "simulation",
          .is_seeded = true,
          .is_engine = is_engine,
          .should_be_noticed = false,
          .child = Child::run([=] { return run_seeds(0, seeds, is_engine); }, kPatienceMs)};
}

Check start(const BrokenRule& broken, std::uint64_t seeds) {
  if (broken.ring == Ring::kSimulation) return start_seeds(broken, seeds);
  const std::string what = std::string{"`"} + broken.name + "`: " + broken.what;
  const bool is_directed = broken.ring == Ring::kDirected;
  const std::string program = is_directed                       ? LARDER_SIMULATION_TEST
                              : broken.ring == Ring::kUnit      ? LARDER_UNIT_TEST
                              : broken.ring == Ring::kCacheUnit ? LARDER_CACHE_TEST
                                                                : LARDER_CONNECTOR_TEST;
  return {.letter = broken.letter,
          .what = what,
          .ring = is_directed ? "simulation, a chosen history" : "unit",
          .child = Child::exec({program, std::string{"--gtest_filter="} + broken.tests},
                               "LARDER_BREAK=" + std::to_string(broken.number), kPatienceMs)};
}

Check start(const BrokenContract& broken) {
  return {.letter = broken.letter,
          .what = std::string{"`"} + std::string{conformance::name_of(broken.defect)} +
                  "`: " + broken.what,
          .ring = "conformance",
          .child = Child::run([&] { return run_conformance(broken.defect); }, kPatienceMs)};
}

/// What noticed it; empty when nothing did.
std::string caught_by(const ChildEnd& end) {
  if (end.was_killed) return "a hang";
  if (end.exit_code == 0) return {};
  std::string words = end.last_words;
  if (words.size() > kWordsMax) words.resize(words.find_last_of(' ', kWordsMax));
  if (end.signal != 0) {
    return words.empty() ? "signal " + std::to_string(end.signal) : "`" + words + "`";
  }
  return words.empty() ? "exit code " + std::to_string(end.exit_code) : words;
}

/// Prints the line; false when it is not what it should be.
bool print(const Check& check) {
  const ChildEnd& end = check.child.end();
  std::string caught = caught_by(end);
  std::ranges::replace(caught, '|', '/');
  const bool is_well = caught.empty() != check.should_be_noticed;
  const std::string seeds = check.is_seeded ? std::to_string(end.seed) : "";
  std::printf("| %s | %s | %s | %s%s | %s |\n", check.letter.c_str(), check.what.c_str(),
              check.ring.c_str(), is_well ? "" : "**WRONG** ",
              caught.empty() ? "nothing" : caught.c_str(), seeds.c_str());
  return is_well;
}

/// The names of the rules that are to be broken.
std::set<std::string_view> chosen_rules(const Options& options) {
  std::vector<std::string_view> names;
  for (const std::span<const BrokenRule> rules :
       {broken_rules(), broken_intake_rules(), broken_cache_rules()}) {
    for (const BrokenRule& broken : rules) names.emplace_back(broken.name);
  }
  for (const BrokenContract& broken : broken_contracts()) {
    names.push_back(conformance::name_of(broken.defect));
  }
  if (!options.only.empty()) {
    std::erase_if(names, [&](std::string_view name) { return name != options.only; });
  }
  if (options.sample > 0) {
    std::erase_if(names, [](std::string_view name) {
      return std::ranges::find(kRarelyNoticed, name) != kRarelyNoticed.end();
    });
    std::ranges::shuffle(names, std::mt19937_64{options.seed});
    names.resize(std::min(names.size(), options.sample));
    std::printf("seed %llu\n\n", static_cast<unsigned long long>(options.seed));
  }
  return {names.begin(), names.end()};
}

int check_all(const Options& options) {
  const std::set<std::string_view> chosen = chosen_rules(options);
  if (chosen.empty()) {
    std::fprintf(stderr, "no rule is called '%s'; docs/testing.md has their names\n",
                 std::string{options.only}.c_str());
    return 2;
  }
  std::list<Check> running;
  bool is_well = true;
  std::array<std::uint64_t, 2>
      seeds_needed{};  // Of the log store's histories, and of the engine's.
  const auto finish_until = [&](std::size_t left) {
    while (running.size() > left) {
      for (Check& check : running) {
        if (!check.child.look() || &check != &running.front()) continue;
        is_well = print(check) && is_well;
        std::uint64_t& needed = seeds_needed[check.is_engine ? 1 : 0];
        needed = std::max(needed, check.child.end().seed);
        running.pop_front();
        break;
      }
    }
  };
  std::printf("| rule | broken | ring | noticed by | seeds |\n|---|---|---|---|---|\n");
  for (const std::span<const BrokenRule> rules :
       {broken_rules(), broken_intake_rules(), broken_cache_rules()}) {
    for (const BrokenRule& broken : rules) {
      if (!chosen.contains(broken.name)) continue;
      finish_until(options.jobs - 1);
      running.push_back(start(broken, options.seeds));
      if (!broken.has_seeds) continue;
      finish_until(options.jobs - 1);
      running.push_back(start_seeds(broken, options.seeds));
    }
  }
  for (const BrokenContract& broken : broken_contracts()) {
    if (!chosen.contains(conformance::name_of(broken.defect))) continue;
    finish_until(options.jobs - 1);
    running.push_back(start(broken));
  }
  finish_until(0);
  if (options.only.empty()) {
    running.push_back(start_unbroken(seeds_needed[0], false));
    running.push_back(start_unbroken(seeds_needed[1], true));
    finish_until(0);
  }
  std::printf(is_well ? "all noticed\n" : "NOT all noticed\n");
  return is_well ? 0 : 1;
}

}  // namespace
}  // namespace larder::mutation

int main(int argc, char** argv) {
  larder::mutation::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--seeds" && i + 1 < argc) {
      options.seeds = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--jobs" && i + 1 < argc) {
      options.jobs = std::max<std::size_t>(1, std::strtoull(argv[++i], nullptr, 10));
    } else if (argument == "--only" && i + 1 < argc) {
      options.only = argv[++i];
    } else if (argument == "--sample" && i + 1 < argc) {
      options.sample = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--seed" && i + 1 < argc) {
      options.seed = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fputs(larder::mutation::kUsage, stderr);
      return 2;
    }
  }
  larder::set_log_level(larder::LogLevel::kOff);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return larder::mutation::check_all(options);
}
