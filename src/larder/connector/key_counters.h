#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connector/report.h"

namespace larder {

/// What became of the keys of loads and stores, in total: hits, misses, stores, failures, and the
/// bytes of values, under the names that every connector's report has.
///
/// Threads: any. Cost: one pass over the items and a few atomic additions per batch.
class KeyCounters {
 public:
  /// Once for each batch that is finished.
  void note(const Batch& batch) noexcept;
  void append(std::vector<Counter>& counters) const;

 private:
  enum Name : std::size_t {
    kHits,
    kMisses,
    kGetFailures,
    kSets,
    kSetsExisted,
    kSetFailures,
    kBytesLoaded,
    kBytesStored,
    kNames
  };
  std::array<std::atomic<std::uint64_t>, kNames> totals_{};
};

}  // namespace larder
