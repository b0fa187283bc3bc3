#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "larder/tools/scrape.h"
#include "larder/tools/top_figures.h"
#include "larder/tools/top_pages.h"

namespace larder::tools {

/// A target's answers at one moment.
struct TopSample {
  Scrape scrape = {};
  std::optional<std::vector<std::string>> reasons = {};  ///< A server's /degraded, if it answered.
  std::optional<StatusPage> status = {};                 ///< Its /status, likewise.
};

/// The last samples of a target, and the figures from them. Pure: time is that of the samples.
/// Threads: one. Bounds: two whole samples, and 15 minutes of a few counters, 5 s apart.
class TopHistory {
 public:
  void add(TopSample sample);
  bool is_empty() const noexcept { return !latest_.has_value(); }

  /// After the first add().
  TopFigures figures() const;

  const TopSample& latest() const { return *latest_; }
  /// The sample before the last one, if there is one.
  const Scrape* previous() const;
  /// The oldest of the last `seconds`, without histograms and most gauges; else previous().
  const Scrape* since(double seconds) const;

 private:
  std::optional<TopSample> latest_ = {};
  std::optional<Scrape> previous_ = {};
  std::deque<Scrape> kept_;  ///< The oldest first.
};

/// The parts of figures() for a server, and for stores: top_server.cc and top_stores.cc.
void add_server_figures(const TopHistory& history, TopFigures& figures);
/// For the stores of a process, or those behind a server: rooms and connectors.
void add_store_figures(const TopHistory& history, TopFigures& figures);
/// For a process without a server: health, shares and loaded bytes.
void add_process_figures(const TopHistory& history, TopFigures& figures);

/// From the metrics `PREFIXwhat_if_...`, of series with these labels; empty: there is no estimate.
std::optional<WhatIfRow> what_if_of(const Scrape& now, std::string name, const std::string& prefix,
                                    Scrape::Labels labels);
/// A counter's growth per second since `before`; empty if there is none.
std::optional<double> rate_of(const Scrape& now, const Scrape* before, std::string_view name,
                              Scrape::Labels labels = {});
/// A gauge's change per second.
std::optional<double> change_of(const Scrape& now, const Scrape* before, double value,
                                double value_before);

}  // namespace larder::tools
