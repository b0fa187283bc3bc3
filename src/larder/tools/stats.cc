#include "larder/tools/stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connector/metrics.h"
#include "larder/connector/op.h"
#include "larder/tools/metric_samples.h"

namespace larder::tools {
namespace {

std::uint64_t whole(double value) {
  return value > 0 ? static_cast<std::uint64_t>(std::llround(value)) : 0;
}

std::string percent(double part, double all) {
  return all > 0 ? fmt::format("{:.1f} %", 100 * part / all) : "-";
}

std::string in_seconds(double seconds) {
  return seconds > 0 ? format_duration_ns(whole(seconds * 1e9)) : "-";
}

double lookups_missed(const StoreNumbers& store) {
  double sum = 0;
  for (const char* const reason : kMissReasonNames) sum += store.of("lookup_misses_total", reason);
  return sum;
}

/// "absent 12, late 3".
std::string reasons_text(const StoreNumbers& store, std::string_view name) {
  std::string text;
  for (const char* const reason : kMissReasonNames) {
    const double count = store.of(name, reason);
    if (count > 0) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reason, whole(count));
    }
  }
  return text;
}

void line(std::string& text, std::string_view name, std::string_view all, std::string_view recent) {
  text += fmt::format("  {:<11}{:<52}{}", name, all, recent);
  text.erase(text.find_last_not_of(' ') + 1);
  text += '\n';
}

std::string operations_text(const StoreNumbers& store) {
  const auto of = [&](std::string_view name, std::string_view label = {}) {
    return store.of(name, label);
  };
  std::string text;
  line(text, "", "since it was opened", "last minute");
  line(
      text, "lookups",
      fmt::format("{} keys, {} found, {} failed", whole(of("lookups_total")),
                  percent(of("lookup_hits_total"), of("lookup_hits_total") + lookups_missed(store)),
                  whole(of("lookup_failures_total"))),
      fmt::format("{} found, {} not, {} failed", whole(of("recent_hits", "lookup")),
                  whole(of("recent_misses", "lookup")), whole(of("recent_failures", "lookup"))));
  line(text, "", reasons_text(store, "lookup_misses_total").insert(0, "not found: "), "");
  line(text, "loads",
       fmt::format("{} keys, {} found, {}, {} failed", whole(of("loads_total")),
                   percent(of("hits_total"), of("hits_total") + of("misses_total")),
                   format_bytes(whole(of("bytes_loaded_total"))), whole(of("get_failures_total"))),
       fmt::format("{} found, {} not, {} failed", whole(of("recent_hits", "load")),
                   whole(of("recent_misses", "load")), whole(of("recent_failures", "load"))));
  line(text, "",
       fmt::format(
           "{} of the bytes; not found: {}",
           percent(of("bytes_loaded_total"), of("bytes_loaded_total") + of("bytes_missed_total")),
           reasons_text(store, "load_misses_total")),
       "");
  line(text, "stores",
       fmt::format("{} keys, {}, {} there before, {} failed", whole(of("sets_total")),
                   format_bytes(whole(of("bytes_stored_total"))), whole(of("sets_existed_total")),
                   whole(of("set_failures_total"))),
       fmt::format("{} stored, {} failed", whole(of("recent_done", "store")),
                   whole(of("recent_failures", "store"))));
  line(text, "deletes",
       fmt::format("{} keys, {} not there, {} failed", whole(of("deletes_total")),
                   whole(of("delete_misses_total")), whole(of("delete_failures_total"))),
       fmt::format("{} deleted", whole(of("recent_done", "delete"))));
  line(text, "evicted",
       fmt::format("{} keys, {}", whole(of("evictions_total")),
                   format_bytes(whole(of("bytes_evicted_total")))),
       "");
  const std::string recent = reasons_text(store, "recent_misses_by_reason");
  if (!recent.empty()) line(text, "", "", "not found: " + recent);
  return text;
}

