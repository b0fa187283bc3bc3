#include "larder/connector/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "larder/connector/prometheus.h"

namespace larder {
namespace {

using enum MetricKind;

constexpr double kNsPerSecond = 1e9;

/// A common metric with where its values are in a report, one for each of the labels, or one.
struct CommonMetric {
  MetricRow row;
  double (*value)(const Report& report, std::size_t label);
  std::span<const char* const> labels = {};
};

template <std::uint64_t Report::* kMember>
double plain(const Report& report, std::size_t /*label*/) {
  return static_cast<double>(report.*kMember);
}

template <std::uint64_t OpTotals::* kMember, Op kOp>
double total_of(const Report& report, std::size_t /*label*/) {
  return static_cast<double>(report.operation(kOp).total.*kMember);
}

template <Op kOp>
double missed_of(const Report& report, std::size_t /*label*/) {
  return static_cast<double>(report.operation(kOp).total.missed());
}

template <Op kOp>
double missed_by_reason(const Report& report, std::size_t reason) {
  return static_cast<double>(report.operation(kOp).total.misses.at(reason));
}

template <Op kOp>
double failures_of(const Report& report, std::size_t /*label*/) {
  const OpTotals& total = report.operation(kOp).total;
  return static_cast<double>(total.failed + total.rejected);
}

template <Op kOp>
double keys_of(const Report& report, std::size_t /*label*/) {
  return static_cast<double>(report.operation(kOp).total.keys());
}

template <std::uint64_t ClassReport::* kMember>
double by_class(const Report& report, std::size_t index) {
  return static_cast<double>(report.classes.at(index).*kMember);
}

template <std::uint64_t LatencySummary::* kMember>
double latency_of(const Report& report, std::size_t index) {
  return static_cast<double>(report.classes.at(index).latency_last_minute.*kMember) / kNsPerSecond;
}

const OpTotals& last_minute(const Report& report, std::size_t op) {
  return report.operations.at(op).last_minute;
}

/// For a value that is not known yet: it is left out.
constexpr double kNotKnown = std::numeric_limits<double>::quiet_NaN();

constexpr std::span<const char* const> kCapacities{kWhatIfNames};
constexpr std::span<const char* const> kOps{kOpNames};
constexpr std::span<const char* const> kClasses{kBatchClassNames};
constexpr std::span<const char* const> kReasons{kMissReasonNames};

/// Its values are ClassReport::batches_within, so it is written separately.
constexpr MetricRow kLatency{
    "batch_seconds", kHistogram,
    "Time from submit() to the end of a batch's last item, by class, since the store was opened.",
    "class"};

const auto kCommon = std::to_array<CommonMetric>({
    {{"health", kGauge, "0 healthy, 1 degraded, 2 down."},
     [](const Report& report, std::size_t) { return static_cast<double>(report.health); }},
    {{"is_failing", kGauge,
      "1 where a class of operations was asked for within the last minute and nothing of it "
      "worked."},
     [](const Report& report, std::size_t) { return report.is_failing() ? 1.0 : 0.0; }},
    {{"bytes_used", kGauge, "What the capacity counts."}, plain<&Report::bytes_used>},
    {{"capacity_bytes", kGauge, "0: not bounded by larder."}, plain<&Report::capacity_bytes>},
    {{"keys", kGauge, "Keys that are there, as far as the connector knows."}, plain<&Report::keys>},

    {{"lookups_total", kCounter, "Keys that were looked up."}, keys_of<Op::kExists>},
    {{"lookup_hits_total", kCounter, "Keys that a lookup found."},
     total_of<&OpTotals::hits, Op::kExists>},
    {{"lookup_misses_total", kCounter, "Keys that a lookup did not find, by reason.", "reason"},
     missed_by_reason<Op::kExists>,
     kReasons},
    {{"lookup_failures_total", kCounter, "Keys whose lookup failed."}, failures_of<Op::kExists>},
    {{"bytes_found_total", kCounter, "Bytes of the values that lookups found."},
     total_of<&OpTotals::bytes, Op::kExists>},

    {{"loads_total", kCounter, "Keys that were to be loaded."}, keys_of<Op::kGet>},
    {{"hits_total", kCounter, "Keys that were loaded."}, total_of<&OpTotals::hits, Op::kGet>},
    {{"misses_total", kCounter, "Keys that a load did not find."}, missed_of<Op::kGet>},
    {{"load_misses_total", kCounter, "The same by reason.", "reason"},
     missed_by_reason<Op::kGet>,
     kReasons},
    {{"get_failures_total", kCounter, "Keys whose load failed."}, failures_of<Op::kGet>},
    {{"bytes_loaded_total", kCounter, "Bytes of values that were loaded."},
     total_of<&OpTotals::bytes, Op::kGet>},
    {{"bytes_missed_total", kCounter, "Bytes that loads asked for and did not find."},
     total_of<&OpTotals::bytes_missed, Op::kGet>},

    {{"sets_total", kCounter, "Keys that were stored."}, total_of<&OpTotals::done, Op::kSet>},
    {{"sets_existed_total", kCounter,
      "Keys that had a value already, so that a store wrote nothing."},
     total_of<&OpTotals::existed, Op::kSet>},
    {{"set_failures_total", kCounter, "Keys whose store failed."}, failures_of<Op::kSet>},
    {{"bytes_stored_total", kCounter, "Bytes of values that were stored."},
     total_of<&OpTotals::bytes, Op::kSet>},

    {{"deletes_total", kCounter, "Keys that were deleted."},
     total_of<&OpTotals::done, Op::kDelete>},
    {{"delete_misses_total", kCounter, "Keys that a delete did not find."}, missed_of<Op::kDelete>},
    {{"delete_failures_total", kCounter, "Keys whose delete failed."}, failures_of<Op::kDelete>},
    {{"touches_total", kCounter, "Keys that were touched."}, total_of<&OpTotals::done, Op::kTouch>},
    {{"touch_misses_total", kCounter, "Keys that a touch did not find."}, missed_of<Op::kTouch>},
    {{"touch_failures_total", kCounter, "Keys whose touch failed."}, failures_of<Op::kTouch>},

    {{"evictions_total", kCounter, "Keys that went to make room."},
     [](const Report& report, std::size_t) { return static_cast<double>(report.evictions.keys); }},
    {{"bytes_evicted_total", kCounter, "Bytes of their values."},
     [](const Report& report, std::size_t) { return static_cast<double>(report.evictions.bytes); }},

    {{"what_if_hit_rate", kGauge,
      "Share of the keys asked for that would be found with another capacity, least recently used "
      "values going first: estimated, of recent asks, and left out where it is not known yet.",
      "capacity"},
     [](const Report& report, std::size_t index) {
       return report.what_if.points.at(index).hit_rate.value_or(kNotKnown);
     },
     kCapacities},
    {{"what_if_measured_hit_rate", kGauge, "What was found, of the same asks."},
     [](const Report& report, std::size_t) { return report.what_if.measured.value_or(kNotKnown); }},
    {{"what_if_asks", kGauge,
      "Keys looked up (or loaded, where few are looked up) that these rates are of; older ones "
      "count less."},
     [](const Report& report, std::size_t) { return report.what_if.asked; }},

    {{"keys_failed", kGauge,
      "Keys whose load failed: they are misses until they are stored again, or for a while."},
     plain<&Report::keys_failed>},
    {{"keys_failed_dropped_total", kCounter,
      "Of these, what was forgotten before its time for want of room in the list."},
     plain<&Report::keys_failed_dropped>},

    {{"batches_in_flight", kGauge, "Batches that were accepted and have not ended, by class.",
      "class"},
     by_class<&ClassReport::batches_in_flight>,
     kClasses},
    {{"bytes_in_flight", kGauge, "Value bytes of the batches in flight, by class.", "class"},
     by_class<&ClassReport::bytes_in_flight>,
     kClasses},
    {{"batches_queued", kGauge, "Batches in flight of which some items were not begun, by class.",
      "class"},
     by_class<&ClassReport::batches_queued>,
     kClasses},
    {{"oldest_queued_seconds", kGauge, "How long the oldest queued batch has waited, by class.",
      "class"},
     [](const Report& report, std::size_t index) {
       return static_cast<double>(report.classes.at(index).oldest_queued_ns) / kNsPerSecond;
     },
     kClasses},
    {{"batches_refused_total", kCounter, "Batches that found no room, by class.", "class"},
     by_class<&ClassReport::batches_refused>,
     kClasses},

    {{"batches_waited_for_room_total", kCounter,
      "Batches that waited for others to end, as their caller wanted."},
     plain<&Report::batches_waited_for_room>},
    {{"batches_answered_while_down_total", kCounter,
      "Batches that were answered at once, as the storage did not answer: reads with misses, "
      "changes with failures."},
     plain<&Report::batches_answered_while_down>},

    {{"door_refused_total", kCounter,
      "Operations that a door refused: stores that found no room, or came after its end."},
     plain<&Report::refused_by_door>},

    {{"recent_hits", kGauge, "Keys that were found within the last minute, by operation.",
      "operation"},
     [](const Report& report, std::size_t op) {
       return static_cast<double>(last_minute(report, op).hits);
     },
     kOps},
    {{"recent_misses", kGauge, "Keys that were not found within the last minute, by operation.",
      "operation"},
     [](const Report& report, std::size_t op) {
       return static_cast<double>(last_minute(report, op).missed());
     },
     kOps},
    {{"recent_done", kGauge,
      "Keys that were stored (or had a value already), deleted or touched within the last minute, "
      "by operation.",
      "operation"},
     [](const Report& report, std::size_t op) {
       return static_cast<double>(last_minute(report, op).done + last_minute(report, op).existed);
     },
     kOps},
    {{"recent_failures", kGauge,
      "Keys that failed within the last minute, not by their caller's doing, by operation.",
      "operation"},
     [](const Report& report, std::size_t op) {
       return static_cast<double>(last_minute(report, op).failed);
     },
     kOps},
    {{"recent_misses_by_reason", kGauge,
      "Keys that lookups and loads did not find within the last minute, by reason.", "reason"},
     [](const Report& report, std::size_t reason) {
       return static_cast<double>(report.operation(Op::kExists).last_minute.misses.at(reason) +
                                  report.operation(Op::kGet).last_minute.misses.at(reason));
     },
     kReasons},
    {{"recent_bytes", kGauge,
      "Bytes of values that were found, loaded or stored within the last minute, by operation.",
      "operation"},
     [](const Report& report, std::size_t op) {
       return static_cast<double>(last_minute(report, op).bytes);
     },
     kOps},
    {{"recent_batches", kGauge, "Batches that ended within the last minute, by class.", "class"},
     [](const Report& report, std::size_t index) {
       return static_cast<double>(report.classes.at(index).latency_last_minute.batches);
     },
     kClasses},
    {{"recent_p50_seconds", kGauge, "Half of these batches took no longer, by class.", "class"},
     latency_of<&LatencySummary::p50_ns>,
     kClasses},
    {{"recent_p99_seconds", kGauge, "99 of a hundred of them took no longer, by class.", "class"},
     latency_of<&LatencySummary::p99_ns>,
     kClasses},
});

const std::vector<MetricRow>& rows() {
  static const std::vector<MetricRow> made = [] {
    std::vector<MetricRow> all;
    for (const CommonMetric& metric : kCommon) all.push_back(metric.row);
    all.push_back(kLatency);
    return all;
  }();
  return made;
}

/// type="log",where="/data/kv" of each report, made unique, because Prometheus refuses duplicates.
std::vector<std::string> labels_of(std::span<const Report> reports) {
  std::map<std::pair<std::string, std::string>, std::size_t> seen;
  std::vector<std::string> labels;
  for (const Report& report : reports) {
    const std::size_t number = ++seen[{report.type, report.where}];
    const std::string where =
        number == 1 ? report.where : fmt::format("{}#{}", report.where, number);
    labels.push_back(prometheus_label("type", report.type) + "," +
                     prometheus_label("where", where));
  }
  return labels;
}

/// The samples of several reports, metric by metric.
class ReportsWriter {
 public:
  explicit ReportsWriter(std::span<const Report> reports)
      : reports_(reports), labels_(labels_of(reports)) {}

