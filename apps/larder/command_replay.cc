#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "apps/larder/command.h"
#include "larder/base/size_text.h"
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
        "  zcat trace.jsonl.gz | larder replay - 'log:/data/kv?capacity=200GiB' --json\n\n"
        "Requests start in the order of the trace. Each looks its chain of blocks up, loads the\n"
        "contiguous prefix that is there, verifies every byte and stores the rest. It starts "
        "after\n"
        "its predecessor's lookup, and waits while an earlier request still stores a block of its\n"
        "chain; with --concurrency 1 the hit rate is the same in every run.\n"
        "What it stored stays there, and is found by the next replay of the same trace.\n"
        "Exit code 1: a hit had wrong bytes, an operation failed, or every store was refused (for\n"
        "want of space, say). Each is told with its first cause. Some refused stores are no "
        "fault.");
    command
        .add_option("TRACE", options_.trace_path,
                    "Mooncake's JSON lines: .jsonl, .jsonl.zst, or - for standard input")
        ->required();
    command.add_option("SPEC", options_.spec, "The connector, e.g. 'log:/data/kv?capacity=200GiB'")
        ->required();
    command.add_option("--block-bytes", block_bytes_, "Bytes of KV cache of one 512-token block")
        ->check(valid(parse_size), "SIZE")
        ->capture_default_str();
    command.add_option("--requests", options_.requests_max, "Stop after this many requests")
        ->check(valid(parse_count), "COUNT");
    command.add_option("--speed", speed_, "max, trace (as it happened), or a factor such as 20x")
        ->check(valid(tools::parse_speed), "SPEED")
        ->capture_default_str();
    command
        .add_option("--tokens-per-second", options_.tokens_per_second,
                    "Prefill rate assumed when the seconds saved are stated")
        ->check(CLI::Range(0.001, 1e9))
        ->capture_default_str();
    command.add_option("--concurrency", options_.concurrency, "Requests in flight")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
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
  }

  int run() override {
    options_.block_bytes = *parse_bytes(block_bytes_);
    options_.speed = *tools::parse_speed(speed_);
    options_.with_model = !without_model_;
    const auto result = tools::replay(options_, stop_requested());
    if (!result) return fail(result.error());
    if (result->mismatches > 0) {
      std::fprintf(stderr, "larder: WRONG BYTES: %s\n", result->first_mismatch.c_str());
    }
    return print(is_json_ ? to_json(options_, *result) : to_text(options_, *result),
                 result->is_good() ? kGood : kBad);
  }

 private:
  tools::ReplayOptions options_;
  std::string block_bytes_ = "64KiB";
  std::string speed_ = "max";
  bool with_model_ = false;  ///< Says what is the default anyway.
  bool without_model_ = false;
  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_replay_command() {
  return std::make_unique<ReplayCommand>();
}

}  // namespace larder::cli
