#include "larder/tools/top.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/tools/live_screen.h"
#include "larder/tools/terminal_keys.h"

namespace larder::tools {
namespace {

constexpr const char* kServerTarget = "127.0.0.1:8080";
constexpr const char* kEnvironmentVariable = "LARDER_METRICS";

double now_s() {
  return static_cast<double>(RealClock::instance().now_ns()) / 1e9;
}

/// Until one of the descriptors is readable (those below 0 never are) or so many seconds have
/// passed.
template <std::size_t kCount>
std::array<bool, kCount> wait_for(const std::array<int, kCount>& fds, double seconds) {
  std::array<pollfd, kCount> polled{};
  for (std::size_t i = 0; i < kCount; ++i)
    polled[i] = {.fd = fds[i], .events = POLLIN, .revents = 0};
  constexpr double kLongestS = 3600;
  const int milliseconds = static_cast<int>(std::clamp(seconds, 0.0, kLongestS) * 1000) + 1;
  std::array<bool, kCount> readable{};
  if (::poll(polled.data(), polled.size(), milliseconds) <= 0) return readable;
  for (std::size_t i = 0; i < kCount; ++i) readable[i] = polled[i].revents != 0;
  return readable;
}

std::string clock_text() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  if (::localtime_r(&now, &local) == nullptr) return {};
  return fmt::format("{:02}:{:02}:{:02}", local.tm_hour, local.tm_min, local.tm_sec);
}

SetupError cancelled() {
  return {ErrorCode::kCancelled, "top: ended before the target answered"};
}

/// The loop of run_top_screen(), between two lives of the terminal.
class TopLoop {
 public:
  TopLoop(TopSession& session, TopScreen screen, bool is_colored, const TopStop& stop)
      : session_(session),
        shown_(std::move(screen)),
        is_colored_(is_colored),
        stop_(stop),
        terminal_(STDIN_FILENO, STDOUT_FILENO, stop.is_set),
        keys_fd_(::isatty(STDIN_FILENO) == 1 ? STDIN_FILENO : -1) {}

  void run() {
    figures_ = session_.figures();
    next_s_ = now_s() + shown_.interval_s;
    terminal_.enter();
    while (!is_done_ && !stop_.is_set.load()) {
      if (is_stale_ && !draw()) break;
      turn();
    }
    terminal_.leave();
  }

 private:
  void turn() {
    const double now = now_s();
    if (now >= next_s_ && !session_.source().is_busy()) {
      session_.source().begin();
      next_s_ = std::max(next_s_ + shown_.interval_s, now);
    }
    double pause = session_.source().is_busy() ? shown_.interval_s : next_s_ - now;
    if (session_.silent_s()) pause = std::min(pause, 1.0);  // Its seconds are counted.
    const auto readable = wait_for(
        std::array{keys_fd_, session_.source().fd(), terminal_.size_fd(), stop_.fd}, pause);
    if (readable[0]) read_keys();
    if (readable[1]) take_sample();
    if (readable[2]) terminal_.drain_size();
    is_stale_ |= readable[2] || session_.silent_s().has_value();
  }

  void take_sample() {
    auto sample = session_.source().take();
    if (!sample) return;
    // An error stands on the screen.
    session_.add(*std::move(sample)).ignore("session_.error() has it");
    if (!shown_.is_paused) figures_ = session_.figures();
    is_stale_ = true;
  }

  void read_keys() {
    std::array<char, 64> bytes{};
    const ssize_t count = ::read(keys_fd_, bytes.data(), bytes.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {  // The terminal is gone.
      is_done_ = true;
      return;
    }
    for (const TerminalKey key : keys_.decode({bytes.data(), static_cast<std::size_t>(count)})) {
      is_stale_ = true;
      switch (key) {
        case TerminalKey::kQuit:
          is_done_ = true;
          break;
        case TerminalKey::kPause:
          shown_.is_paused = !shown_.is_paused;
          if (!shown_.is_paused) figures_ = session_.figures();
          break;
        case TerminalKey::kHelp:
          shown_.is_help = !shown_.is_help;
          break;
        case TerminalKey::kSuspend:
          terminal_.suspend();
          break;
        case TerminalKey::kRedraw:
          break;
      }
    }
  }

  bool draw() {
    const TerminalSize size = terminal_.size();
    shown_.rows = size.rows;
    shown_.columns = size.columns;
    if (!shown_.is_paused) shown_.clock = clock_text();
    shown_.silent_s = session_.silent_s();
    shown_.error = session_.error();
    is_stale_ = false;
    return terminal_.show(draw_top(figures_, shown_), is_colored_);
  }

  TopSession& session_;
  TopScreen shown_;
  const bool is_colored_;
  const TopStop& stop_;
  LiveScreen terminal_;
  TerminalKeys keys_;
  const int keys_fd_;
  TopFigures figures_;
  double next_s_ = 0;
  bool is_stale_ = true;
  bool is_done_ = false;
};

}  // namespace

std::vector<std::string> default_top_targets() {
  std::vector<std::string> targets{kServerTarget};
  const char* const named = std::getenv(kEnvironmentVariable);
  if (named != nullptr && *named != '\0') targets.emplace_back(named);
  return targets;
}

SetupResult<TopSession> TopSession::open(const std::vector<std::string>& targets,
                                         std::chrono::milliseconds timeout, const TopStop& stop) {
  std::string said;
  for (const std::string& target : targets) {
    LARDER_ASSIGN(auto source, TopSource::start(target, timeout));
    TopSession session{std::move(source)};
    const SetupStatus sampled = session.sample(stop);
    if (!sampled && (targets.size() == 1 || sampled.error().code == ErrorCode::kCancelled)) {
      return sampled.error();
    }
    const bool has_numbers = sampled && !session.history_.latest().scrape.is_empty();
    if (has_numbers || (sampled && targets.size() == 1)) return session;
    said += fmt::format(
        "{}{}", said.empty() ? "" : "; ",
        sampled ? printable(target) + ": no numbers of larder's" : sampled.error().text);
  }
  return SetupError{ErrorCode::kUnavailable, said};
}

SetupStatus TopSession::sample(const TopStop& stop) {
  source_->begin();
  for (;;) {
    // The sample has its own time limit; where the resolver has none, `stop` ends the wait.
    wait_for(std::array{source_->fd(), stop.fd}, 1);
    if (auto sample = source_->take()) return add(*std::move(sample));
    if (stop.is_set.load()) return cancelled();
  }
}

SetupStatus TopSession::add(SetupResult<TopSample> sample) {
  if (!sample) {
    error_ = sample.error().text;
    return sample.error();
  }
  error_.clear();
  history_.add(*std::move(sample));
  return {};
}

std::optional<double> TopSession::silent_s() const {
  if (error_.empty()) return std::nullopt;
  return now_s() - history_.latest().scrape.at_s();
}

void run_top_screen(TopSession& session, TopScreen screen, bool is_colored, const TopStop& stop) {
  TopLoop{session, std::move(screen), is_colored, stop}.run();
}

bool sleep_for_top(double seconds, const TopStop& stop) {
  const double until_s = now_s() + seconds;
  while (!stop.is_set.load()) {
    const double left = until_s - now_s();
    if (left <= 0) return true;
    wait_for(std::array{stop.fd}, stop.fd < 0 ? std::min(left, 0.1) : left);
  }
  return false;
}

}  // namespace larder::tools
