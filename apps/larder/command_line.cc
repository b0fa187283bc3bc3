#include "apps/larder/command_line.h"

#include <sys/eventfd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/larder/shell_support.h"
#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/base/size_text.h"

namespace larder::cli {
namespace {

constexpr int kSignalExit = 128;  ///< As a shell tells of a program that a signal ended.

/// Set by a signal handler, so it must be reachable without arguments.
std::atomic<bool> is_stop_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free);
std::atomic<int> stop_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);

/// When that was; 0: not yet.
std::atomic<std::uint64_t> stop_requested_ns = 0;
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// An eventfd for those who sleep. It lives as long as the process.
std::atomic<int> stop_event_fd = -1;
static_assert(std::atomic<int>::is_always_lock_free);

/// Whoever read standard output is gone: nothing more is said.
bool is_output_closed = false;
/// Errors go to standard output, too, as JSON.
bool is_json = false;

/// Calls only what a signal handler may call.
extern "C" void request_stop(int signal_number) {
  constexpr std::uint64_t kOneAnswerNs = 1'000'000'000;
  const std::uint64_t now = RealClock::instance().now_ns();
  std::uint64_t first = 0;
  if (stop_requested_ns.compare_exchange_strong(first, now)) {
    stop_signal.store(signal_number);
    is_stop_requested.store(true);
    const int error = errno;
    static_cast<void>(::eventfd_write(stop_event_fd.load(), 1));  // Of -1 it fails.
    errno = error;
  } else if (now - first > kOneAnswerNs) {
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
  }
}

/// The first SIGINT, SIGTERM or SIGHUP asks for an end with what was measured, and with stores
/// closed; one that comes more than a second later kills. (A terminal or `timeout` may deliver the
/// same request twice.) What whoever started the program ignores (nohup, &) stays ignored.
void install_signal_handlers() {
  (void)RealClock::instance();  // Made here and not first in a handler.
  stop_event_fd.store(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action{};
    if (sigaction(signal_number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = request_stop;
    sigemptyset(&action.sa_mask);
    sigaction(signal_number, &action, nullptr);
  }
  std::signal(SIGPIPE, SIG_IGN);
}

/// The commands there are, and the nearest to a first word that is none of them.
int unknown_command(const Program& program, const std::vector<std::string>& names,
                    const std::string& word) {
  const std::vector<std::string_view> candidates{names.begin(), names.end()};
  const std::string_view nearest = nearest_name(word, candidates);
  std::string text = "there is no command \"" + word + "\"";
  text += nearest.empty() ? "; there are:"
                          : ", did you mean \"" + std::string{nearest} + "\"? There are:";
  for (const std::string& name : names) text += " " + name;
  if (!program.elsewhere.empty()) text += "; " + program.elsewhere;
  return fail(SetupError{ErrorCode::kInvalidArgument, text});
}

/// What came of a command, and of what happened to it meanwhile.
int exit_code_of(int code, const Command& command) {
  if (command.ends_by_signal()) return code;
  if (is_output_closed) return kSignalExit + SIGPIPE;
  const int signal_number = stop_signal.load();
  if (signal_number == 0 || code == kUsage) return code;
  std::fprintf(stderr, "larder: interrupted by SIG%s: what it says is what there was until then\n",
               ::sigabbrev_np(signal_number));
  return kSignalExit + signal_number;
}

/// `larder help bench` is `larder bench --help`, and `larder help help` is `larder --help`.
std::vector<std::string> without_help(std::vector<std::string> words) {
  if (words.empty() || words.front() != "help") return words;
  words.erase(words.begin(), std::ranges::find_if_not(
                                 words, [](const std::string& word) { return word == "help"; }));
  words.emplace_back("--help");
  return words;
}

int run(const Program& program, const std::vector<std::string>& words) {
  CLI::App app{program.description, program.name};
  app.set_version_flag("-V,--version", program.version);
  app.footer(program.footer);
  for (const auto& command : program.commands) command->add_to(app);
  std::vector<std::string> names;  // In the same order as the commands.
  for (const CLI::App* const command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  is_json = std::ranges::find(words, "--json") != words.end();
  if (!words.empty() && !words.front().starts_with("-") &&
      std::ranges::find(names, words.front()) == names.end()) {
    return unknown_command(program, names, words.front());
  }
  try {
    std::vector<std::string> reversed{words.rbegin(), words.rend()};
    app.parse(std::move(reversed));
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    const std::string unknown = unknown_option(app, words);
    return fail(SetupError{ErrorCode::kInvalidArgument, (unknown.empty() ? error.what() : unknown) +
                                                            " (--help shows the usage)"});
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!app.got_subcommand(names[i])) continue;
    return exit_code_of(program.commands[i]->run(), *program.commands[i]);
  }
  std::fputs(app.help().c_str(), stderr);
  return kUsage;
}

}  // namespace

const std::atomic<bool>& stop_requested() {
  return is_stop_requested;
}

int stop_fd() {
  return stop_event_fd.load();
}

int fail(const SetupError& error) {
  const int code = error.code == ErrorCode::kInvalidArgument ? kUsage : kBad;
  if (is_json) {
    const nlohmann::json json = {{"ok", false}, {"error", printable(error.text)}};
    static_cast<void>(
        write_out(json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n"));
  }
  // Ended by a signal: that is said behind it, and is no fault of anything else.
  if (error.code != ErrorCode::kCancelled || stop_signal.load() == 0) {
    std::fprintf(stderr, "larder: %s\n", printable(error.text).c_str());
  }
  return code;
}

bool write_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return true;
  }
  is_output_closed = errno == EPIPE;
  return false;
}

int print(std::string_view text, int exit_code) {
  if (write_out(text)) return exit_code;
  if (!is_output_closed) {
    std::fputs("larder: the result could not be written to standard output\n", stderr);
  }
  return kBad;
}

SetupResult<std::uint64_t> parse_size(std::string_view text) {
  auto bytes = parse_bytes(text);
  if (bytes && *bytes == 0) {
    return SetupError{ErrorCode::kInvalidArgument, "0 bytes: expected at least 1"};
  }
  return bytes;
}

SetupResult<std::uint64_t> parse_count(std::string_view text) {
  LARDER_ASSIGN(const std::int64_t count, parse_integer(text));
  if (count > 0) return static_cast<std::uint64_t>(count);
  return SetupError{ErrorCode::kInvalidArgument,
                    "\"" + std::string{text} + "\": expected a whole number from 1 on"};
}

int run_program(const Program& program, const std::vector<std::string>& words) noexcept {
  try {
    install_signal_handlers();
    return run(program, without_help(words));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "larder: %s\n", printable(error.what()).c_str());
    return kBad;
  }
}

}  // namespace larder::cli
