#include <CLI/CLI.hpp>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/larder/command.h"
#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/base/size_text.h"
#include "larder/server/attach_command.h"
#include "larder/server/config_json.h"
#include "larder/server/metrics_text.h"
#include "larder/server/options_markdown.h"
#include "larder/server/read_options.h"
#include "larder/server/server.h"

namespace larder::cli {
namespace {

using server::OptionRow;
using server::OptionShape;
using server::OptionUse;
using server::ServerOptions;

/// CLI11 hides what is in no group: LMCache's other options are known, and no help to anyone.
constexpr const char* kHiddenGroup = "";

constexpr const char* kFooter =
    "Examples:\n"
    "  larder server --l1-size-gb 8 --l2-adapter 'log:/data/kv?capacity=200GiB'\n"
    "  larder server --l1-size-gb 8 --l2-adapter '{\"type\": \"fs_native\", \"base_path\": "
    "\"/mnt/kv\"}'\n"
    "  larder server --l1-size-gb 32 --l2-adapter 'log:/data/kv?capacity=2TiB' --l2-adapter "
    "'fs:/mnt/shared/kv?store=no'   # what is not on the disk is read from the shared one\n"
    "  larder server --config /etc/larder.toml --check   # what it would start with\n"
    "  LARDER_L1_SIZE_GB=8 LARDER_L2_ADAPTER='log:/data/kv?capacity=200GiB' larder server\n\n"
    "It takes the place of `lmcache server` for unmodified clients of LMCache: the same port,\n"
    "options and stored names. When it listens it says what to put into vLLM's\n"
    "--kv-transfer-config.\n"
    "Every option may also stand in the file of --config, as l1_size_gb = 8, or in the\n"
    "environment, as LARDER_L1_SIZE_GB=8; what is given here wins, then the environment.\n"
    "The other options of `lmcache server` are known too: those that need nothing here are\n"
    "accepted with a line in the log, those that cannot be honoured stop the start and say what\n"
    "to use instead. docs/server_options.md lists them all.\n"
    "Other users see a command line: a password belongs in a file (password_file=) or into\n"
    "LARDER_RESP_PASSWORD. SIGTERM or ^C ends it: it stores what it still holds and exits with\n"
    "0; a second one, more than a second later, ends it at once.";

/// One option of the table, with what the command line says of it.
struct Given {
  const OptionRow* row = nullptr;
  CLI::Option* option = nullptr;
  std::vector<std::string> values;
  std::string flag;
};

std::string group_of(const OptionRow& row) {
  return row.use == OptionUse::kHonoured ? std::string{row.group} : std::string{kHiddenGroup};
}

void add_option(CLI::App& command, Given& given) {
  const OptionRow& row = *given.row;
  const std::string name{row.name};
  std::string names = "--" + name;
  if (row.name == "quiet") names = "-q," + names;
  const std::string help{row.help};
  if (row.shape == OptionShape::kFlag || row.shape == OptionShape::kSwitch) {
    if (row.shape == OptionShape::kSwitch) names += ",!--no-" + name;
    given.option = command.add_flag(names, given.flag, help);
    given.option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  } else {
    given.option = command.add_option(names, given.values, help);
    given.option->type_name(std::string{row.value});
    if (row.shape == OptionShape::kList)
      given.option->expected(0, CLI::detail::expected_max_vector_size);
    if (row.shape == OptionShape::kValue) {
      given.option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
    given.option->allow_extra_args(row.shape == OptionShape::kList);
    if (!row.default_text.empty()) given.option->default_str(std::string{row.default_text});
  }
  given.option->group(group_of(row));
}

/// As a URL has it.
std::string host_of(const std::string& host) {
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

std::string address_of(const std::string& host, std::uint16_t port) {
  return host_of(host) + ":" + std::to_string(port);
}

/// What is said when clients may come, and what to tell them.
std::string listening_text(const ServerOptions& options, const server::ServerAddress& address) {
  std::string text = "larder server: listening on tcp://" + address_of(options.host, address.port) +
                     (options.ipc_path.empty() ? "" : " and ipc://" + printable(options.ipc_path)) +
                     "\n";
  text +=
      "  L1: " + format_bytes_exact(options.l1_bytes) + ", " + options.engine.policy +
      (address.pool.empty() ? "; no pool (--shm-name \"\"): engine-driven workers cannot register"
                            : "; pool /dev/shm/" + address.pool) +
      "\n";
  for (const server::L2Adapter& adapter : options.l2_adapters)
    text += "  L2: " + adapter.shown + "\n";
  if (options.l2_adapters.empty()) text += "  L2: none; --l2-adapter names a store\n";
  text += address.http_port == 0
              ? "  HTTP: none\n"
              : "  HTTP: http://" + address_of(options.http_host, address.http_port) +
                    " is its page in a browser; /status, /metrics\n";
  if (address.metrics_port != 0) {
    text += "  Metrics: http://" + address_of(options.metrics_host, address.metrics_port) +
            "/metrics\n";
  }
  server::ServerOptions bound = options;
  bound.port = address.port;
  return text + "  vLLM: " + server::attach_command(bound) + "\n";
}

std::string listening_json(const ServerOptions& options, const server::ServerAddress& address) {
  nlohmann::json json = {{"ok", true},
                         {"event", "listening"},
                         {"host", options.host},
                         {"port", address.port},
                         {"pool", address.pool},
                         {"http_port", address.http_port},
                         {"metrics_port", address.metrics_port},
                         {"l1_bytes", options.l1_bytes},
                         {"l2", nlohmann::json::array()}};
  for (const server::L2Adapter& adapter : options.l2_adapters) json["l2"].push_back(adapter.shown);
  return json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string drained_text(const ServerOptions& options, const server::DrainReport& report) {
  if (report.is_clean()) return "larder server: ended; nothing was left to store\n";
  return "larder server: ended; " + format_count(report.cells_lost, "object") + " (" +
         format_bytes(report.bytes_lost) + ") did not reach L2 within --drain-seconds " +
         format_duration_exact(options.drain_ns) + " and will be computed again\n";
}

std::string drained_json(const server::DrainReport& report) {
  const nlohmann::json json = {{"ok", true},
                               {"event", "ended"},
                               {"objects_lost", report.cells_lost},
                               {"bytes_lost", report.bytes_lost}};
  return json.dump() + "\n";
}

/// A server on any free port draws the name of its pool when it starts.
std::string checked_pool(const ServerOptions& options) {
  ServerOptions named = options;
  if (options.port == 0 && options.shm_name.empty()) named.shm_name = "larder_pid_PID";
  return server::pool_name(named, named.port);
}

class ServerCommand final : public Command {
 public:
  explicit ServerCommand(server::ConnectorSource source) : source_(std::move(source)) {}

  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "server", "Serve a KV cache to LMCache's clients, in place of `lmcache server`");
    command.footer(kFooter);
    for (const OptionRow& row : server::option_rows()) {
      Given& given = given_.emplace_back();
      given.row = &row;
      add_option(command, given);
    }
    command.add_flag("--markdown", is_markdown_, "Print docs/server_options.md, and end")
        ->group(std::string{server::find_option("config")->group});
    command
        .add_flag("--metrics-markdown", is_metrics_markdown_,
                  "Print docs/server_metrics.md, and end")
        ->group(std::string{server::find_option("config")->group});
    command.add_flag("--check", is_check_, "Print the configuration as JSON, and end")
        ->group(std::string{server::find_option("config")->group});
    command.add_flag("--json", is_json_, "Print JSON lines, for programs")
        ->group(std::string{server::find_option("config")->group});
  }

  int run() override {
    if (is_markdown_) return print(server::options_markdown(), kGood);
    if (is_metrics_markdown_) return print(server::metrics_markdown(), kGood);
    const auto setup =
        server::read_options(command_line(), server::environment_of_process(), source_);
    if (!setup) return fail(setup.error());
    for (const std::string& notice : setup->notices) announce("server", notice);
    const ServerOptions& options = setup->options;
    if (is_check_) {
      const auto json = server::config_json(options, checked_pool(options));
      return print(json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n", kGood);
    }
    const auto ended = server::run_server(
        options, *source_.registry, stop_requested(), stop_fd(),
        [&](const server::ServerAddress& address) {
          say(is_json_ ? listening_json(options, address) : listening_text(options, address));
        });
    if (!ended) return fail(ended.error());
    say(is_json_ ? drained_json(*ended) : drained_text(options, *ended));
    return kGood;
  }

  bool ends_by_signal() const override { return true; }

 private:
  /// A server does not depend on whether someone reads what it says.
  static void say(const std::string& text) { static_cast<void>(write_out(text)); }

  std::vector<server::Setting> command_line() const {
    std::vector<server::Setting> settings;
    for (const Given& given : given_) {
      if (given.option->count() == 0) continue;
      const bool is_flag = given.values.empty() && !given.flag.empty();
      settings.push_back({.row = given.row,
                          .values = is_flag ? std::vector{given.flag} : given.values,
                          .source = server::SettingSource::kCommandLine,
                          .where = "--" + std::string{given.row->name}});
    }
    return settings;
  }

  server::ConnectorSource source_;
  std::deque<Given> given_;  ///< CLI11 keeps references into it.
  bool is_check_ = false;
  bool is_markdown_ = false;
  bool is_metrics_markdown_ = false;
  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_server_command(server::ConnectorSource source) {
  return std::make_unique<ServerCommand>(std::move(source));
}

}  // namespace larder::cli
