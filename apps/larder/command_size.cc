#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "apps/larder/command.h"
#include "larder/base/size_text.h"
#include "larder/tools/baseline_policies.h"
#include "larder/tools/size.h"
#include "larder/tools/terminal.h"

namespace larder::cli {
namespace {

SetupStatus write_file(const std::string& path, std::string_view text) {
  errno = 0;
  std::ofstream file{path, std::ios::binary | std::ios::trunc};
  file << text;
  file.close();
  if (file) return {};
  return SetupError{ErrorCode::kIo, path + ": the chart cannot be written: " + errno_text(errno)};
}

class SizeCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "size", "Choose a cache's size before buying it: hit rates of a trace by capacity");
    command.footer(
        "Examples:\n"
        "  larder size bench/data/mooncake_conversation_trace.jsonl.zst\n"
        "  larder size trace.jsonl --block-bytes 64MiB --capacities 500GiB,1TiB,2TiB\n"
        "  larder size trace.jsonl --svg sizes.svg --quiet\n"
        "  larder size trace.jsonl.gz --block-tokens 512 --policies ARC,FIFO --warmup 50% "
        "--json\n\n"
        "Nothing is stored. Caches of blocks are simulated: with LRU, with the policies of "
        "larder's\n"
        "engine, with FIFO and CLOCK, and with the optimum, which knows the future and which no "
        "policy\n"
        "can beat.\n"
        "A request hits its longest resident prefix. The speed-up is that of prefill if loading\n"
        "took no time. A capacity counts values only: a store needs some room beside them.");
    command
        .add_option("TRACE", options_.trace_path,
                    "JSON lines, plain, .gz or .zst, or - for standard input")
        ->required();
    command
        .add_option("--capacities", capacities_,
                    "Sizes to simulate [powers of two from four requests to the working set]")
        ->delimiter(',')
        ->allow_extra_args(false)  // What follows it may be TRACE.
        ->check(valid(parse_size), "SIZE");
    command
        .add_option("--block-bytes", block_bytes_, "Bytes of KV cache of one block of the trace")
        ->check(valid(parse_size), "SIZE")
        ->capture_default_str();
    command
        .add_option("--block-tokens", block_tokens_,
                    "Tokens of one block [the trace's block_size, or 512]")
        ->check(valid(tools::parse_block_tokens), "COUNT");
    command
        .add_option("--policies", options_.policies,
                    "Policies beside LRU and the optimum, FIFO and CLOCK too [all that evict by "
                    "themselves]")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(valid(tools::find_simulated_policy), "POLICY");
    command.add_option("--requests", options_.requests_max, "Stop after this many requests")
        ->check(valid(parse_count), "COUNT");
    command
        .add_option("--warmup", warmup_,
                    "Share of the requests that fill the caches first and are not counted")
        ->check(valid(parse_fraction), "SHARE")
        ->capture_default_str();
    command.add_option("--svg", svg_path_, "Also draw the hit rates into this file");
    command.add_flag("--json", is_json_, "Print one JSON object");
    command.add_flag("--quiet", options_.is_quiet, "No progress");
  }

  int run() override {
    options_.block_bytes = *parse_bytes(block_bytes_);
    if (!block_tokens_.empty()) {
      options_.block_tokens = *tools::parse_block_tokens(block_tokens_);
    }
    options_.warmup = *parse_fraction(warmup_);
    for (const std::string& capacity : capacities_) {
      options_.capacities_bytes.push_back(*parse_bytes(capacity));
    }
    const auto result = tools::measure_sizes(options_, stop_requested());
    if (!result) return fail(result.error());
    if (!svg_path_.empty()) {
      const auto written = write_file(svg_path_, tools::to_svg(options_, *result));
      if (!written) return fail(written.error());
    }
    const tools::PlotStyle style{.columns = tools::terminal_columns(STDOUT_FILENO),
                                 .is_unicode = tools::is_locale_utf8()};
    return print(is_json_ ? to_json(options_, *result) : to_text(options_, *result, style), kGood);
  }

 private:
  tools::SizeOptions options_;
  std::vector<std::string> capacities_;
  std::string block_bytes_ = "64KiB";
  std::string block_tokens_;  ///< Empty: the trace's own.
  std::string warmup_ = "0%";
  std::string svg_path_;
  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_size_command() {
  return std::make_unique<SizeCommand>();
}

}  // namespace larder::cli
