#include <CLI/CLI.hpp>

#include "apps/larder/command.h"
#include "larder/tools/format_store.h"

namespace larder::cli {
namespace {

class FormatCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command =
        *app.add_subcommand("format", "Make a log store ahead of its first use, or anew");
    command.footer(
        "Examples:\n"
        "  larder format 'log:/data/kv?capacity=200GiB'\n"
        "  larder format /data/kv --capacity 200GiB --prefill\n"
        "  larder format 'log:/data/kv?capacity=400GiB&max_value=32MiB' --force\n\n"
        "Nobody needs this: a store is made by its first open. It is for a store that is to be\n"
        "as fast in its first turn as later (--prefill: blocks that were never written cost more\n"
        "to write), and for making one anew.");
    command
        .add_option("SPEC|DIR", options_.target,
                    "The store, e.g. 'log:/data/kv?capacity=200GiB', or its directory")
        ->required();
    command
        .add_option("--capacity", options_.capacity, "With a directory: how large it may become")
        ->check(valid(parse_size), "SIZE");
    command.add_flag("--prefill", options_.is_prefilled,
                     "Make every segment now, and write it once");
    command.add_flag("--force", options_.is_forced,
                     "Replace a store that is there (everything in it is lost); next to foreign "
                     "files, which stay");
    command.add_flag("--json", options_.is_json, "Print one JSON object");
    command.add_flag("--quiet", options_.is_quiet, "No progress");
  }

  int run() override {
    const auto text = tools::format_store(options_, stop_requested());
    return text ? print(*text, kGood) : fail(text.error());
  }

 private:
  tools::FormatOptions options_;
};

}  // namespace

std::unique_ptr<Command> make_format_command() {
  return std::make_unique<FormatCommand>();
}

}  // namespace larder::cli
