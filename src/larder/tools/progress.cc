#include "larder/tools/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "larder/base/clock.h"
#include "larder/tools/terminal.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kTerminalIntervalNs = 100'000'000;
constexpr std::uint64_t kPlainIntervalNs = 5'000'000'000;
constexpr std::size_t kBarWidth = 30;
constexpr std::size_t kBarWidthMin = 5;

}  // namespace

std::string progress_line(std::string_view title, double share, std::string_view detail,
                          std::size_t columns) {
  const std::string end = fmt::format(" {:3.0f} %  {}", share * 100, detail);
  // The last column stays empty: some terminals go to the next line when it is written.
  const std::size_t room = columns > 0 ? columns - 1 : 0;
  const std::size_t taken = title.size() + end.size() + 3;  // " [" and "]"
  std::string bar;
  if (taken + kBarWidthMin <= room) {
    const std::size_t width = std::min(kBarWidth, room - taken);
    const auto filled = static_cast<std::size_t>(share * static_cast<double>(width));
    bar = fmt::format(" [{:#<{}}{:.<{}}]", "", filled, "", width - filled);
  }
  return (std::string{title} + bar + end).substr(0, room);
}

Progress::Progress(std::string title, bool is_quiet)
    : title_(std::move(title)),
      is_quiet_(is_quiet),
      is_terminal_(::isatty(STDERR_FILENO) == 1),
      next_ns_(is_terminal_ ? 0 : RealClock::instance().now_ns() + kPlainIntervalNs) {}

bool Progress::is_due() const {
  return !is_quiet_ && RealClock::instance().now_ns() >= next_ns_;
}

void Progress::update(std::uint64_t done, std::uint64_t total, std::string_view detail) {
  if (!is_due()) return;
  next_ns_ =
      RealClock::instance().now_ns() + (is_terminal_ ? kTerminalIntervalNs : kPlainIntervalNs);
  const double share =
      total == 0 ? 0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  std::string line;
  if (is_terminal_) {
    // Back to the first column, the line, and then everything behind it erased.
    line = "\r" + progress_line(title_, share, detail, terminal_columns(STDERR_FILENO)) + "\x1b[K";
    is_drawn_ = true;
  } else {
    line = fmt::format("{}: {:.0f} % ({} of {})  {}\n", title_, share * 100, done, total, detail);
  }
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

void Progress::finish() {
  if (!is_drawn_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  is_drawn_ = false;
}

}  // namespace larder::tools
