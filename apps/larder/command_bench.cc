#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "apps/larder/command.h"
#include "larder/base/size_text.h"
#include "larder/tools/bench.h"

namespace larder::cli {
namespace {

class BenchCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "bench", "Measure a connector beside what the disk itself can do (fio), pair by pair");
    command.footer(
        "Examples:\n"
        "  larder bench 'log:/data/bench?capacity=8GiB' --size 64KiB,1MiB,4MiB\n"
        "  larder bench 'log:/data/bench?capacity=8GiB' --mode store --size 1MiB\n"
        "  larder bench 'log:/data/bench?capacity=16GiB' --mode store --first-turn --size 1MiB\n"
        "  larder bench 'log:/data/bench?capacity=8GiB' --mode latency --size 1MiB\n"
        "  larder bench 'memory:?capacity=8GiB' --size 1MiB\n\n"
        "A figure is the median over pairs (ours, fio, ours, fio, ...) with its quartiles. fio "
        "runs\n"
        "with the fastest of its engines on this disk. A load counts only when the device has "
        "read\n"
        "what was returned; otherwise NOT COLD is printed and the exit code is 1. It is 1, too,\n"
        "when an operation failed, or every store was refused; the first cause is told.\n"
        "Use an empty store: the keys of a benchmark push others out.");
    command
        .add_option("SPEC", options_.spec, "The connector, e.g. 'log:/data/bench?capacity=8GiB'")
        ->required();
    command.add_option("--size", sizes_, "Bytes of a value; several are measured in turn")
        ->delimiter(',')
        ->allow_extra_args(false)  // What follows it may be SPEC.
        ->check(valid(parse_size), "SIZE")
        ->capture_default_str();
    command.add_option("--mode", mode_, "load, store, mixed, exists, or latency")
        ->check(valid(tools::parse_bench_mode), "MODE")
        ->capture_default_str();
    command.add_option("--batch", options_.batch, "Keys of one batch")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    command
        .add_option("--in-flight", options_.in_flight,
                    "Batches in flight [as many as make 256 MiB, 2 to 16]")
        ->check(CLI::Range(1, 256));
    command
        .add_option("--bytes", bytes_,
                    "Bytes of one pass [the larger of 1GiB and twice the last-level cache]")
        ->check(valid(parse_size), "SIZE");
    command.add_option("--pairs", options_.pairs, "How often ours and the ceiling are measured")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    command.add_option("--slices", options_.slices, "Pieces of memory that a value lies in")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    command
        .add_option("--unaligned", options_.unaligned_bytes,
                    "Put every piece this many bytes behind an aligned address")
        ->check(CLI::Range(0, 4095))
        ->capture_default_str();
    command.add_option("--load-percent", options_.load_percent, "mixed: share of loads")
        ->check(CLI::Range(1, 99))
        ->capture_default_str();
    command
        .add_option("--touch-percent", options_.touch_percent,
                    "store: share of the stored keys that is marked as read, so that a full store "
                    "has something to keep")
        ->check(CLI::Range(0, 100))
        ->capture_default_str();
    command.add_flag("!--small-pages", options_.has_huge_pages,
                     "Buffers of small pages, also where fio could have huge ones");
    command.add_flag("--first-turn", options_.is_first_turn,
                     "store: on blocks that were never written, in a fresh store; without it the "
                     "store is filled first, until it evicts");
    command.add_flag("--with-stores", options_.with_stores, "exists: while stores are in flight");
    command.add_flag("--allow-eviction", options_.allow_eviction,
                     "Go on although the store holds keys that the benchmark may push out");
    command.add_flag("--warm", options_.is_warm, "load: the page cache may answer");
    command
        .add_option("--goal", options_.goal,
                    "Exit 1 unless the median ratio reaches this and the lower quartile 0.9 of it")
        ->check(CLI::Range(0.0, 1000.0));
    command.add_flag("--no-fio", without_fio_, "Measure no ceiling");
    command.add_flag("--no-verify", without_verification_, "Do not check what was loaded");
    command.add_flag("--json", is_json_, "Print one JSON object");
    command.add_flag("--quiet", options_.is_quiet, "No progress");
  }

  int run() override {
    options_.value_bytes.clear();
    for (const std::string& size : sizes_) options_.value_bytes.push_back(*parse_bytes(size));
    if (!bytes_.empty()) options_.bytes = *parse_bytes(bytes_);
    options_.mode = *tools::parse_bench_mode(mode_);
    options_.with_ceiling = !without_fio_;
    options_.is_verified = !without_verification_;
    const auto result = tools::bench(options_, stop_requested());
    if (!result) return fail(result.error());
    return print(is_json_ ? to_json(*result) : to_text(*result), result->is_good() ? kGood : kBad);
  }

 private:
  tools::BenchOptions options_;
  std::vector<std::string> sizes_ = {"1MiB"};
  std::string bytes_;
  std::string mode_ = "load";
  bool without_fio_ = false;
  bool without_verification_ = false;
  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_bench_command() {
  return std::make_unique<BenchCommand>();
}

}  // namespace larder::cli
