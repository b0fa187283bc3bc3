// The command line: reads it, runs one of the tools, prints what came of it.
//
// Exit codes: 0 good, 1 the thing checked is bad or broke, 2 wrong usage.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/size_text.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/bench.h"
#include "larder/tools/connectors_list.h"
#include "larder/tools/machine_info.h"
#include "larder/tools/replay.h"

namespace {

using larder::SetupError;
using larder::SetupResult;

enum ExitCode : int { kGood = 0, kBad = 1, kUsage = 2 };

/// Set by a signal handler, so it must be reachable without arguments.
std::atomic<bool> stop_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free);

/// When that was; 0: not yet.
std::atomic<std::uint64_t> stop_requested_ns = 0;
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Calls only what a signal handler may call.
extern "C" void request_stop(int signal_number) {
  constexpr std::uint64_t kOneAnswerNs = 1'000'000'000;
  const std::uint64_t now = larder::RealClock::instance().now_ns();
  std::uint64_t first = 0;
  if (stop_requested_ns.compare_exchange_strong(first, now)) {
    stop_requested.store(true);
  } else if (now - first > kOneAnswerNs) {
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
  }
}

/// The first SIGINT or SIGTERM asks for an end with what was measured; one that comes more than a
/// second later kills. (A terminal or `timeout` may deliver the same request twice.)
void install_signal_handlers() {
  (void)larder::RealClock::instance();  // Made here and not first in a handler.
  struct sigaction action{};
  action.sa_handler = request_stop;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

int fail(const SetupError& error) {
  std::fprintf(stderr, "larder: %s\n", error.text.c_str());
  return error.code == larder::ErrorCode::kInvalidArgument ? kUsage : kBad;
}

int print(const std::string& text, int exit_code) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return exit_code;
  }
  std::fputs("larder: the result could not be written to standard output\n", stderr);
  return kBad;
}

/// For CLI11: text that a parser of larder's takes, else its own message.
template <class Parser>
CLI::Validator valid(Parser parser, std::string description) {
  return CLI::Validator{[parser](std::string& text) {
                          const auto value = parser(text);
                          return value ? std::string{} : value.error().text;
                        },
                        std::move(description)};
}

SetupResult<std::uint64_t> parse_size(std::string_view text) {
  auto bytes = larder::parse_bytes(text);
  if (bytes && *bytes == 0) {
    return SetupError{larder::ErrorCode::kInvalidArgument, "0 bytes: expected at least 1"};
  }
  return bytes;
}

/// A command: what was read, and what to do with it.
struct ReplayCommand {
  larder::tools::ReplayOptions options;
  std::string block_bytes = "64KiB";
  std::string speed = "max";
  bool with_model = false;  ///< Says what is the default anyway.
  bool without_model = false;
  bool is_json = false;

  void add_to(CLI::App& app) {
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
        "chain; with --concurrency 1 the hit rate is the same in every run.");
    command
        .add_option("TRACE", options.trace_path,
                    "Mooncake's JSON lines: .jsonl, .jsonl.zst, or - for standard input")
        ->required();
    command.add_option("SPEC", options.spec, "The connector, e.g. 'log:/data/kv?capacity=200GiB'")
        ->required();
    command.add_option("--block-bytes", block_bytes, "Bytes of KV cache of one 512-token block")
        ->check(valid(parse_size, "SIZE"))
        ->capture_default_str();
    command.add_option("--requests", options.requests_max, "Stop after this many requests")
        ->check(CLI::PositiveNumber);
    command.add_option("--speed", speed, "max, trace (as it happened), or a factor such as 20x")
        ->check(valid(larder::tools::parse_speed, "SPEED"))
        ->capture_default_str();
    command
        .add_option("--tokens-per-second", options.tokens_per_second,
                    "Prefill rate assumed when the seconds saved are stated")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--concurrency", options.concurrency, "Requests in flight")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command.add_option("--batch", options.batch_blocks, "Blocks in one batch at most")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    command.add_option("--key-prefix", options.key_prefix, "What every key begins with")
        ->capture_default_str();
    CLI::Option* const model = command.add_flag(
        "--model-lru", with_model, "Also simulate an exact LRU of the same capacity (the default)");
    command.add_flag("--no-model", without_model, "Do not simulate an LRU")->excludes(model);
    command.add_flag("--json", is_json, "Print one JSON object");
    command.add_flag("--quiet", options.is_quiet, "No progress");
  }

  int run() {
    options.block_bytes = *larder::parse_bytes(block_bytes);
    options.speed = *larder::tools::parse_speed(speed);
    options.with_model = !without_model;
    const auto result = larder::tools::replay(options, stop_requested);
    if (!result) return fail(result.error());
    if (result->mismatches > 0) {
      std::fprintf(stderr, "larder: WRONG BYTES: %s\n", result->first_mismatch.c_str());
    }
    return print(is_json ? to_json(options, *result) : to_text(options, *result),
                 result->is_good() ? kGood : kBad);
  }
};

struct BenchCommand {
  larder::tools::BenchOptions options;
  std::vector<std::string> sizes = {"1MiB"};
  std::string bytes;
  std::string mode = "load";
  bool without_fio = false;
  bool without_verification = false;
  bool is_json = false;

