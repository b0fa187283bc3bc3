// The figures of stores, from the metrics that every connector has.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "larder/base/size_text.h"
#include "larder/connector/op.h"
#include "larder/tools/top_history.h"

namespace larder::tools {
namespace {

/// From an untrusted text: each is searched for in all of it.
constexpr std::size_t kStoresMax = 1000;

/// Kept samples are 5 s apart.
constexpr double kMinuteLeastS = 54;

struct StoreId {
  std::string type = {};
  std::string where = {};
  TopHealth health = TopHealth::kHealthy;

  std::string name() const { return where.empty() ? type : type + " " + where; }
  /// Of its samples, and one label more.
  double sum(const Scrape& scrape, std::string_view metric) const {
    return scrape.sum(metric, {{"type", type}, {"where", where}});
  }
};

std::vector<StoreId> stores_of(const Scrape& now) {
  std::vector<StoreId> stores;
  for (const Scrape::Series& series : now.series("health")) {
    const auto type = series.labels.find("type");
    const auto where = series.labels.find("where");
    if (type == series.labels.end() || stores.size() == kStoresMax) continue;
    stores.push_back({.type = type->second,
                      .where = where == series.labels.end() ? "" : where->second,
                      .health = static_cast<TopHealth>(std::clamp(series.value, 0.0, 2.0))});
  }
  return stores;
}

// --- Health
// ---------------------------------------------------------------------------------------

struct Trouble {
  const char* metric;
  const char* what;
};

/// Counts that explain a store in trouble, as its process tells no sentences here.
constexpr std::array kTroubles{
    Trouble{"corruptions_total", "corrupt values"},
    Trouble{"io_errors_total", "failed transfers"},
    Trouble{"no_space_total", "writes without room"},
    Trouble{"sync_failures_total", "failed syncs"},
    Trouble{"stalls_total", "stalls of the disk"},
    Trouble{"segments_failed", "failed segments"},
    Trouble{"calls_hung", "calls that hang"},
    Trouble{"connections_lost_total", "lost connections"},
    Trouble{"connect_failures_total", "failed connects"},
    Trouble{"tier1_load_failures_total", "failed loads of tier 1"},
    Trouble{"tier1_store_failures_total", "failed stores of tier 1"},
    Trouble{"get_failures_total", "failed loads"},
    Trouble{"set_failures_total", "failed stores"},
    Trouble{"lookup_failures_total", "failed lookups"},
};

std::string trouble_text(const Scrape& now, const StoreId& store) {
  std::string text;
  for (const Trouble& trouble : kTroubles) {
    const double count = store.sum(now, trouble.metric);
    if (count <= 0) continue;
    text += (text.empty() ? "" : ", ") + std::string{trouble.what} + " " +
            std::to_string(static_cast<std::uint64_t>(std::min(count, 1e18)));
  }
  return text.empty() ? "" : " (" + text + ")";
}

void add_health(const Scrape& now, TopFigures& figures) {
  for (const StoreId& store : stores_of(now)) {
    figures.health = std::max(figures.health, store.health);
    const bool is_failing = store.sum(now, "is_failing") > 0;
    if (store.health == TopHealth::kHealthy && !is_failing) continue;
    if (figures.health == TopHealth::kHealthy) figures.health = TopHealth::kDegraded;
    const char* const state = store.health == TopHealth::kDown       ? " is down"
                              : store.health == TopHealth::kDegraded ? " is degraded"
                                                                     : " fails everything";
    figures.reasons.push_back(store.name() + state + trouble_text(now, store) +
                              ": report() in its process says why");
  }
}

// --- Shares
// ---------------------------------------------------------------------------------------

struct Reason {
  const char* name;
  const char* note;
};

constexpr std::array<Reason, kMissReasonCount> kReasons{{
    {"absent", "new, or evicted: a larger capacity= keeps more"},
    {"failed_before", "a load of it failed; it counts again once it is stored"},
    {"down", "the storage does not answer: larder doctor checks it"},
    {"late", "a load of it was late: see timeout and miss_after_failure="},
    {"other", "what is there is no value, as above 1 GiB"},
}};

/// Requests within one window, of all stores.
struct Asked {
  double lookup_hits = 0;
  double load_hits = 0;
  std::array<double, kMissReasonCount> missed{};  ///< Of both.
  double lookup_misses = 0;
  double load_misses = 0;
  std::optional<double> bytes_share = {};
  std::optional<double> l1_hits = {};  ///< If a store has an L1.
  std::optional<double> l2_hits = {};

