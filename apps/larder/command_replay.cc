#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "apps/larder/command.h"
#include "larder/base/size_text.h"
#include "larder/cache/engine_options.h"
#include "larder/cache/policies/policy.h"
#include "larder/tools/l1_replay.h"
#include "larder/tools/replay.h"

namespace larder::cli {
namespace {

class ReplayCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "replay", "Replay a trace of requests through a connector: hit rate, bytes, time saved");
    command.footer(
        "Examples:\n"
        "  larder replay bench/data/mooncake_conversation_trace.jsonl.zst "
        "'memory:?capacity=2GiB'\n"
        "  larder replay trace.jsonl 'log:/data/kv?capacity=200GiB' --block-bytes 1MiB "
        "--speed trace\n"
        "  larder replay trace.jsonl.gz 'log:/data/kv?capacity=200GiB' --block-tokens 512 --json\n"
        "  larder replay trace.jsonl --l1 4GiB --policy ARC\n"
        "  larder replay trace.jsonl 'log:/data/kv?capacity=200GiB' --l1 4GiB --ranks 8\n\n"
        "Requests start in the order of the trace. Each looks its chain of blocks up, loads the\n"
        "contiguous prefix that is there, verifies every byte and stores the rest. It starts "
        "after\n"
        "its predecessor's lookup, and waits while an earlier request still stores a block of its\n"
        "chain; with --concurrency 1 the hit rate is the same in every run.\n"
        "What it stored stays there, and is found by the next replay of the same trace.\n\n"
        "With --l1 the cache engine stands before the connector, as in a server: memory of that "
        "size\n"
        "(L1), and behind it SPEC (L2): several of them in the order in which they are asked, or "
        "none.\n"
        "Each request looks its prefix up in both, reads it through L1, writes the rest and ends, "
        "one\n"
        "request at a time. With --speed max each waits until L2 has got what the one before "
        "stored.\n\n"
        "Exit code 1: a hit had wrong bytes, an operation failed, or every store was refused (for\n"
        "want of space, say). Each is told with its first cause. Some refused stores are no "
        "fault.");
    command
        .add_option("TRACE", options_.trace_path,
                    "JSON lines, plain, .gz or .zst, or - for standard input")
        ->required();
    command.add_option("SPEC", specs_,
                       "The connector, e.g. 'log:/data/kv?capacity=200GiB'; with --l1 any number "
                       "of them; 'none' is the same as leaving it out");
    command
        .add_option("--block-bytes", block_bytes_, "Bytes of KV cache of one block of the trace")
        ->check(valid(parse_size), "SIZE")
        ->capture_default_str();
    command
        .add_option("--block-tokens", block_tokens_,
                    "Tokens of one block [the trace's block_size, or 512]")
        ->check(valid(tools::parse_block_tokens), "COUNT");
    command.add_option("--requests", options_.requests_max, "Stop after this many requests")
        ->check(valid(parse_count), "COUNT");
    command.add_option("--speed", speed_, "max, trace (as it happened), or a factor such as 20x")
        ->check(valid(tools::parse_speed), "SPEED")
        ->capture_default_str();
    command
        .add_option("--timestamp-unit", timestamp_unit_,
                    "Unit of timestamps that are numbers: s, ms, us or ns")
        ->check(valid(tools::parse_timestamp_unit), "UNIT")
        ->capture_default_str();
    command
        .add_option("--tokens-per-second", options_.tokens_per_second,
                    "Prefill rate assumed when the seconds saved are stated")
        ->check(CLI::Range(0.001, 1e9))
        ->capture_default_str();
    CLI::Option* const concurrency =
        command.add_option("--concurrency", options_.concurrency, "Requests in flight")
            ->check(CLI::Range(1, 1024))
            ->capture_default_str();
    CLI::Option* const batch =
        command.add_option("--batch", options_.batch_blocks, "Blocks in one batch at most")
            ->check(CLI::Range(1, 65536))
            ->capture_default_str();
    command.add_option("--key-prefix", options_.key_prefix, "What every key begins with")
        ->capture_default_str();
    command.add_flag("--allow-eviction", options_.allow_eviction,
                     "Go on although the store holds keys that are not a replay's, which the "
                     "replay's may push out");
    CLI::Option* const model =
        command.add_flag("--model-lru", with_model_,
                         "Also simulate an exact LRU of the same capacity (the default)");
    command.add_flag("--no-model", without_model_, "Do not simulate an LRU")->excludes(model);
    command.add_flag("--json", is_json_, "Print one JSON object");
    command.add_flag("--quiet", options_.is_quiet, "No progress");
    add_l1_options(command, *concurrency, *batch);
  }

  int run() override {
    options_.block_bytes = *parse_bytes(block_bytes_);
    if (!block_tokens_.empty()) {
      options_.block_tokens = *tools::parse_block_tokens(block_tokens_);
    }
    options_.speed = *tools::parse_speed(speed_);
    options_.timestamp_unit_ns = *tools::parse_timestamp_unit(timestamp_unit_);
    options_.with_model = !without_model_;
    if (!l1_.empty()) return run_l1();
    if (specs_.size() != 1) {
      return fail({ErrorCode::kInvalidArgument, specs_.empty()
                                                    ? "SPEC is required; without it, give --l1 SIZE"
                                                    : "several SPECs need --l1 SIZE"});
    }
    options_.spec = specs_.front();
    return report(options_, tools::replay(options_, stop_requested()));
  }

 private:
  void add_l1_options(CLI::App& command, CLI::Option& concurrency, CLI::Option& batch) {
    CLI::Option* const l1 =
        command.add_option("--l1", l1_, "Replay through the cache engine with so much memory")
            ->check(valid(parse_size), "SIZE")
            ->excludes(&concurrency)
            ->excludes(&batch);
    command
        .add_option("--policy", l1_options_.policy,
                    "What leaves L1 when it is full: " + cache::policy_names())
        ->check(valid(cache::find_policy), "POLICY")
        ->capture_default_str()
        ->needs(l1);
    command
        .add_option("--promote", promote_,
                    "What of the blocks that were loaded from L2 stays in L1: retain (all), "
                    "second_hit or none")
        ->check(valid(cache::find_promote), "WHAT")
        ->capture_default_str()
        ->needs(l1);
    command
        .add_option("--ranks", l1_options_.ranks,
                    "Tensor-parallel ranks: each block is cut into so many cells")
        ->check(CLI::Range(1, 128))
        ->capture_default_str()
        ->needs(l1);
    command
        .add_flag("--sizes-only", l1_options_.sizes_only,
                  "L1 takes no memory and nothing is verified, for sizes that this machine does "
                  "not have; without SPEC")
        ->needs(l1);
  }

  int run_l1() {
    const tools::ReplayInput& input = options_;
    static_cast<tools::ReplayInput&>(l1_options_) = input;
    l1_options_.l1_bytes = *parse_bytes(l1_);
    l1_options_.promote = *cache::find_promote(promote_);
    if (specs_ != std::vector<std::string>{"none"}) l1_options_.specs = specs_;
    return report(l1_options_, tools::replay_l1(l1_options_, stop_requested()));
  }

  template <class Options, class Result>
  int report(const Options& options, const SetupResult<Result>& result) {
    if (!result) return fail(result.error());
    if (result->mismatches > 0) {
      std::fprintf(stderr, "larder: WRONG BYTES: %s\n", result->first_mismatch.c_str());
    }
    return print(is_json_ ? to_json(options, *result) : to_text(options, *result),
                 result->is_good() ? kGood : kBad);
  }

  tools::ReplayOptions options_;
  tools::L1ReplayOptions l1_options_;
  std::vector<std::string> specs_;
  std::string l1_;  ///< Empty: without the engine.
  std::string promote_ = "retain";
  std::string block_bytes_ = "64KiB";
  std::string block_tokens_;  ///< Empty: the trace's own.
  std::string speed_ = "max";
  std::string timestamp_unit_ = "ms";
  bool with_model_ = false;  ///< Says what is the default anyway.
  bool without_model_ = false;
  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_replay_command() {
  return std::make_unique<ReplayCommand>();
}

}  // namespace larder::cli