  void common(const CommonMetric& metric) {
    begin(metric.row);
    for (std::size_t i = 0; i < reports_.size(); ++i) {
      if (metric.labels.empty()) sample(labels_[i], metric.value(reports_[i], 0));
      for (std::size_t label = 0; label < metric.labels.size(); ++label) {
        sample(with(i, metric.row.label, metric.labels[label]), metric.value(reports_[i], label));
      }
    }
  }

  void latency() {
    std::array<double, kLatencyBoundsNs.size()> bounds{};
    std::ranges::transform(kLatencyBoundsNs, bounds.begin(), [](std::uint64_t bound_ns) {
      return static_cast<double>(bound_ns) / kNsPerSecond;
    });
    begin(kLatency);
    for (std::size_t i = 0; i < reports_.size(); ++i) {
      for (std::size_t index = 0; index < kBatchClassCount; ++index) {
        const ClassReport& of_class = reports_[i].classes.at(index);
        writer_.histogram(with(i, kLatency.label, kBatchClassNames.at(index)), bounds,
                          of_class.batches_within, of_class.latency.batches,
                          static_cast<double>(of_class.latency.sum_ns) / kNsPerSecond);
      }
    }
  }

  /// The connectors' own counters, each name once.
  void own(std::span<const MetricRow> known) {
    std::set<std::string_view> names;
    for (const Report& report : reports_) {
      for (const Counter& counter : report.counters) names.insert(counter.name);
    }
    for (const std::string_view name : names) {
      const auto row = std::ranges::find(known, name, &MetricRow::name);
      begin(row != known.end() ? *row
                               : MetricRow{name, name.ends_with("_total") ? kCounter : kGauge,
                                           "The connector's own number."});
      for (std::size_t i = 0; i < reports_.size(); ++i) {
        for (const Counter& counter : reports_[i].counters) {
          if (counter.name == name) writer_.sample(labels_[i], static_cast<double>(counter.value));
        }
      }
    }
  }

