#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/connector/connector.h"
#include "larder/tools/bench.h"
#include "larder/tools/disk_stats.h"
#include "larder/tools/progress.h"
#include "larder/tools/workload.h"

namespace larder::tools {

/// The phases of a benchmark over one connector and one size of value: keeps `in_flight` batches of
/// `batch` keys in flight and counts their results. Keys are numbers, assigned in order; loads use
/// the newest `window` of them.
///
/// Ownership: the connector is the caller's and outlives this. Threads: one.
class BenchPhases {
 public:
  /// Whether a connector with these limits accepts the stores that the options ask for.
  static SetupStatus check_shape(const BenchOptions& options, std::uint64_t value_bytes,
                                 std::uint64_t value_bytes_max, std::size_t slices_max);

  static SetupResult<std::unique_ptr<BenchPhases>> create(
      const BenchOptions& options, std::uint64_t value_bytes, Connector& connector,
      std::optional<Disk> disk, bool has_huge_pages, const std::atomic<bool>& stop);

  ~BenchPhases();
  BenchPhases(const BenchPhases&) = delete;
  BenchPhases& operator=(const BenchPhases&) = delete;

  /// Stores `keys` new keys.
  BenchPass store(std::uint64_t keys, Progress& progress);
  /// Loads the newest `keys` keys once each, in random order.
  BenchPass load(std::uint64_t keys, Progress& progress);
  /// `keys` keys: batches of loads among the newest `window` and batches of stores.
  BenchPass mixed(std::uint64_t keys, std::uint64_t window, Progress& progress);
  /// `keys` keys, half of them never stored; with stores beside it when the options say so.
  BenchPass exists(std::uint64_t keys, std::uint64_t window, Progress& progress);
  /// Marks a random share of the newest `window` keys as read.
  void touch(std::uint64_t window, std::uint32_t percent, Progress& progress);
  /// Removes every key of this run, also after a stop.
  void remove_all(Progress& progress);

  std::uint64_t keys_stored() const noexcept { return next_key_; }

 private:
  struct Slot;
  /// The next task of a slot; false: none.
  using NextBatch = std::function<bool(Slot&)>;

  BenchPhases(const BenchOptions& options, std::uint64_t value_bytes, Connector& connector,
              std::optional<Disk> disk, const std::atomic<bool>& stop, ValueBuffers stores,
              ValueBuffers loads);

  BenchPass run(const NextBatch& next, std::uint64_t keys_total, Progress& progress);
  void start(Slot& slot, const NextBatch& next, BenchPass& pass);
  void submit(Slot& slot, BenchPass& pass);
  void end(Slot& slot, BenchPass& pass);
  void check_loaded(const Slot& slot, std::size_t index, BenchPass& pass);
  void check_whole_values(BenchPass& pass);
  void set_keys(Slot& slot, Op op, std::vector<std::uint64_t> numbers);
  void set_new_keys(Slot& slot, std::uint64_t count);
  std::uint64_t random_known_key(std::uint64_t window);

  const BenchOptions options_;
  const std::uint64_t value_bytes_;
  Connector& connector_;
  const std::optional<Disk> disk_;
  const std::atomic<bool>& stop_;
  const std::string run_;  ///< Part of every key.
  ValueBuffers stores_;
  ValueBuffers loads_;
  Random random_{1};
  std::uint64_t next_key_ = 0;
  std::uint32_t in_flight_ = 0;
  bool ignores_stop_ = false;
  std::uint64_t keys_done_ = 0;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace larder::tools
