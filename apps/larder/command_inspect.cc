#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "apps/larder/command.h"
#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/tools/inspect.h"
#include "larder/tools/target.h"

namespace larder::cli {
namespace {

class InspectCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command =
        *app.add_subcommand("inspect", "Look at a log store that nobody has open; changes nothing");
    command.footer(
        "Examples:\n"
        "  larder inspect /data/kv                        # geometry, space, sizes, ages, "
        "segments\n"
        "  larder inspect /data/kv --verify               # reads and proves every value\n"
        "  larder inspect /data/kv --list --prefix 'llama-70b@' --limit 20\n"
        "  larder inspect /data/kv --count --prefix 'llama-70b@'\n"
        "  larder inspect /data/kv --dump 'llama-70b@00ff' > value.bin\n\n"
        "Shows what the next open with the same capacity would serve. The store's lock is held\n"
        "meanwhile: stop the process that has it first, one that starts now waits five seconds.\n"
        "Keys are printed, and read, as text with \\xNN for what is not printable and \\\\ for a\n"
        "backslash. Exit code 1: something is damaged, or there is no store to look at.");
    command.add_option("DIR|SPEC", target_, "The store: its directory, or its spec, as in log:DIR")
        ->required();
    CLI::Option* const list =
        command.add_flag("--list", is_list_, "List the keys with size and time, oldest first");
    CLI::Option* const count =
        command.add_flag("--count", is_count_, "Print how many keys there are")->excludes(list);
    CLI::Option* const dump =
        command.add_option("--dump", key_, "Write the value of this key to standard output")
            ->excludes(list)
            ->excludes(count);
    command.add_option("--prefix", prefix_, "Only keys that begin with this");
    command.add_option("--limit", options_.limit, "List at most so many keys")->needs(list);
    command
        .add_flag("--verify", options_.is_verified,
                  "Read every live record and prove its MAC, identity, key and checksum")
        ->excludes(list)
        ->excludes(count)
        ->excludes(dump);
    command.add_flag("--json", options_.is_json, "Print JSON")->excludes(dump);
    command.add_flag("--quiet", options_.is_quiet, "No progress");
  }

  int run() override {
    using tools::InspectMode;
    options_.mode = is_list_        ? InspectMode::kList
                    : is_count_     ? InspectMode::kCount
                    : !key_.empty() ? InspectMode::kDump
                                    : InspectMode::kSummary;
    const auto usage = [](const char* text) {
      return fail(SetupError{ErrorCode::kInvalidArgument, text});
    };
    if (!prefix_.empty() && !is_list_ && !is_count_) {
      return usage("--prefix is for --list and --count");
    }
    if (options_.mode == InspectMode::kDump && ::isatty(STDOUT_FILENO) == 1) {
      return usage("a value is binary and standard output is a terminal: add > FILE, or | xxd");
    }
    auto directory = tools::log_directory_of(target_, "inspect");
    if (!directory) return fail(directory.error());
    options_.directory = std::move(*directory);
    auto prefix = unescape_key(prefix_);
    if (!prefix) return fail(prefix.error());
    auto key = unescape_key(key_);
    if (!key) return fail(key.error());
    options_.prefix = std::move(*prefix);
    options_.key = std::move(*key);
    set_log_level(LogLevel::kOff);  // What an open would log is in the report.
    bool was_written = true;
    const auto to_stdout = [&](std::string_view text) {
      was_written = was_written && write_out(text);
      return was_written;
    };
    const auto to_stderr = [](std::string_view text) {
      return std::fwrite(text.data(), 1, text.size(), stderr) == text.size();
    };
    const auto is_well = tools::inspect(options_, to_stdout, to_stderr, stop_requested());
    if (!is_well) return fail(is_well.error());
    return print("", *is_well && was_written ? kGood : kBad);
  }

 private:
  tools::InspectOptions options_;
  std::string target_;
  std::string prefix_;
  std::string key_;
  bool is_list_ = false;
  bool is_count_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect_command() {
  return std::make_unique<InspectCommand>();
}

}  // namespace larder::cli
