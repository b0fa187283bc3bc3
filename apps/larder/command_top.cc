#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "apps/larder/command.h"
#include "larder/base/key_text.h"
#include "larder/tools/terminal.h"
#include "larder/tools/top.h"

namespace larder::cli {
namespace {

/// Of a report that goes to a file or a pipe.
constexpr std::size_t kReportColumns = 120;

class TopCommand final : public Command {
 public:
  void add_to(CLI::App& app) override {
    CLI::App& command = *app.add_subcommand(
        "top", "Watch a running server, or a process's stores: health, hits, misses, speed");
    command.footer(
        "Examples:\n"
        "  larder top                               # the server of this machine\n"
        "  larder top 127.0.0.1:9187                # LARDER_METRICS=127.0.0.1:9187\n"
        "  larder top /run/larder.sock              # LARDER_METRICS=unix:/run/larder.sock\n"
        "  larder top 127.0.0.1:8080 --once         # one report, for scripts and for a ticket\n"
        "  larder top 127.0.0.1:8080 --json --count 3   # a line of JSON for each interval\n\n"
        "Without TARGET it tries 127.0.0.1:8080, where a server has its HTTP, and then what\n"
        "LARDER_METRICS names. Keys: q quits, p pauses, ? explains. Elsewhere than on a terminal "
        "it\n"
        "writes one report. NO_COLOR is heeded.\n"
        "Exit codes: 0 all is well (or you quit), 1 degraded or down, 2 wrong usage or no answer.");
    command.add_option("TARGET", target_,
                       "HOST:PORT, PORT, http://HOST:PORT/PATH or a unix socket");
    command.add_option("--interval", interval_s_, "Seconds between two looks")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    command.add_option("--timeout", timeout_s_, "Seconds to wait for an answer")
        ->check(CLI::Range(0.1, 600.0))
        ->capture_default_str();
    command.add_flag("--once", is_once_, "One report of one interval, also on a terminal");
    command.add_option("--count", count_, "So many reports")->check(CLI::Range(1, 1'000'000'000));
    command.add_flag("--json", is_json_,
                     "A line of JSON for each interval, until interrupted or --count");
    command.add_flag("--no-color", has_no_color_, "No colours and no bold text");
  }

  int run() override {
    const tools::TopStop stop{.is_set = stop_requested(), .fd = stop_fd()};
    const std::vector<std::string> targets =
        target_.empty() ? tools::default_top_targets() : std::vector{target_};
    const auto timeout = std::chrono::milliseconds{static_cast<int>(timeout_s_ * 1000)};
    auto session = tools::TopSession::open(targets, timeout, stop);
    if (!session) {
      if (session.error().code == ErrorCode::kCancelled) return kBad;
      std::string text = session.error().text;
      if (target_.empty()) {
        text = "top: tried 127.0.0.1:8080 and " +
               std::string{targets.size() > 1 ? "LARDER_METRICS"
                                              : "no LARDER_METRICS, which is not "
                                                "set"} +
               "; name a TARGET. " + text;
      }
      static_cast<void>(fail({session.error().code, text}));
      return kUsage;  // Nobody knows whether it is well.
    }
    is_live_ = !is_json_ && !is_once_ && count_ == 0 && tools::is_screen(STDOUT_FILENO);
    tools::TopScreen screen{.columns = kReportColumns,
                            .is_utf8 = tools::is_locale_utf8(),
                            .target = session->target(),
                            .interval_s = interval_s_};
    const bool is_colored =
        !has_no_color_ && tools::is_color_allowed() && tools::is_screen(STDOUT_FILENO);
    if (is_live_) {
      tools::run_top_screen(*session, screen, is_colored, stop);
      return kGood;
    }
    if (::isatty(STDOUT_FILENO) == 1) screen.columns = tools::terminal_columns(STDOUT_FILENO);
    return report(*session, screen, is_colored, stop);
  }

  bool ends_by_signal() const override { return is_live_; }

 private:
  /// As many reports as were asked for. The exit code is that of the last one.
  int report(tools::TopSession& session, const tools::TopScreen& screen, bool is_colored,
             const tools::TopStop& stop) const {
    const bool is_endless = is_json_ && !is_once_ && count_ == 0;
    const int wanted = count_ == 0 ? 1 : count_;
    int code = kGood;
    for (int i = 0; is_endless || i < wanted; ++i) {
      if (!tools::sleep_for_top(interval_s_, stop)) return code;
      const auto sampled = session.sample(stop);
      if (!sampled && sampled.error().code == ErrorCode::kCancelled) return code;
      std::string text;
      if (!sampled) {
        code = kUsage;
        if (is_json_) {
          text = tools::top_error_json(session.target(), printable(sampled.error().text));
        } else {
          static_cast<void>(fail(sampled.error()));
        }
      } else {
        const tools::TopFigures figures = session.figures();
        code = figures.health == tools::TopHealth::kHealthy ? kGood : kBad;
        text = is_json_ ? tools::top_json(figures, session.target())
                        : (i == 0 ? "" : "\n") + text_of(figures, screen, is_colored);
      }
      if (!text.empty() && print(text, kGood) != kGood) return kBad;
    }
    return code;
  }

  static std::string text_of(const tools::TopFigures& figures, const tools::TopScreen& screen,
                             bool is_colored) {
    std::string text;
    for (const tools::ScreenLine& line : tools::draw_top(figures, screen)) {
      text += (is_colored ? tools::styled_line(line) : tools::plain_line(line)) + "\n";
    }
    return text;
  }

  std::string target_;
  double interval_s_ = 2;
  double timeout_s_ = 5;
  int count_ = 0;
  bool is_once_ = false;
  bool is_json_ = false;
  bool has_no_color_ = false;
  bool is_live_ = false;
};

}  // namespace

std::unique_ptr<Command> make_top_command() {
  return std::make_unique<TopCommand>();
}

}  // namespace larder::cli
