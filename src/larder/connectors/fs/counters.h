#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "larder/connector/metrics.h"
#include "larder/connector/report.h"

namespace larder::fs {

/// Totals since opening, beside those of the intake. Any thread; relaxed, because each counter
/// stands alone.
struct FsCounters {
  using Total = std::atomic<std::uint64_t>;
  Total evictions = 0;
  Total bytes_evicted = 0;
  Total bytes_staged = 0;       ///< Copied, because direct I/O or staging asked for it.
  Total corruptions = 0;        ///< Values whose checksum is wrong or missing.
  Total files_wrong_size = 0;   ///< Files shorter or longer than the requested size.
  Total files_not_regular = 0;  ///< Links, directories, ... where a value should be.
  Total files_repaired = 0;     ///< Such ones that a store replaced.
  Total legacy_hits = 0;        ///< Loads and lookups that found the legacy name.
  Total temporaries_swept = 0;  ///< Left over by writers that died.
  Total direct_fallbacks = 0;   ///< Transfers that O_DIRECT refused.
  Total directory_returns = 0;  ///< The base directory was created or opened again.
  Total calls_abandoned = 0;    ///< Staged calls given up at their deadline.

  static void add(Total& total, std::uint64_t n = 1) noexcept {
    total.fetch_add(n, std::memory_order_relaxed);
  }
  void append_report(Report& report) const;
};

/// Their meaning, and that of the numbers of the lanes.
std::span<const MetricRow> fs_metrics() noexcept;

}  // namespace larder::fs
