#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "apps/larder/command.h"
#include "larder/base/logging.h"
#include "larder/tools/doctor.h"

namespace larder::cli {
namespace {

class DoctorCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "doctor", "Say what this machine allows, what is missing, and how to mend it");
    command.footer(
        "Examples:\n"
        "  larder doctor                # the machine and this process's limits\n"
        "  larder doctor /data/kv       # and the file system that a store would be on\n"
        "  larder doctor 'log:/data/kv?capacity=500GiB'   # also whether an open would take it\n"
        "  larder doctor redis://127.0.0.1:6379           # whether the server answers\n"
        "  larder doctor /data/kv --json | jq '.findings[] | select(.level != \"good\")'\n\n"
        "Run it as the user, and in the container, that the store is going to run in. In the\n"
        "directory it makes scratch files without a name, and changes nothing. What it says to\n"
        "mend something with can be pasted as it is.\n"
        "Exit code 1: something is a problem; warnings are not.");
    command.add_option("DIR|SPEC", target_,
                       "The directory of a store, or of one to come, or a spec, whose directory or "
                       "server is looked at");
    command.add_flag("--json", is_json_, "Print one JSON object");
  }

  int run() override {
    set_log_level(LogLevel::kOff);  // What an open would log is in the findings.
    const auto findings = tools::examine(target_);
    if (!findings) return fail(findings.error());
    return print(is_json_ ? tools::to_json(*findings) : tools::to_text(*findings),
                 tools::is_healthy(*findings) ? kGood : kBad);
  }

 private:
  std::string target_;
  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_doctor_command() {
  return std::make_unique<DoctorCommand>();
}

}  // namespace larder::cli
