#include <CLI/CLI.hpp>
#include <string>

#include "apps/larder/command.h"
#include "larder/conformance/suite.h"
#include "larder/connectors/builtin.h"

namespace larder::cli {
namespace {

class ConformanceCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "conformance", "Run the connector contract's test suite on a connector");
    command.footer(
        "Examples:\n"
        "  larder conformance memory:\n"
        "  larder conformance 'log:/data/check?capacity=512MiB&min_free=0' --filter C4\n"
        "  larder conformance 'redis://127.0.0.1:6379?prefix=check-{}-'\n"
        "  larder conformance --list\n\n"
        "For authors of connectors; LARDER_PLUGINS names plugins to load. The store must be\n"
        "empty, have room for 64 MiB, and have no other user: cases delete what they find. A "
        "store\n"
        "that keeps its keys and cannot list them needs {} in its spec; each open puts another\n"
        "number there, and the values stay behind. Exit code 1: a case failed. The end of the\n"
        "output lists what was not tested.");
    CLI::Option* const spec = command.add_option("SPEC", spec_, "The connector");
    command.add_option("--small", small_,
                       "The same connector with its smallest capacity, for the cases that fill it");
    command.add_option("--filter", options_.filter,
                       "Run only the cases of this rule, or with this text in their name");
    command
        .add_option("--seed", options_.seed,
                    "The seed of the random choices; a failure prints its seed")
        ->capture_default_str();
    command.add_flag("--list", is_list_, "List the rules with their cases, and run none")
        ->excludes(spec);
  }

  int run() override {
    if (is_list_) return print(conformance::list_suite(), kGood);
    if (spec_.empty()) {
      return fail(
          SetupError{ErrorCode::kInvalidArgument,
                     "conformance: SPEC is missing, for example: larder conformance memory:"});
    }
    const auto tested = conformance::subject_of_spec(builtin_registry(), spec_, small_);
    if (!tested) return fail(tested.error());
    bool was_written = true;
    const auto write = [&](std::string_view text) { was_written = was_written && write_out(text); };
    const auto result = conformance::run_suite(*tested, options_, write, stop_requested());
    if (!result) return fail(result.error());
    std::string text = "\nNot tested:\n";
    for (const std::string& what : tested->untested) text += "  " + what + "\n";
    text += "\n" + std::to_string(result->good) + " good, " + std::to_string(result->failed) +
            " failed, " + std::to_string(result->skipped) + " skipped\n";
    return print(text, result->failed == 0 && was_written ? kGood : kBad);
  }

 private:
  conformance::SuiteOptions options_;
  std::string spec_;
  std::string small_;
  bool is_list_ = false;
};

}  // namespace

std::unique_ptr<Command> make_conformance_command() {
  return std::make_unique<ConformanceCommand>();
}

}  // namespace larder::cli