  void add_to(CLI::App& app) {
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
        "what was returned; otherwise NOT COLD is printed and the exit code is 1.\n"
        "Use an empty store: the keys of a benchmark push others out.");
    command.add_option("SPEC", options.spec, "The connector, e.g. 'log:/data/bench?capacity=8GiB'")
        ->required();
    command.add_option("--size", sizes, "Bytes of a value; several are measured in turn")
        ->delimiter(',')
        ->check(valid(parse_size, "SIZE"))
        ->capture_default_str();
    command.add_option("--mode", mode, "load, store, mixed, exists, or latency")
        ->check(valid(larder::tools::parse_bench_mode, "MODE"))
        ->capture_default_str();
    command.add_option("--batch", options.batch, "Keys of one batch")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    command.add_option("--in-flight", options.in_flight, "Batches in flight")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    command
        .add_option("--bytes", bytes,
                    "Bytes of one pass [the larger of 1GiB and twice the last-level cache]")
        ->check(valid(parse_size, "SIZE"));
    command.add_option("--pairs", options.pairs, "How often ours and the ceiling are measured")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    command.add_option("--slices", options.slices, "Pieces of memory that a value lies in")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    command
        .add_option("--unaligned", options.unaligned_bytes,
                    "Put every piece this many bytes behind an aligned address")
        ->check(CLI::Range(0, 4095))
        ->capture_default_str();
    command.add_option("--load-percent", options.load_percent, "mixed: share of loads")
        ->check(CLI::Range(1, 99))
        ->capture_default_str();
    command
        .add_option("--touch-percent", options.touch_percent,
                    "store: share of the stored keys that is marked as read, so that a full store "
                    "has something to keep")
        ->check(CLI::Range(0, 100))
        ->capture_default_str();
    command.add_flag("!--small-pages", options.has_huge_pages,
                     "Buffers of small pages, also where fio could have huge ones");
    command.add_flag("--first-turn", options.is_first_turn,
                     "store: on blocks that were never written, in a fresh store; without it the "
                     "store is filled first, until it evicts");
    command.add_flag("--with-stores", options.with_stores, "exists: while stores are in flight");
    command.add_flag("--allow-eviction", options.allow_eviction,
                     "Go on although the store holds keys that the benchmark may push out");
    command.add_flag("--warm", options.is_warm, "load: the page cache may answer");
    command.add_option(
        "--goal", options.goal,
        "Exit 1 unless the median ratio reaches this and the lower quartile 0.9 of it");
    command.add_flag("--no-fio", without_fio, "Measure no ceiling");
    command.add_flag("--no-verify", without_verification, "Do not check what was loaded");
    command.add_flag("--json", is_json, "Print one JSON object");
    command.add_flag("--quiet", options.is_quiet, "No progress");
  }

  int run() {
    options.value_bytes.clear();
    for (const std::string& size : sizes) options.value_bytes.push_back(*larder::parse_bytes(size));
    if (!bytes.empty()) options.bytes = *larder::parse_bytes(bytes);
    options.mode = *larder::tools::parse_bench_mode(mode);
    options.with_ceiling = !without_fio;
    options.is_verified = !without_verification;
    const auto result = larder::tools::bench(options, stop_requested);
    if (!result) return fail(result.error());
    return print(is_json ? to_json(*result) : to_text(*result), result->is_good() ? kGood : kBad);
  }
};

struct ConnectorsCommand {
  std::string type;
  bool is_markdown = false;
  bool is_json = false;

  void add_to(CLI::App& app) {
    CLI::App& command =
        *app.add_subcommand("connectors", "List the connector types and their parameters");
    command.footer(
        "Examples:\n"
        "  larder connectors\n"
        "  larder connectors log\n"
        "  larder connectors --markdown > docs/connectors.md");
    command.add_option("TYPE", type, "Only this type, with its parameters");
    CLI::Option* const markdown = command.add_flag("--markdown", is_markdown, "As Markdown tables");
    command.add_flag("--json", is_json, "As a JSON array")->excludes(markdown);
  }

  int run() const {
    using larder::tools::ListFormat;
    const ListFormat format = is_markdown ? ListFormat::kMarkdown
                              : is_json   ? ListFormat::kJson
                                          : ListFormat::kText;
    const auto text = larder::tools::list_connectors(larder::builtin_registry(), type, format);
    if (!text) return fail(text.error());
    return print(*text, kGood);
  }
};

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* const command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  return names;
}

/// The commands there are, and the nearest to a first word that is none of them.
int unknown_command(const std::vector<std::string>& names, const std::string& word) {
  const std::vector<std::string_view> candidates{names.begin(), names.end()};
  const std::string_view nearest = larder::nearest_name(word, candidates);
  std::string text = "there is no command \"" + word + "\"";
  if (!nearest.empty()) text += ", did you mean \"" + std::string{nearest} + "\"?";
  text += "; there are:";
  for (const std::string& name : names) text += " " + name;
  return fail(SetupError{larder::ErrorCode::kInvalidArgument, text});
}

int run(int argc, char** argv) {
  CLI::App app{"larder: a storage tier for LLM KV caches", "larder"};
  app.set_version_flag("--version", std::string{"larder " LARDER_VERSION " ("} +
                                        larder::tools::build_commit() + ")");
  app.footer("`larder COMMAND --help` shows a command's options, with examples.");
  ReplayCommand replay;
  BenchCommand bench;
  ConnectorsCommand connectors;
  replay.add_to(app);
  bench.add_to(app);
  connectors.add_to(app);
  if (argc > 1 && argv[1][0] != '-') {
    const std::vector<std::string> names = command_names(app);
    const std::string word = argv[1];
    if (std::find(names.begin(), names.end(), word) == names.end()) {
      return unknown_command(names, word);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return fail(SetupError{larder::ErrorCode::kInvalidArgument,
                           std::string{error.what()} + " (--help shows the usage)"});
  }
  if (app.got_subcommand("replay")) return replay.run();
  if (app.got_subcommand("bench")) return bench.run();
  if (app.got_subcommand("connectors")) return connectors.run();
  std::fputs(app.help().c_str(), stderr);
  return kUsage;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    install_signal_handlers();
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "larder: %s\n", error.what());
    return kBad;
  }
}
