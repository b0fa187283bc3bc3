#include "larder/connectors/fs/counters.h"

#include <array>

namespace larder::fs {

void FsCounters::append_report(Report& report) const {
  const auto append = [&](const char* name, const Total& total) {
    report.counters.push_back({name, total.load(std::memory_order_relaxed)});
  };
  report.evictions = {.keys = evictions.load(std::memory_order_relaxed),
                      .bytes = bytes_evicted.load(std::memory_order_relaxed)};
  append("bytes_staged_total", bytes_staged);
  append("corruptions_total", corruptions);
  append("files_wrong_size_total", files_wrong_size);
  append("files_not_regular_total", files_not_regular);
  append("files_repaired_total", files_repaired);
  append("legacy_hits_total", legacy_hits);
  append("temporaries_swept_total", temporaries_swept);
  append("direct_fallbacks_total", direct_fallbacks);
  append("directory_returns_total", directory_returns);
  append("calls_abandoned_total", calls_abandoned);
}

std::span<const MetricRow> fs_metrics() noexcept {
  using enum MetricKind;
  static constexpr auto kRows = std::to_array<MetricRow>({
      {"bytes_staged_total", kCounter,
       "Bytes that had to be copied, for direct I/O or for staging."},
      {"corruptions_total", kCounter, "Values whose checksum did not fit, or was not there."},
      {"files_wrong_size_total", kCounter,
       "Files that were shorter or longer than what was asked for."},
      {"files_not_regular_total", kCounter,
       "Links, directories and others in the place of a value."},
      {"files_repaired_total", kCounter, "Such ones that a store replaced."},
      {"legacy_hits_total", kCounter, "Loads and lookups that found an older LMCache's name."},
      {"temporaries_swept_total", kCounter, "Files that were removed, as their writers had died."},
      {"direct_fallbacks_total", kCounter, "Transfers that O_DIRECT refused."},
      {"directory_returns_total", kCounter, "Times that the directory was made or opened again."},
      {"calls_abandoned_total", kCounter, "Calls that were given up at their deadline."},
      {"bytes_loading", kGauge, "Value bytes of the loads that are being read."},
      {"calls_hung", kGauge, "Calls that the file system does not answer."},
  });
  return kRows;
}

}  // namespace larder::fs
