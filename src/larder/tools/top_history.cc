#include "larder/tools/top_history.h"

#include <algorithm>
#include <array>
#include <utility>

namespace larder::tools {
namespace {

constexpr double kStepS = 5;
constexpr double kLongestS = 900;

/// The part of a sample that is kept beyond the next one: since() uses it.
constexpr std::array<std::string_view, 17> kKept{"engine_bytes_evicted_total",
                                                 "engine_l1_bytes",
                                                 "hits_total",
                                                 "load_misses_total",
                                                 "lookup_hits_total",
                                                 "lookup_misses_total",
                                                 "bytes_loaded_total",
                                                 "bytes_missed_total",
                                                 "bytes_evicted_total",
                                                 "bytes_used",
                                                 "misses_total",
                                                 "l1_hits_total",
                                                 "l1_bytes_used",
                                                 "tier1_hits_total",
                                                 "tier2_hits_total",
                                                 "tier3_hits_total",
                                                 "tier4_hits_total"};

}  // namespace

void TopHistory::add(TopSample sample) {
  if (latest_) previous_ = std::move(latest_->scrape);
  const double now_s = sample.scrape.at_s();
  if (kept_.empty() || now_s - kept_.back().at_s() >= kStepS) {
    kept_.push_back(sample.scrape.only(kKept));
  }
  while (now_s - kept_.front().at_s() > kLongestS) kept_.pop_front();
  latest_ = std::move(sample);
}

const Scrape* TopHistory::previous() const {
  return previous_ ? &*previous_ : nullptr;
}

const Scrape* TopHistory::since(double seconds) const {
  const double now_s = latest_->scrape.at_s();
  for (const Scrape& scrape : kept_) {
    if (now_s - scrape.at_s() <= seconds && scrape.at_s() < now_s) return &scrape;
  }
  return previous();
}

TopFigures TopHistory::figures() const {
  TopFigures figures;
  const Scrape& now = latest_->scrape;
  if (previous_) figures.interval_s = now.at_s() - previous_->at_s();
  figures.is_server = now.has("server_info");
  if (figures.is_server) {
    add_server_figures(*this, figures);
  } else {
    add_process_figures(*this, figures);
  }
  add_store_figures(*this, figures);
  return figures;
}

std::optional<double> RoomRow::full_in_s() const {
  if (capacity <= 0 || filling_per_s.value_or(0) <= 0 || evicted_per_s.value_or(0) > 0) {
    return std::nullopt;
  }
  if (used >= capacity) return std::nullopt;
  return (capacity - used) / *filling_per_s;
}

std::optional<double> share_of(double part, double all) {
  if (!(all > 0)) return std::nullopt;
  return part / all;
}

std::optional<WhatIfRow> what_if_of(const Scrape& now, std::string name, const std::string& prefix,
                                    Scrape::Labels labels) {
  const auto find = [&](std::string_view of, std::string_view capacity) -> std::optional<double> {
    for (const Scrape::Series& series : now.series(prefix + std::string{of})) {
      const bool is_it = series.has(labels);
      if (is_it && (capacity.empty() || series.has({{"capacity", capacity}}))) return series.value;
    }
    return std::nullopt;
  };
  if (!find("what_if_asks", "")) return std::nullopt;
  return WhatIfRow{.name = std::move(name),
                   .half = find("what_if_hit_rate", "half"),
                   .same = find("what_if_hit_rate", "same"),
                   .doubled = find("what_if_hit_rate", "double"),
                   .unlimited = find("what_if_hit_rate", "unlimited"),
                   .measured = find("what_if_measured_hit_rate", "")};
}

std::optional<double> rate_of(const Scrape& now, const Scrape* before, std::string_view name,
                              Scrape::Labels labels) {
  if (before == nullptr || !(now.at_s() > before->at_s())) return std::nullopt;
  return now.increase(*before, name, labels) / (now.at_s() - before->at_s());
}

std::optional<double> change_of(const Scrape& now, const Scrape* before, double value,
                                double value_before) {
  if (before == nullptr || !(now.at_s() > before->at_s())) return std::nullopt;
  return (value - value_before) / (now.at_s() - before->at_s());
}

}  // namespace larder::tools
