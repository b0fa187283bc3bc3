#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/histogram.h"
#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/connector/connector.h"
#include "larder/connector/load_model.h"
#include "larder/connector/report.h"

namespace larder {

/// Counts what callers got from a connector, since it was opened and within the last minute: keys
/// by operation and outcome, misses by reason, bytes, and how long batches took. Derives the
/// connector's health from that, by one rule for all connectors.
///
/// A class of operations (lookups, loads, stores) is in trouble when at least one in twenty of its
/// keys failed within the last minute, until it has worked for ten seconds without a failure. A
/// class in trouble degrades the report and is named there with its last error. A connector has
/// further reasons of its own (a peer that is gone, a disk that stalls); this one follows from the
/// outcomes alone, so a connector that fails its callers cannot look healthy.
///
/// Keys are counted by second over one minute; latencies in six parts of ten seconds, which cover
/// 50 to 60 seconds.
/// Threads: any. Cost: one pass over the items and one short lock per batch; 180 KiB.
class Statistics {
 public:
  explicit Statistics(const Clock& clock);

  /// Call it once for each batch, when every item has its outcome, before the batch is handed back.
  /// It was submitted at `batch.connector_submitted_ns`.
  void note(const Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  /// Lookups that were answered from memory, without a batch; they have no latency.
  void note_probe(std::span<const Item> items) noexcept LARDER_EXCLUDES(mutex_);
  /// The expected time of a load of this cost, behind the loads under way: see LoadModel.
  std::uint64_t load_ns(std::uint64_t cost) const noexcept LARDER_EXCLUDES(mutex_);
  /// Sets `operations` and the latencies of `classes`; adds a reason for each class in trouble, and
  /// degrades the health.
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);

 private:
  static constexpr std::size_t kSeconds = 60;
  static constexpr std::size_t kParts = 6;
  struct Second {
    std::uint64_t number = 0;  ///< The clock's second that the slot belongs to; another number
                               ///< means that the slot is stale.
    std::array<OpTotals, kOpCount> totals;
  };
  /// The latencies of a part of the minute, or since the beginning.
  struct Latencies {
    std::uint64_t number = 0;  ///< Like Second::number.
    std::array<LogLinearHistogram, kBatchClassCount> by_class;
  };
  struct Latest {
    std::uint64_t succeeded_ns = 0;
    std::uint64_t failed_ns = 0;
    Error error;
  };

  void add(Op op, const OpTotals& totals, const Error& last_error, std::uint64_t now_ns) noexcept
      LARDER_REQUIRES(mutex_);
  void append_totals(Report& report, std::uint64_t now_ns) const LARDER_REQUIRES(mutex_);
  void judge(Report& report, std::uint64_t now_ns) const LARDER_REQUIRES(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  std::array<OpTotals, kOpCount> totals_ LARDER_GUARDED_BY(mutex_);
  std::array<Latest, kBatchClassCount> latest_ LARDER_GUARDED_BY(mutex_);
  std::vector<Second> seconds_ LARDER_GUARDED_BY(mutex_);
  Latencies latencies_ LARDER_GUARDED_BY(mutex_);
  std::vector<Latencies> parts_ LARDER_GUARDED_BY(mutex_);
  LoadModel loads_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder
