#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "larder/connector/metrics.h"

namespace larder::log_store {

/// A number that the path's thread alone changes and any thread may read.
class PathCounter {
 public:
  void add(std::uint64_t by = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  void set(std::uint64_t to) noexcept { value_.store(to, std::memory_order_relaxed); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

/// A path's counters besides those of its intake. The name in report() is the member's name; totals
/// end in _total.
struct PathCounters {
  PathCounter sets_refused_total;
  PathCounter bytes_staged_total, bytes_readmitted_total;
  PathCounter records_readmitted_total, records_evicted_total, bytes_evicted_total;
  PathCounter records_not_written_total, bytes_not_written_total;
  PathCounter segments_sealed_total, segments_reclaimed_total, segments_given_back_total;
  PathCounter segments_reclaimed_early_total;
  PathCounter corruptions_total, io_errors_total, no_space_total, sync_failures_total, syncs_total;
  PathCounter stalls_total;
  PathCounter index_walks_total;
  PathCounter segments_set_aside, segments_failed, segments_free, segments_used;
  PathCounter segments_sealing, segments_reclaiming;
  PathCounter transfers_in_flight, bytes_on_disk, bytes_live;
  PathCounter recovered_records, recovered_by_scan;
  PathCounter retained_keys, retained_bytes, retentions_refused_total, retentions_lost_total;

  /// Calls visit(name, value) for each that only a log store has, in the order of declaration.
  template <class Visitor>
  void for_each(Visitor&& visit) const {
#define LARDER_VISIT(name) visit(std::string_view{#name}, (name).value())
    LARDER_VISIT(sets_refused_total);
    LARDER_VISIT(bytes_staged_total);
    LARDER_VISIT(bytes_readmitted_total);
    LARDER_VISIT(records_readmitted_total);
    LARDER_VISIT(records_evicted_total);
    LARDER_VISIT(records_not_written_total);
    LARDER_VISIT(bytes_not_written_total);
    LARDER_VISIT(segments_sealed_total);
    LARDER_VISIT(segments_reclaimed_total);
    LARDER_VISIT(segments_reclaimed_early_total);
    LARDER_VISIT(segments_given_back_total);
    LARDER_VISIT(corruptions_total);
    LARDER_VISIT(io_errors_total);
    LARDER_VISIT(no_space_total);
    LARDER_VISIT(sync_failures_total);
    LARDER_VISIT(syncs_total);
    LARDER_VISIT(stalls_total);
    LARDER_VISIT(index_walks_total);
    LARDER_VISIT(segments_set_aside);
    LARDER_VISIT(segments_failed);
    LARDER_VISIT(segments_free);
    LARDER_VISIT(segments_used);
    LARDER_VISIT(segments_sealing);
    LARDER_VISIT(segments_reclaiming);
    LARDER_VISIT(transfers_in_flight);
    LARDER_VISIT(bytes_on_disk);
    LARDER_VISIT(bytes_live);
    LARDER_VISIT(recovered_records);
    LARDER_VISIT(recovered_by_scan);
    LARDER_VISIT(retained_keys);
    LARDER_VISIT(retained_bytes);
    LARDER_VISIT(retentions_refused_total);
    LARDER_VISIT(retentions_lost_total);
#undef LARDER_VISIT
  }
};

/// Their meaning.
std::span<const MetricRow> path_metrics() noexcept;

}  // namespace larder::log_store
