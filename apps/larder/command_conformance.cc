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
        "  larder conformance --list\n\n"
        "For whoever writes a connector; LARDER_PLUGINS names plugins. The store must be empty,\n"
        "have room for 64 MiB, and be used by nobody else: cases delete what they find. A store\n"
        "that keeps its keys and cannot list them needs {} in its spec, which is another number\n"
        "at each open. Exit code 1: a case failed. What was not tested is said at the end.");
    CLI::Option* const spec = command.add_option("SPEC", spec_, "The connector");
    command.add_option("--small", small_,
                       "The same connector with as little capacity as it can have, for the cases "
                       "that fill it");
    command.add_option("--filter", options_.filter,
                       "Only the cases of this rule, or with this in their name");
    command.add_option("--seed", options_.seed, "Repeat the random choices that a failure names")
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
