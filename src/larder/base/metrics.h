#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/base/histogram.h"
#include "larder/base/mutex.h"

namespace larder {

/// Name and value pairs that a metric carries for ever, e.g. {{"op", "get"}}. Values come from
/// enums only, never from keys or users: each combination costs memory in every scrape.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

/// A total that only grows. add() is wait-free on a cell of the calling thread (about 2 ns, no
/// cache line shared with another thread); value() visits every thread's cell. Any thread. What a
/// thread counted stays when it ends.
class MetricCounter {
 public:
  explicit MetricCounter(std::uint32_t cell) noexcept : cell_(cell) {}
  ~MetricCounter() = default;
  MetricCounter(const MetricCounter&) = delete;
  MetricCounter& operator=(const MetricCounter&) = delete;

  void add(std::uint64_t n = 1) noexcept;
  std::uint64_t value() const;  ///< Never less than what an earlier call returned.

 private:
  const std::uint32_t cell_;
};

/// A number that goes up and down. One atomic; for things that change rarely. Any thread.
class MetricGauge {
 public:
  void set(std::int64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  void add(std::int64_t difference) noexcept {
    value_.fetch_add(difference, std::memory_order_relaxed);
  }
  std::int64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_ = 0;
};

/// A distribution with log-linear buckets. record() is wait-free on cells of the calling thread;
/// the first one of a thread allocates 8 KiB. A snapshot taken while others record may have counted
/// a value that its sum does not have yet. Any thread.
class MetricHistogram {
 public:
  /// Buckets, then sum, maximum, and the complement of the minimum.
  static constexpr std::uint32_t kCells = LogLinearHistogram::kBuckets + 3;

  explicit MetricHistogram(std::uint32_t first_cell) noexcept : first_cell_(first_cell) {}
  ~MetricHistogram() = default;
  MetricHistogram(const MetricHistogram&) = delete;
  MetricHistogram& operator=(const MetricHistogram&) = delete;

  void record(std::uint64_t value) noexcept;
  HistogramSnapshot snapshot() const;

 private:
  const std::uint32_t first_cell_;
};

/// What a histogram's values are, and so how Prometheus sees them.
enum class HistogramUnit : std::uint8_t {
  kAsRecorded = 0,  ///< Bytes, keys, ...: exported as they are.
  kNanoseconds,     ///< Recorded in nanoseconds, exported in seconds: name it `..._seconds`.
};

/// Every metric by name and labels. Registering is slow (a lock, a map): do it once, keep the
/// reference, which is good as long as the registry. The same name and labels give the same metric;
/// a name of another kind, or one that Prometheus would refuse, is a bug and aborts. Any thread.
///
/// Cells are never given back, and there are half a million: a process uses global(), tests a few
/// of their own.
class MetricsRegistry {
 public:
  static MetricsRegistry& global();

  MetricCounter& counter(std::string_view name, std::string_view help, MetricLabels labels = {});
  MetricGauge& gauge(std::string_view name, std::string_view help, MetricLabels labels = {});
  MetricHistogram& histogram(std::string_view name, std::string_view help, HistogramUnit unit,
                             MetricLabels labels = {});

  /// Everything in Prometheus' text format 0.0.4, in order of name and labels.
  std::string prometheus_text() const LARDER_EXCLUDES(mutex_);

 private:
  enum class Kind : std::uint8_t { kCounter, kGauge, kHistogram };

  /// The metrics of one name; only the map of its kind has entries.
  struct Family {
    Kind kind = Kind::kCounter;
    HistogramUnit unit = HistogramUnit::kAsRecorded;
    std::string help;
    std::map<MetricLabels, MetricCounter> counters;
    std::map<MetricLabels, MetricGauge> gauges;
    std::map<MetricLabels, MetricHistogram> histograms;
  };

  Family& family(std::string_view name, std::string_view help, Kind kind, MetricLabels& labels)
      LARDER_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, Family, std::less<>> families_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder
