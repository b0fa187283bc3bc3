#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/connector/connector.h"
#include "larder/connector/report.h"

namespace larder {

/// What callers got within the last minute, and what that says about a connector's health: one rule
/// for all of them.
///
/// A class of operations (lookups, loads, stores) is in trouble when at least one in twenty of its
/// keys failed within the last minute, until it has worked for ten seconds without a failure. A
/// class in trouble degrades the report and is named there with its last error. A connector knows
/// more reasons of its own (a peer that is gone, a disk that stalls); this one follows from the
/// outcomes alone, so no connector can fail its callers and look healthy.
///
/// Threads: any. Cost: one pass over the items and one short lock per batch.
class OutcomeWindow {
 public:
  explicit OutcomeWindow(const Clock& clock = RealClock::instance()) noexcept : clock_(clock) {}

  /// Call it once for each batch, when every item has its outcome, before the batch is handed back.
  void note(const Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  /// Sets `report.recent`; adds a reason for each class in trouble, and degrades the health.
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);

 private:
  static constexpr std::size_t kSeconds = 60;
  struct Second {
    std::uint64_t number = 0;  ///< Of the clock; the slot is another second's otherwise.
    std::array<RecentOutcomes, kBatchClassCount> outcomes;
  };
  struct Latest {
    std::uint64_t succeeded_ns = 0;
    std::uint64_t failed_ns = 0;
    Error error;
  };

  const Clock& clock_;
  mutable Mutex mutex_;
  std::array<Second, kSeconds> seconds_ LARDER_GUARDED_BY(mutex_);
  std::array<Latest, kBatchClassCount> latest_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder
