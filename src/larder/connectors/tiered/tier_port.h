#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_set>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connectors/tiered/key_table.h"

namespace larder::tiered {

struct Operation;

/// A batch of `tiered:` to one tier, for some items of an operation.
struct Call {
  Batch batch;
  std::vector<Item> items;
  std::vector<std::uint32_t> parts;  ///< Of the operation, by item.
  Operation* operation = nullptr;
  std::size_t tier = 0;
};

/// A tier's work, in values. Any thread reads it.
struct TierCounters {
  std::atomic<std::uint64_t> hits = 0;  ///< Loads.
  std::atomic<std::uint64_t> misses = 0;
  std::atomic<std::uint64_t> load_failures = 0;
  std::atomic<std::uint64_t> bytes_loaded = 0;
  std::atomic<std::uint64_t> stores = 0;  ///< Written, without values that existed already.
  std::atomic<std::uint64_t> store_failures = 0;
  std::atomic<std::uint64_t> bytes_stored = 0;
};

/// One connector below L1 with two users: the engine, which loads, and stores L1's values; and
/// `tiered:` itself, for other operations: sets that go through, exists, delete, touch. The engine
/// gets a face that is a connector; each finished batch goes to its owner.
///
/// It also tells the key table which keys the engine is storing.
/// Ownership: owns the connector. The face is the engine's and must end first.
/// Threads: one, but the counters. Cost: one look-up in a small table for each batch.
class TierPort {
 public:
  TierPort(std::unique_ptr<Connector> connector, KeyTable& keys);
  ~TierPort();
  TierPort(const TierPort&) = delete;
  TierPort& operator=(const TierPort&) = delete;

  std::unique_ptr<Connector> make_face();
  Connector& connector() const noexcept { return *connector_; }
  const TierCounters& counters() const noexcept { return counters_; }

  /// On an error the call has ended, with results in its items.
  Status submit(Call& call) noexcept;
  /// A hint, for every call of the operation.
  void cancel(const Operation& operation) noexcept;
  /// Moves own calls that have ended to `ended`. True: the engine has something, too.
  bool reap(std::vector<Call*>& ended) noexcept;

 private:
  class Face;

  Status submit_of_engine(Batch& batch) noexcept;
  void note(const Batch& batch) noexcept;

  const std::unique_ptr<Connector> connector_;
  KeyTable& keys_;
  std::unordered_set<Batch*> own_;  ///< In flight.
  std::vector<Batch*> of_engine_;   ///< Ended, and not taken by the face yet.
  TierCounters counters_;
};

}  // namespace larder::tiered
