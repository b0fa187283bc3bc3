#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/tools/top_figures.h"
#include "larder/tools/top_screen.h"
#include "larder/tools/top_source.h"

namespace larder::tools {

/// A request to end, as a flag and as a descriptor that becomes readable with it (-1: none).
struct TopStop {
  const std::atomic<bool>& is_set;
  int fd = -1;
};

/// Where to look when the user names nothing, in this order: `larder server`'s HTTP port, and the
/// address in LARDER_METRICS.
std::vector<std::string> default_top_targets();

/// One target and its samples so far.
class TopSession {
 public:
  /// The first of the targets that answers, with its first sample; of several also only one that
  /// has numbers of larder's. An error says how each of them failed. kCancelled: `stop` came first.
  static SetupResult<TopSession> open(const std::vector<std::string>& targets,
                                      std::chrono::milliseconds timeout, const TopStop& stop);

  /// Takes the next sample within `timeout`, and adds it to the figures. kCancelled: `stop`.
  SetupStatus sample(const TopStop& stop);

  const std::string& target() const noexcept { return source_->target(); }
  TopSource& source() noexcept { return *source_; }
  /// The value of source().
  SetupStatus add(SetupResult<TopSample> sample);
  TopFigures figures() const { return history_.figures(); }
  /// Since the last answer, if the last question got none.
  std::optional<double> silent_s() const;
  const std::string& error() const noexcept { return error_; }

 private:
  explicit TopSession(std::unique_ptr<TopSource> source) : source_(std::move(source)) {}

  std::unique_ptr<TopSource> source_;
  TopHistory history_;
  std::string error_;  ///< Of the last question; empty: it was answered.
};

/// Shows the session on the terminal of standard input and output until a key or `stop` ends it.
/// `screen` says how it looks; its size, time and state are the loop's.
void run_top_screen(TopSession& session, TopScreen screen, bool is_colored, const TopStop& stop);

/// Sleeps. False: `stop` came first.
bool sleep_for_top(double seconds, const TopStop& stop);

}  // namespace larder::tools
