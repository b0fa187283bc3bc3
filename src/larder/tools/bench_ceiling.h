#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/tools/bench.h"
#include "larder/tools/progress.h"

namespace larder::tools {

/// The baseline of a benchmark's figures, measured in turn with them.
class BenchCeiling {
 public:
  virtual ~BenchCeiling() = default;
  /// For people, e.g. "fio io_uring, depth 32".
  virtual std::string label() const = 0;
  /// One measurement over as many bytes as a pass of ours.
  virtual SetupResult<CeilingPass> measure() = 0;
};

/// fio in `directory`, over a file as large as a pass and in the same state (written before, or for
/// a first turn never written), with the fastest of fio's engines for this block size and
/// direction: `search` gets the result of each. A latency benchmark is held against one thread at
/// depth 1. `stop` ends the search early; the ceiling is then of no use.
SetupResult<std::unique_ptr<BenchCeiling>> make_fio_ceiling(
    const BenchOptions& options, const std::string& directory, std::uint64_t value_bytes,
    std::uint64_t keys, bool has_huge_pages, std::map<std::string, double>& search,
    Progress& progress, const std::atomic<bool>& stop);

/// Whether fio can get huge pages for this benchmark; if not, how many would have to be reserved.
std::optional<std::uint64_t> huge_pages_missing(const BenchOptions& options,
                                                std::uint64_t value_bytes);

/// memcpy by one thread, from memory larger than the caches.
SetupResult<std::unique_ptr<BenchCeiling>> make_memcpy_ceiling(std::uint64_t value_bytes,
                                                               std::uint64_t keys);

}  // namespace larder::tools
