#include "larder/base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "larder/base/check.h"
#include "larder/base/metrics_cells.h"

namespace larder {
namespace {

using internal::CellKind;
using internal::CellTable;

constexpr std::uint32_t kSumCell = LogLinearHistogram::kBuckets;
constexpr std::uint32_t kMaximumCell = kSumCell + 1;
constexpr std::uint32_t kMinimumCell = kSumCell + 2;  // Holds ~minimum, so that 0 is neutral.
static_assert(MetricHistogram::kCells == kMinimumCell + 1);

constexpr std::string_view kKindNames[] = {"counter", "gauge", "histogram"};

bool is_letter(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

/// [a-zA-Z_][a-zA-Z0-9_]*, which Prometheus wants of metrics and labels (a colon is for its rules).
bool is_name(std::string_view text) noexcept {
  return !text.empty() && !is_digit(text.front()) &&
         std::ranges::all_of(text, [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

bool are_legal(const MetricLabels& sorted_labels) noexcept {
  const auto has_same_name = [](const auto& a, const auto& b) { return a.first == b.first; };
  return std::ranges::all_of(sorted_labels,
                             [](const auto& label) {
                               return is_name(label.first) && !label.first.starts_with("__") &&
                                      label.first != "le";
                             }) &&
         std::ranges::adjacent_find(sorted_labels, has_same_name) == sorted_labels.end();
}

std::string escaped(std::string_view text, bool with_quotes) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\\' || (with_quotes && c == '"')) {
      result += '\\';
      result += c;
    } else {
      result += c;
    }
  }
  return result;
}

/// {a="1",b="2"}; `le` is the bound of a histogram's bucket or empty.
std::string label_text(const MetricLabels& labels, std::string_view le = {}) {
  std::string inner;
  for (const auto& [name, value] : labels) {
    fmt::format_to(std::back_inserter(inner), "{}{}=\"{}\"", inner.empty() ? "" : ",", name,
                   escaped(value, true));
  }
  if (!le.empty()) {
    fmt::format_to(std::back_inserter(inner), "{}le=\"{}\"", inner.empty() ? "" : ",", le);
  }
  return inner.empty() ? inner : "{" + inner + "}";
}

std::string in_unit(std::uint64_t value, HistogramUnit unit) {
  if (unit == HistogramUnit::kNanoseconds) {
    return fmt::format("{}", static_cast<double>(value) / 1e9);
  }
  return fmt::format("{}", value);
}

/// The bounds must never change between scrapes. Time: powers of two from 1 us to 69 s; numbers:
/// powers of four up to 1 TiB.
struct Bounds {
  unsigned first_power;
  unsigned last_power;
  unsigned step;
};
constexpr Bounds bounds_of(HistogramUnit unit) noexcept {
  return unit == HistogramUnit::kNanoseconds ? Bounds{10, 36, 1} : Bounds{0, 40, 2};
}

void write_histogram(std::string& text, std::string_view name, const MetricLabels& labels,
                     HistogramUnit unit, const HistogramSnapshot& snapshot) {
  auto out = std::back_inserter(text);
  const Bounds bounds = bounds_of(unit);
  for (unsigned power = bounds.first_power; power <= bounds.last_power; power += bounds.step) {
    const std::uint64_t bound = std::uint64_t{1} << power;
    fmt::format_to(out, "{}_bucket{} {}\n", name, label_text(labels, in_unit(bound, unit)),
                   snapshot.count_at_most(bound));
  }
  fmt::format_to(out, "{}_bucket{} {}\n", name, label_text(labels, "+Inf"), snapshot.count());
  fmt::format_to(out, "{}_sum{} {}\n", name, label_text(labels), in_unit(snapshot.sum(), unit));
  fmt::format_to(out, "{}_count{} {}\n", name, label_text(labels), snapshot.count());
}

}  // namespace

void MetricCounter::add(std::uint64_t n) noexcept {
  internal::WritableCells::from(cell_).add(0, n);
}

std::uint64_t MetricCounter::value() const {
  return CellTable::instance().read(cell_);
}

void MetricHistogram::record(std::uint64_t value) noexcept {
  const auto bucket = static_cast<std::uint32_t>(LogLinearHistogram::bucket_of(value));
  auto cells = internal::WritableCells::from(first_cell_);
  cells.add(kSumCell, value);
  cells.raise(kMaximumCell, value);
  cells.raise(kMinimumCell, ~value);
  cells.add(bucket, 1);
}

HistogramSnapshot MetricHistogram::snapshot() const {
  const auto cells = CellTable::instance().read(first_cell_, kCells);
  HistogramSnapshot result;
  for (std::size_t i = 0; i < LogLinearHistogram::kBuckets; ++i) {
    result.buckets_[i] = cells[i];
    result.count_ += cells[i];
  }
  result.sum_ = cells[kSumCell];
  result.max_ = cells[kMaximumCell];
  result.min_ = ~cells[kMinimumCell];
  return result;
}

MetricsRegistry& MetricsRegistry::global() {
  // Kept for ever, because threads may count while the process ends.
  static MetricsRegistry& registry = *std::make_unique<MetricsRegistry>().release();
  return registry;
}

MetricsRegistry::Family& MetricsRegistry::family(std::string_view name, std::string_view help,
                                                 Kind kind, MetricLabels& labels) {
  std::ranges::sort(labels);
  LARDER_CHECK(is_name(name) && are_legal(labels));
  const auto [position, is_new] = families_.try_emplace(std::string{name});
  Family& family = position->second;
  if (is_new) {
    family.kind = kind;
    family.help = help;
  }
  LARDER_CHECK(family.kind == kind);
  return family;
}

MetricCounter& MetricsRegistry::counter(std::string_view name, std::string_view help,
                                        MetricLabels labels) {
  const MutexLock lock{mutex_};
  auto& counters = family(name, help, Kind::kCounter, labels).counters;
  if (const auto found = counters.find(labels); found != counters.end()) return found->second;
  const std::uint32_t cell = CellTable::instance().allocate({CellKind::kSum});
  return counters.try_emplace(std::move(labels), cell).first->second;
}

MetricGauge& MetricsRegistry::gauge(std::string_view name, std::string_view help,
                                    MetricLabels labels) {
  const MutexLock lock{mutex_};
  return family(name, help, Kind::kGauge, labels).gauges[std::move(labels)];
}

MetricHistogram& MetricsRegistry::histogram(std::string_view name, std::string_view help,
                                            HistogramUnit unit, MetricLabels labels) {
  const MutexLock lock{mutex_};
  Family& owner = family(name, help, Kind::kHistogram, labels);
  if (owner.histograms.empty()) owner.unit = unit;
  LARDER_CHECK(owner.unit == unit);
  if (const auto found = owner.histograms.find(labels); found != owner.histograms.end()) {
    return found->second;
  }
  std::vector<CellKind> kinds(MetricHistogram::kCells, CellKind::kSum);
  kinds[kMaximumCell] = CellKind::kMaximum;
  kinds[kMinimumCell] = CellKind::kMaximum;
  const std::uint32_t first_cell = CellTable::instance().allocate(kinds);
  return owner.histograms.try_emplace(std::move(labels), first_cell).first->second;
}

std::string MetricsRegistry::prometheus_text() const {
  std::string text;
  auto out = std::back_inserter(text);
  const MutexLock lock{mutex_};
  for (const auto& [name, family] : families_) {
    fmt::format_to(out, "# HELP {} {}\n# TYPE {} {}\n", name, escaped(family.help, false), name,
                   kKindNames[static_cast<std::size_t>(family.kind)]);
    for (const auto& [labels, counter] : family.counters) {
      fmt::format_to(out, "{}{} {}\n", name, label_text(labels), counter.value());
    }
    for (const auto& [labels, gauge] : family.gauges) {
      fmt::format_to(out, "{}{} {}\n", name, label_text(labels), gauge.value());
    }
    for (const auto& [labels, histogram] : family.histograms) {
      write_histogram(text, name, labels, family.unit, histogram.snapshot());
    }
  }
  return text;
}

}  // namespace larder