  double all() const { return lookup_hits + load_hits + lookup_misses + load_misses; }
};

Asked asked_since(const Scrape& now, const Scrape* before) {
  const auto grown = [&](std::string_view name, Scrape::Labels labels = {}) {
    return before == nullptr ? now.sum(name, labels) : now.increase(*before, name, labels);
  };
  Asked asked{.lookup_hits = grown("lookup_hits_total"),
              .load_hits = grown("hits_total"),
              .lookup_misses = grown("lookup_misses_total"),
              .load_misses = grown("misses_total")};
  for (std::size_t i = 0; i < kMissReasonCount; ++i) {
    const Scrape::Labels labels{{"reason", kReasons[i].name}};
    asked.missed[i] = grown("lookup_misses_total", labels) + grown("load_misses_total", labels);
  }
  const double bytes = grown("bytes_loaded_total");
  asked.bytes_share = share_of(bytes, bytes + grown("bytes_missed_total"));
  if (now.has("l1_hits_total")) {
    asked.l1_hits = grown("l1_hits_total");
    asked.l2_hits = grown("tier1_hits_total") + grown("tier2_hits_total") +
                    grown("tier3_hits_total") + grown("tier4_hits_total");
  }
  return asked;
}

/// From the stores' own numbers of the last minute, without bytes and tiers.
Asked asked_recently(const Scrape& now) {
  Asked asked{.lookup_hits = now.sum("recent_hits", {{"operation", "lookup"}}),
              .load_hits = now.sum("recent_hits", {{"operation", "load"}}),
              .lookup_misses = now.sum("recent_misses", {{"operation", "lookup"}}),
              .load_misses = now.sum("recent_misses", {{"operation", "load"}})};
  for (std::size_t i = 0; i < kMissReasonCount; ++i) {
    asked.missed[i] = now.sum("recent_misses_by_reason", {{"reason", kReasons[i].name}});
  }
  return asked;
}

using Windows = std::array<std::optional<Asked>, kTopWindows>;

template <class Share>
ShareRow row(const Windows& windows, std::string id, std::string title, Share share,
             std::string note = {}) {
  ShareRow row{.id = std::move(id), .title = std::move(title), .note = std::move(note)};
  for (std::size_t i = 0; i < kTopWindows; ++i) {
    if (windows[i]) row.shares[i] = share(*windows[i]);
  }
  return row;
}

void add_shares(const TopHistory& history, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  const Scrape* const longest = history.since(900);
  Windows windows;
  if (history.previous() != nullptr) windows[0] = asked_since(now, history.previous());
  const Scrape* const minute = history.since(60);
  const bool has_minute = minute != nullptr && now.at_s() - minute->at_s() >= kMinuteLeastS;
  windows[1] = has_minute ? asked_since(now, minute) : asked_recently(now);
  if (longest != nullptr) windows[2] = asked_since(now, longest);
  windows[3] = asked_since(now, nullptr);
  const double seconds = longest == nullptr ? 0 : now.at_s() - longest->at_s();
  figures.windows = {"now", "1 min",
                     longest == nullptr ? ""
                     : seconds < 60     ? std::to_string(std::lround(seconds)) + " s"
                                        : std::to_string(std::lround(seconds / 60)) + " min",
                     "all"};
  auto& rows = figures.shares;
  rows.push_back(row(windows, "lookups_found", "lookups found", [](const Asked& a) {
    return share_of(a.lookup_hits, a.lookup_hits + a.lookup_misses);
  }));
  rows.push_back(row(windows, "loads_found", "loads found", [](const Asked& a) {
    return share_of(a.load_hits, a.load_hits + a.load_misses);
  }));
  rows.push_back(
      row(windows, "bytes_found", "  of the bytes", [](const Asked& a) { return a.bytes_share; }));
  if (now.has("l1_hits_total")) {
    const auto of_loads = [](const Asked& a, std::optional<double> hits) {
      return hits ? share_of(*hits, a.load_hits + a.load_misses) : std::nullopt;
    };
    rows.push_back(row(windows, "loads_found_in_l1", "  in L1",
                       [&](const Asked& a) { return of_loads(a, a.l1_hits); }));
    rows.push_back(row(windows, "loads_found_in_l2", "  in L2",
                       [&](const Asked& a) { return of_loads(a, a.l2_hits); }));
  }
  rows.push_back(row(windows, "missed", "not found", [](const Asked& a) {
    return share_of(a.lookup_misses + a.load_misses, a.all());
  }));
  for (std::size_t i = 0; i < kMissReasonCount; ++i) {
    rows.push_back(row(
        windows, std::string{"missed_"} + kReasons[i].name, std::string{"  "} + kReasons[i].name,
        [i](const Asked& a) { return share_of(a.missed[i], a.all()); }, kReasons[i].note));
  }
}

// --- Rooms and connectors
// -------------------------------------------------------------------------

void add_rooms(const TopHistory& history, const StoreId& store, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  const Scrape* const before = history.since(60);
  const Scrape::Labels labels{{"type", store.type}, {"where", store.where}};
  const auto room = [&](std::string name, std::string_view used, std::string_view capacity) {
    RoomRow row{.name = std::move(name),
                .used = now.sum(used, labels),
                .capacity = now.sum(capacity, labels)};
    // A new store's initial content was not filled in meanwhile.
    if (before != nullptr && before->sum(used, labels) > 0) {
      row.filling_per_s = change_of(now, before, row.used, before->sum(used, labels));
    }
    return row;
  };
  RoomRow whole = room(store.name(), "bytes_used", "capacity_bytes");
  whole.evicted_per_s = rate_of(now, before, "bytes_evicted_total", labels);
  const double keys = store.sum(now, "keys");
  whole.note = format_count(static_cast<std::uint64_t>(std::clamp(keys, 0.0, 1e18)), "key");
  figures.rooms.push_back(std::move(whole));
  if (store.sum(now, "l1_capacity_bytes") > 0) {
    figures.rooms.push_back(room("  its L1", "l1_bytes_used", "l1_capacity_bytes"));
  }
}

WayFigures way_of(const Scrape& now, const Scrape* before, const StoreId& store,
                  std::string_view bytes, std::string_view keys, std::string_view batches) {
  const Scrape::Labels labels{{"type", store.type}, {"where", store.where}};
  WayFigures way{.bytes_per_s = rate_of(now, before, bytes, labels),
                 .keys_per_s = rate_of(now, before, keys, labels)};
  if (before == nullptr) return way;
  const Buckets buckets =
      now.buckets(before, "batch_seconds_bucket",
                  {{"type", store.type}, {"where", store.where}, {"class", batches}});
  way.p50 = quantile_of(buckets, 0.5);
  way.p99 = quantile_of(buckets, 0.99);
  return way;
}

ConnectorRow connector_of(const TopHistory& history, const StoreId& store) {
  const Scrape& now = history.latest().scrape;
  const Scrape* const before = history.previous();
  const Scrape::Labels labels{{"type", store.type}, {"where", store.where}};
  ConnectorRow row{.name = store.name(),
                   .health = store.health,
                   .load = way_of(now, before, store, "bytes_loaded_total", "loads_total", "load"),
                   .store = way_of(now, before, store, "bytes_stored_total", "sets_total", "store"),
                   .lookups_per_s = rate_of(now, before, "lookups_total", labels)};
  for (const char* const name : {"lookup_failures_total", "get_failures_total",
                                 "set_failures_total", "delete_failures_total"}) {
    row.errors += now.sum(name, labels);
    if (before != nullptr) {
      row.errors_now = row.errors_now.value_or(0) + now.increase(*before, name, labels);
    }
  }
  row.queued = now.sum("batches_queued", labels);
  for (const Scrape::Series& series : now.series("oldest_queued_seconds")) {
    if (series.has(labels)) row.oldest_s = std::max(row.oldest_s, series.value);
  }
  return row;
}

}  // namespace

void add_store_figures(const TopHistory& history, TopFigures& figures) {
  for (const StoreId& store : stores_of(history.latest().scrape)) {
    add_rooms(history, store, figures);
    figures.connectors.push_back(connector_of(history, store));
  }
}

void add_process_figures(const TopHistory& history, TopFigures& figures) {
  const Scrape& now = history.latest().scrape;
  for (const StoreId& store : stores_of(now)) {
    // Without a bound there is no estimate.
    if (store.sum(now, "capacity_bytes") <= 0 || store.sum(now, "what_if_asks") <= 0) continue;
    auto row = what_if_of(now, store.name(), "", {{"type", store.type}, {"where", store.where}});
    if (row) figures.what_if.push_back(std::move(*row));
  }
  add_health(now, figures);
  add_shares(history, figures);
  figures.saved = {.unit = "values",
                   .total = now.sum("hits_total"),
                   .per_s = rate_of(now, history.previous(), "hits_total"),
                   .bytes = now.sum("bytes_loaded_total")};
}

}  // namespace larder::tools
