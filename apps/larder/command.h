#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace CLI {
class App;
}

namespace larder::server {
struct ConnectorSource;
}

/// What the commands of the program share. Each is one file, `command_NAME.cc`, which only reads
/// the command line and prints: what it does is library code in larder/tools.
namespace larder::cli {

enum ExitCode : int {
  kGood = 0,
  kBad = 1,    ///< The thing checked is bad or broke.
  kUsage = 2,  ///< The command line is wrong.
};

/// One word behind `larder`, with its options.
class Command {
 public:
  Command() = default;
  virtual ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  /// Adds the subcommand. The object keeps what is read, so it outlives the parsing.
  virtual void add_to(CLI::App& app) = 0;
  /// After parsing. Returns the exit code.
  virtual int run() = 0;
  /// A signal is how it is told to end, and not an interruption: the exit code is that of run(),
  /// and nothing is said of the signal.
  virtual bool ends_by_signal() const { return false; }
};

/// Its connectors are those of `source`, whose registry outlives the command.
std::unique_ptr<Command> make_server_command(server::ConnectorSource source);
std::unique_ptr<Command> make_replay_command();
std::unique_ptr<Command> make_size_command();
std::unique_ptr<Command> make_bench_command();
std::unique_ptr<Command> make_connectors_command();
std::unique_ptr<Command> make_conformance_command();
std::unique_ptr<Command> make_inspect_command();
std::unique_ptr<Command> make_stats_command();
std::unique_ptr<Command> make_top_command();
std::unique_ptr<Command> make_doctor_command();
std::unique_ptr<Command> make_format_command();
std::unique_ptr<Command> make_completion_command();
std::unique_ptr<Command> make_man_command();

/// Set by SIGINT, SIGTERM and SIGHUP: long work ends with what it has. That it did, and 128 and the
/// signal's number as the exit code, is said for every command in one place.
const std::atomic<bool>& stop_requested();
/// Becomes readable with stop_requested(), for a command that sleeps. -1: the system has given
/// none.
int stop_fd();

/// Says what went wrong, with --json on standard output too; kUsage when the caller can never
/// succeed as asked, else kBad.
int fail(const SetupError& error);

/// Writes to standard output. False: it cannot be done; where whoever reads is gone (`| head`), the
/// program says nothing more.
bool write_out(std::string_view text);

/// Writes the result to standard output. `exit_code`, or kBad when that cannot be done.
int print(std::string_view text, int exit_code);

/// A check for CLI11: text that `parser` takes, else its own message.
template <class Parser>
std::function<std::string(const std::string&)> valid(Parser parser) {
  return [parser](const std::string& text) {
    const auto value = parser(text);
    return value ? std::string{} : value.error().text;
  };
}

/// A number of bytes above 0, as text.
SetupResult<std::uint64_t> parse_size(std::string_view text);

/// A whole number above 0, as text.
SetupResult<std::uint64_t> parse_count(std::string_view text);

}  // namespace larder::cli
