// The command line: reads it, runs one of the commands, prints what came of it.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "apps/larder/command.h"
#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/base/version.h"
#include "larder/connector/registry.h"
#include "larder/tools/machine_info.h"

namespace larder::cli {
namespace {

/// Set by a signal handler, so it must be reachable without arguments.
std::atomic<bool> is_stop_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free);

/// When that was; 0: not yet.
std::atomic<std::uint64_t> stop_requested_ns = 0;
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Calls only what a signal handler may call.
extern "C" void request_stop(int signal_number) {
  constexpr std::uint64_t kOneAnswerNs = 1'000'000'000;
  const std::uint64_t now = RealClock::instance().now_ns();
  std::uint64_t first = 0;
  if (stop_requested_ns.compare_exchange_strong(first, now)) {
    is_stop_requested.store(true);
  } else if (now - first > kOneAnswerNs) {
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
  }
}

/// The first SIGINT or SIGTERM asks for an end with what was measured; one that comes more than a
/// second later kills. (A terminal or `timeout` may deliver the same request twice.)
void install_signal_handlers() {
  (void)RealClock::instance();  // Made here and not first in a handler.
  struct sigaction action{};
  action.sa_handler = request_stop;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

/// The commands there are, and the nearest to a first word that is none of them.
int unknown_command(const std::vector<std::string>& names, const std::string& word) {
  const std::vector<std::string_view> candidates{names.begin(), names.end()};
  const std::string_view nearest = nearest_name(word, candidates);
  std::string text = "there is no command \"" + word + "\"";
  if (!nearest.empty()) text += ", did you mean \"" + std::string{nearest} + "\"?";
  text += "; there are:";
  for (const std::string& name : names) text += " " + name;
  return fail(SetupError{ErrorCode::kInvalidArgument, text});
}

int run(int argc, char** argv) {
  CLI::App app{"larder: a storage tier for LLM KV caches", "larder"};
  app.set_version_flag("-V,--version",
                       "larder " + std::string{version()} + " (" + tools::build_commit() + ")");
  app.footer("`larder COMMAND --help` shows a command's options, with examples.");
  const std::array commands = {make_replay_command(),  make_bench_command(),
                               make_inspect_command(), make_doctor_command(),
                               make_format_command(),  make_connectors_command()};
  for (const auto& command : commands) command->add_to(app);
  std::vector<std::string> names;  // In the same order as the commands.
  for (const CLI::App* const command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  if (argc > 1 && argv[1][0] != '-') {
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
    return fail(SetupError{ErrorCode::kInvalidArgument,
                           std::string{error.what()} + " (--help shows the usage)"});
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (app.got_subcommand(names[i])) return commands[i]->run();
  }
  std::fputs(app.help().c_str(), stderr);
  return kUsage;
}

}  // namespace

const std::atomic<bool>& stop_requested() {
  return is_stop_requested;
}

int fail(const SetupError& error) {
  std::fprintf(stderr, "larder: %s\n", printable(error.text).c_str());
  return error.code == ErrorCode::kInvalidArgument ? kUsage : kBad;
}

int print(std::string_view text, int exit_code) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return exit_code;
  }
  std::fputs("larder: the result could not be written to standard output\n", stderr);
  return kBad;
}

SetupResult<std::uint64_t> parse_size(std::string_view text) {
  auto bytes = parse_bytes(text);
  if (bytes && *bytes == 0) {
    return SetupError{ErrorCode::kInvalidArgument, "0 bytes: expected at least 1"};
  }
  return bytes;
}

}  // namespace larder::cli

int main(int argc, char** argv) {
  try {
    larder::cli::install_signal_handlers();
    return larder::cli::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "larder: %s\n", larder::printable(error.what()).c_str());
    return larder::cli::kBad;
  }
}
