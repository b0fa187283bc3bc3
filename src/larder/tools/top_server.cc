// The figures of a server, from its own metrics and pages.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "larder/base/size_text.h"
#include "larder/tools/top_history.h"

namespace larder::tools {
namespace {

/// A server has no more: the rest is one called `other`.
constexpr std::size_t kSaltsMax = 101;

struct Reason {
  const char* name;
  const char* note;
};

constexpr std::array kReasons{
    Reason{"never_stored", "new prompts; those gone for long need a larger L2"},
    Reason{"evicted", "raise --l1-size-gb or add an --l2-adapter; or it was cleared"},
    Reason{"failed", "loads from L2 failed: see errors below and the server's log"},
    Reason{"late", "L2 took longer than --l2-load-timeout-seconds"},
    Reason{"down", "a store did not answer: larder doctor checks it"},
    Reason{"trimmed", "raise --l1-size-gb: no room to load or lock all of it"},
    Reason{"other_layout", "stored with other layers or types: use another model name"},
};

/// Lookups within one window, in tokens or chunks: only used for shares.
struct Lookups {
  double asked = 0;
  double l1 = 0;
  double l2 = 0;
  std::map<std::string, double> missed = {};
};

using Windows = std::array<std::optional<Lookups>, kTopWindows>;

Lookups lookups_of(const Scrape& now, const Scrape* before) {
  const auto grown = [&](std::string_view name, Scrape::Labels labels) {
    return before == nullptr ? now.sum(name, labels) : now.increase(*before, name, labels);
  };
  Lookups lookups{.l1 = grown("engine_hit_tokens_total", {{"source", "l1"}}),
                  .l2 = grown("engine_hit_tokens_total", {{"source", "l2"}})};
  lookups.asked = grown("engine_lookup_tokens_total", {});
  for (const Reason& reason : kReasons) {
    lookups.missed[reason.name] = grown("engine_missed_tokens_total", {{"reason", reason.name}});
  }
  return lookups;
}

/// From /status; without it from the gauges, which have no reasons.
std::optional<Lookups> lookups_within(const TopSample& sample,
                                      std::optional<LookupWindow> StatusPage::* member,
                                      std::string_view window) {
  if (sample.status && *sample.status.*member) {
    const LookupWindow& told = *((*sample.status).*member);
    return Lookups{.asked = told.asked,
                   .l1 = told.l1_share * told.asked,
                   .l2 = told.l2_share * told.asked,
                   .missed = told.missed};
  }
  const Scrape& now = sample.scrape;
  if (!now.has("engine_hit_rate") || now.sum("engine_lookup_tokens_total") <= 0) {
    return std::nullopt;
  }
  return Lookups{.asked = 1,
                 .l1 = now.sum("engine_hit_rate", {{"window", window}, {"source", "l1"}}),
                 .l2 = now.sum("engine_hit_rate", {{"window", window}, {"source", "l2"}}),
                 .missed = {}};
}

template <class Part>
ShareRow row(const Windows& windows, std::string id, std::string title, Part part,
             std::string note = {}) {
  ShareRow row{.id = std::move(id), .title = std::move(title), .note = std::move(note)};
  for (std::size_t i = 0; i < kTopWindows; ++i) {
    if (!windows[i]) continue;
    if (const auto count = part(*windows[i])) row.shares[i] = share_of(*count, windows[i]->asked);
  }
  return row;
}

void add_shares(const TopHistory& history, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  Windows windows;
  if (history.previous() != nullptr) windows[0] = lookups_of(now, history.previous());
  windows[1] = lookups_within(history.latest(), &StatusPage::minute, "1m");
  windows[2] = lookups_within(history.latest(), &StatusPage::quarter, "15m");
  windows[3] = lookups_of(now, nullptr);
  figures.windows = {"now", "1 min", "15 min", "all"};
  using Count = std::optional<double>;
  auto& rows = figures.shares;
  rows.push_back(
      row(windows, "found", "found", [](const Lookups& l) { return Count{l.l1 + l.l2}; }));
  rows.push_back(
      row(windows, "found_in_l1", "  in L1", [](const Lookups& l) { return Count{l.l1}; }));
  rows.push_back(
      row(windows, "found_in_l2", "  in L2", [](const Lookups& l) { return Count{l.l2}; }));
  rows.push_back(row(windows, "missed", "not found",
                     [](const Lookups& l) { return Count{l.asked - l.l1 - l.l2}; }));
  for (const Reason& reason : kReasons) {
    const auto count = [&](const Lookups& lookups) {
      const auto found = lookups.missed.find(reason.name);
      return found == lookups.missed.end() ? Count{} : Count{found->second};
    };
    rows.push_back(row(windows, std::string{"missed_"} + reason.name,
                       std::string{"  "} + reason.name, count, reason.note));
  }
}

void add_health(const TopHistory& history, TopFigures& figures) {
  const TopSample& sample = history.latest();
  const Scrape& now = sample.scrape;
  const double stall_s = now.sum("engine_stall_seconds");
  if (sample.reasons) {
    figures.reasons = *sample.reasons;
  } else {  // A port with the metrics alone.
    if (stall_s > 0) figures.reasons.emplace_back("the thread that answers clients does not run");
    if (now.sum("server_draining") > 0) figures.reasons.emplace_back("the server is ending");
    for (const Scrape::Series& tier : now.series("server_tier_health")) {
      if (tier.value <= 0) continue;
      const auto name = tier.labels.find("tier");
      figures.reasons.push_back((name == tier.labels.end() ? "a store" : name->second) +
                                (tier.value > 1 ? " is down" : " is degraded"));
    }
  }
  if (!figures.reasons.empty()) figures.health = TopHealth::kDegraded;
  if (stall_s > 0) figures.health = TopHealth::kDown;
}

void add_l1(const TopHistory& history, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  const Scrape* const before = history.since(60);
  const auto free = [](const Scrape& scrape) {
    return scrape.sum("engine_l1_bytes", {{"state", "free"}});
  };
  RoomRow l1{.name = "L1", .capacity = now.sum("engine_l1_capacity_bytes")};
  l1.used = std::max(0.0, l1.capacity - free(now));
  // The capacity is constant: a loss of free bytes is growth of used ones.
  if (before != nullptr) l1.filling_per_s = change_of(now, before, free(*before), free(now));
  l1.evicted_per_s = rate_of(now, before, "engine_bytes_evicted_total");
  const auto note = [&](const char* what, double bytes) {
    if (bytes <= 0) return;
    l1.note += (l1.note.empty() ? "" : ", ") + std::string{what} + " " +
               format_bytes(static_cast<std::uint64_t>(std::min(bytes, 1e18)));
  };
  note("locked", now.sum("engine_locked_bytes"));
  note("not in L2 yet", now.sum("engine_wanted_bytes"));
  note("quarantined", now.sum("engine_l1_bytes", {{"state", "quarantine"}}));
  note("orphaned", now.sum("engine_l1_bytes", {{"state", "orphan"}}));
  figures.rooms.push_back(std::move(l1));
}

void add_what_if(const Scrape& now, TopFigures& figures) {
  for (const auto& [tier, name] : {std::pair{"l1", "in L1"}, {"l2", "at all, with L2"}}) {
    auto row = what_if_of(now, name, "engine_", {{"tier", tier}});
    if (row) figures.what_if.push_back(std::move(*row));
  }
}

void add_work(const TopHistory& history, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  const Scrape* const before = history.previous();
  WorkFigures work{.workers = now.sum("server_instances"),
                   .connections = now.sum("server_connections"),
                   .sessions = now.sum("engine_sessions"),
                   .lookups_running = now.sum("engine_lookups_running"),
                   .lookups_waiting = now.sum("engine_lookups_waiting"),
                   .hashing = now.sum("server_requests_waiting"),
                   .lookups_per_s = rate_of(now, before, "engine_lookups_total"),
                   .failures = now.sum("server_failures_total")};
  if (before != nullptr) work.failures_now = now.increase(*before, "server_failures_total");
  figures.work = work;
  if (history.latest().status) figures.workers = history.latest().status->workers;
}

void add_salts(const TopHistory& history, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  for (const Scrape::Series& series : now.series("engine_lookup_tokens_total")) {
    if (series.value <= 0) continue;
    const auto label = [&](const char* name) {
      const auto found = series.labels.find(name);
      return found == series.labels.end() ? std::string{} : found->second;
    };
    figures.salts.push_back(
        {.salt = label("cache_salt"), .model = label("model_name"), .tokens = series.value});
  }
  // Not stable_sort(): clang 19 refuses what libstdc++ 12 has in it.
  std::ranges::sort(figures.salts, [](const SaltRow& a, const SaltRow& b) {
    return a.tokens != b.tokens ? a.tokens > b.tokens
                                : std::tie(a.salt, a.model) < std::tie(b.salt, b.model);
  });
  if (figures.salts.size() > kSaltsMax) figures.salts.resize(kSaltsMax);
  for (SaltRow& row : figures.salts) {
    const Scrape::Labels labels{{"cache_salt", row.salt}, {"model_name", row.model}};
    row.found = share_of(now.sum("engine_hit_tokens_total", labels), row.tokens);
    row.tokens_per_s = rate_of(now, history.previous(), "engine_lookup_tokens_total", labels);
  }
}

}  // namespace

void add_server_figures(const TopHistory& history, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  const auto info = now.series("server_info");
  const auto label = [&](const char* name) {
    const auto found = info.front().labels.find(name);
    return found == info.front().labels.end() ? std::string{} : found->second;
  };
  figures.name = label("instance_id");
  figures.version = label("version");
  figures.uptime_s = now.sum("server_uptime_seconds");
  add_health(history, figures);
  add_shares(history, figures);
  figures.saved = {.unit = "tokens",
                   .total = now.sum("engine_hit_tokens_total"),
                   .per_s = rate_of(now, history.previous(), "engine_hit_tokens_total"),
                   .bytes = now.sum("engine_bytes_loaded_total")};
  add_l1(history, figures);
  add_what_if(now, figures);
  add_work(history, figures);
  add_salts(history, figures);
}

}  // namespace larder::tools