std::string classes_text(const StoreNumbers& store) {
  std::string text =
      fmt::format("  {:<11}{:>10}{:>10}{:>14}{:>12}{:>12}{:>12}\n", "batches", "in flight",
                  "queued", "oldest waits", "last minute", "p50", "p99");
  for (const char* const name : kBatchClassNames) {
    text += fmt::format(
        "    {:<9}{:>10}{:>10}{:>14}{:>12}{:>12}{:>12}\n", name,
        whole(store.of("batches_in_flight", name)), whole(store.of("batches_queued", name)),
        in_seconds(store.of("oldest_queued_seconds", name)),
        whole(store.of("recent_batches", name)), in_seconds(store.of("recent_p50_seconds", name)),
        in_seconds(store.of("recent_p99_seconds", name)));
  }
  return text;
}

std::string head_text(const StoreNumbers& store) {
  constexpr std::array<const char*, 3> kHealth{"healthy", "degraded", "DOWN"};
  const std::uint64_t health = std::min<std::uint64_t>(2, whole(store.of("health")));
  const double capacity = store.of("capacity_bytes");
  return fmt::format("{}{}{}: {}, {}, {}{}\n", printable(store.type),
                     store.where.empty() ? "" : " ", printable(store.where), kHealth.at(health),
                     format_count(whole(store.of("keys")), "key"),
                     format_bytes(whole(store.of("bytes_used"))),
                     capacity > 0 ? " of " + format_bytes(whole(capacity)) : std::string{});
}

}  // namespace

double StoreNumbers::of(std::string_view name, std::string_view label_value) const {
  const auto found = values.find({std::string{name}, std::string{label_value}});
  return found == values.end() || std::isnan(found->second) ? 0 : found->second;
}

SetupResult<std::vector<StoreNumbers>> parse_metrics(std::string_view text) {
  LARDER_ASSIGN(std::vector<MetricSample> samples, read_samples(text));
  std::vector<StoreNumbers> stores;
  for (MetricSample& sample : samples) {
    auto& labels = sample.labels;
    // Not of a store: another larder's own metrics. A histogram: its quantiles are there too.
    if (!labels.contains("type") || labels.contains("le")) continue;
    const std::string type = labels["type"];
    const std::string where = labels["where"];
    labels.erase("type");
    labels.erase("where");
    auto store = std::ranges::find_if(stores, [&](const StoreNumbers& known) {
      return known.type == type && known.where == where;
    });
    if (store == stores.end()) {
      stores.push_back({.type = type, .where = where, .values = {}});
      store = std::prev(stores.end());
    }
    store->values[{sample.name, labels.empty() ? std::string{} : labels.begin()->second}] =
        sample.value;
  }
  return stores;
}

std::string stats_text(const std::vector<StoreNumbers>& stores) {
  if (stores.empty()) return "no store is open there\n";
  std::string text;
  for (const StoreNumbers& store : stores) {
    text += text.empty() ? "" : "\n";
    text += head_text(store) + operations_text(store) + classes_text(store);
  }
  return text;
}

std::string stats_json(const std::vector<StoreNumbers>& stores) {
  nlohmann::json all = nlohmann::json::array();
  for (const StoreNumbers& store : stores) {
    nlohmann::json numbers = nlohmann::json::object();
    for (const auto& [name, value] : store.values) {
      numbers[flat_name({.name = name.first, .label_value = name.second})] = value;
    }
    const auto rate = [](double hits, double misses) -> nlohmann::json {
      if (hits + misses <= 0) return nullptr;
      return hits / (hits + misses);
    };
    all.push_back({{"type", store.type},
                   {"where", store.where},
                   {"lookup_hit_rate", rate(store.of("lookup_hits_total"), lookups_missed(store))},
                   {"load_hit_rate", rate(store.of("hits_total"), store.of("misses_total"))},
                   {"load_hit_rate_of_bytes",
                    rate(store.of("bytes_loaded_total"), store.of("bytes_missed_total"))},
                   {"metrics", std::move(numbers)}});
  }
  const nlohmann::json result{{"ok", true}, {"stores", std::move(all)}};
  return result.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace larder::tools
