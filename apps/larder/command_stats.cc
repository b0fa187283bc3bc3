#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <thread>

#include "apps/larder/command.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/metrics_list.h"
#include "larder/tools/metrics_source.h"
#include "larder/tools/stats.h"

namespace larder::cli {
namespace {

class StatsCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "stats", "Show what a running process's stores were asked for, found, and why not");
    command.footer(
        "Examples:\n"
        "  larder stats /run/larder.sock            # LARDER_METRICS=unix:/run/larder.sock\n"
        "  larder stats 127.0.0.1:9187              # LARDER_METRICS=127.0.0.1:9187\n"
        "  larder stats http://127.0.0.1:8080/metrics --every 5    # LMCache's own\n"
        "  larder stats --list                      # every metric and what it means\n\n"
        "The process offers the numbers: from Python with larder.serve_metrics(ADDRESS), and any\n"
        "that uses larder's Python package with LARDER_METRICS=ADDRESS in its environment.\n"
        "LMCache's servers have them in their own /metrics. Exit code 1: nothing could be read.");
    CLI::Option* const address = command.add_option(
        "ADDRESS", address_, "HOST:PORT, http://HOST:PORT/PATH, a unix socket, a file, or -");
    CLI::Option* const json = command.add_flag("--json", is_json_, "Print JSON");
    command.add_option("--every", every_seconds_, "Again after so many seconds, until interrupted")
        ->check(CLI::Range(1, 86'400));
    command.add_option("--timeout", timeout_seconds_, "Seconds to wait for an answer")
        ->check(CLI::Range(1, 3'600))
        ->capture_default_str();
    CLI::Option* const list = command.add_flag("--list", is_list_, "List the metrics instead")
                                  ->excludes(address)
                                  ->excludes(json);
    command.add_flag("--markdown", is_markdown_, "As Markdown tables")->needs(list);
  }

  int run() override {
    if (is_list_) return print(tools::list_metrics(builtin_registry(), is_markdown_), kGood);
    if (address_.empty()) {
      return fail({ErrorCode::kInvalidArgument, "stats: an ADDRESS is wanted, or --list"});
    }
    for (;;) {
      const int code = show();
      if (code != kGood || every_seconds_ == 0 || stop_requested()) return code;
      for (int tenths = 0; tenths < every_seconds_ * 10 && !stop_requested(); ++tenths) {
        std::this_thread::sleep_for(std::chrono::milliseconds{100});
      }
      if (stop_requested() || !write_out(is_json_ ? "" : "\n")) return kGood;
    }
  }

 private:
  int show() const {
    const auto text = tools::read_metrics(address_, std::chrono::seconds{timeout_seconds_});
    if (!text) return fail(text.error());
    const auto stores = tools::parse_metrics(*text);
    if (!stores) return fail({stores.error().code, address_ + ": " + stores.error().text});
    return print(is_json_ ? tools::stats_json(*stores) : tools::stats_text(*stores), kGood);
  }

  std::string address_;
  int every_seconds_ = 0;
  int timeout_seconds_ = 10;
  bool is_json_ = false;
  bool is_list_ = false;
  bool is_markdown_ = false;
};

}  // namespace

std::unique_ptr<Command> make_stats_command() {
  return std::make_unique<StatsCommand>();
}

}  // namespace larder::cli
