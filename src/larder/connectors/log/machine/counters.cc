#include "larder/connectors/log/machine/counters.h"

#include <array>

namespace larder::log_store {

std::span<const MetricRow> path_metrics() noexcept {
  using enum MetricKind;
  static constexpr auto kRows = std::to_array<MetricRow>({
      {"sets_refused_total", kCounter, "Stores that found no free segment."},
      {"bytes_staged_total", kCounter,
       "Bytes that had to be copied, as a buffer or its size was not aligned."},
      {"bytes_readmitted_total", kCounter,
       "Bytes of values that were moved to the head, as they were worth it."},
      {"records_readmitted_total", kCounter, "These values."},
      {"records_evicted_total", kCounter, "The older name of evictions_total."},
      {"records_not_written_total", kCounter,
       "Stores that were answered and not written, as they were not worth it (admission=learned)."},
      {"bytes_not_written_total", kCounter, "Bytes of their values."},
      {"segments_sealed_total", kCounter, "Segments that were filled and closed."},
      {"segments_reclaimed_total", kCounter, "Segments that were emptied for their next use."},
      {"segments_reclaimed_early_total", kCounter,
       "Those of them that were not the oldest: their values were worth least."},
      {"segments_given_back_total", kCounter,
       "Segments whose files were removed, as the file system had less than min_free left."},
      {"corruptions_total", kCounter,
       "Records that failed their proof; each was answered as a failure, never as a hit."},
      {"io_errors_total", kCounter, "Transfers that the kernel said failed."},
      {"no_space_total", kCounter, "Writes that found no room in the file system or quota."},
      {"sync_failures_total", kCounter, "Syncs that failed."},
      {"syncs_total", kCounter, "Syncs."},
      {"stalls_total", kCounter, "Times that the disk did not answer within stall_after."},
      {"index_walks_total", kCounter,
       "Walks over the whole index, where a segment's table could not tell its keys."},
      {"segments_set_aside", kGauge, "Files that did not count at open, and are not used."},
      {"segments_failed", kGauge, "Segments that cannot be used again in this run."},
      {"segments_free", kGauge, "Segments that can be overwritten or made."},
      {"segments_used", kGauge, "Segments with records."},
      {"segments_sealing", kGauge, "Segments on their way from full to closed."},
      {"segments_reclaiming", kGauge, "Segments that are being emptied."},
      {"transfers_in_flight", kGauge, "Reads, writes and syncs that the kernel has."},
      {"bytes_on_disk", kGauge, "Bytes of the segments' files."},
      {"bytes_live", kGauge, "Bytes of values that can be loaded."},
      {"recovered_records", kGauge, "Records that the open found."},
      {"recovered_by_scan", kGauge, "Segments that the open had to read record by record."},
      {"retained_keys", kGauge, "Keys that are retained."},
      {"retained_bytes", kGauge, "Bytes of their values."},
      {"retentions_refused_total", kCounter,
       "Retentions that were refused, as they have all that they may take (pins=)."},
      {"retentions_lost_total", kCounter,
       "Retained values that had to be evicted all the same, as stores needed the room."},
      {"index_bytes", kGauge, "Memory of the index."},
  });
  return kRows;
}

}  // namespace larder::log_store
