#include "larder/connectors/fs/counters.h"

namespace larder::fs {

void FsCounters::append_to(std::vector<Counter>& counters) const {
  const auto append = [&](const char* name, const Total& total) {
    counters.push_back({name, total.load(std::memory_order_relaxed)});
  };
  append("deletes_total", deletes);
  append("evictions_total", evictions);
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

}  // namespace larder::fs