  std::string take() { return writer_.take(); }

 private:
  void sample(const std::string& labels, double value) {
    if (!std::isnan(value)) writer_.sample(labels, value);
  }
  void begin(const MetricRow& row) {
    writer_.begin(fmt::format("larder_{}", row.name), row.kind, row.help);
  }
  std::string with(std::size_t report, std::string_view label, std::string_view value) const {
    return labels_[report] + "," + prometheus_label(label, value);
  }

  const std::span<const Report> reports_;
  const std::vector<std::string> labels_;
  PrometheusWriter writer_;
};

}  // namespace

const char* metric_kind_name(MetricKind kind) noexcept {
  constexpr std::array<const char*, 3> kNames{"counter", "gauge", "histogram"};
  return kNames.at(static_cast<std::size_t>(kind));
}

std::span<const MetricRow> common_metrics() noexcept {
  return rows();
}

std::vector<Metric> metrics_of(const Report& report) {
  std::vector<Metric> metrics;
  const auto add = [&](std::string_view name, std::string_view label, double value) {
    if (!std::isnan(value)) metrics.push_back({name, label, value});
  };
  for (const CommonMetric& metric : kCommon) {
    if (metric.labels.empty()) add(metric.row.name, {}, metric.value(report, 0));
    for (std::size_t label = 0; label < metric.labels.size(); ++label) {
      add(metric.row.name, metric.labels[label], metric.value(report, label));
    }
  }
  for (const Counter& counter : report.counters) {
    metrics.push_back({counter.name, {}, static_cast<double>(counter.value)});
  }
  return metrics;
}

std::string flat_name(const Metric& metric) {
  if (metric.label_value.empty()) return std::string{metric.name};
  for (const std::string_view suffix : {"_total", "_seconds"}) {
    if (!metric.name.ends_with(suffix)) continue;
    const std::string_view stem = metric.name.substr(0, metric.name.size() - suffix.size());
    return fmt::format("{}_{}{}", stem, metric.label_value, suffix);
  }
  return fmt::format("{}_{}", metric.name, metric.label_value);
}

std::optional<std::uint64_t> metric_value(const Report& report, std::string_view name) {
  const std::vector<Metric> metrics = metrics_of(report);
  const auto found = std::ranges::find(metrics, name, flat_name);
  if (found == metrics.end()) return std::nullopt;
  return static_cast<std::uint64_t>(found->value);
}

std::string prometheus_text(std::span<const Report> reports,
                            std::span<const MetricRow> own_metrics) {
  ReportsWriter writer{reports};
  for (const CommonMetric& metric : kCommon) writer.common(metric);
  writer.latency();
  writer.own(own_metrics);
  return writer.take();
}

}  // namespace larder
