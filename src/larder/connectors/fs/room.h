#pragma once

#include <cstdint>

#include "larder/base/result.h"
#include "larder/connectors/fs/change_gate.h"
#include "larder/connectors/fs/counters.h"
#include "larder/connectors/fs/directory.h"
#include "larder/connectors/fs/error_latch.h"
#include "larder/connectors/fs/file_system_facts.h"
#include "larder/connectors/fs/inventory.h"
#include "larder/connectors/fs/options.h"

namespace larder::fs {

/// Makes room for a store: within the capacity, and on the file system above min_free. The oldest
/// files go first.
///
/// Ownership: none; its parts outlive it. Threads: any.
class Room {
 public:
  /// `errors` records old files that cannot be removed.
  Room(const FsOptions& options, const FileSystemFacts& facts, FsCounters& counters,
       Inventory& inventory, ErrorLatch& errors)
      : options_(options),
        facts_(facts),
        counters_(counters),
        inventory_(inventory),
        errors_(errors) {}

  /// Reserves room for a file; the caller returns it to the inventory if it does not store one.
  /// Returns how much was reserved; 0 where files are not counted.
  Result<std::uint64_t> reserve(const Directory& directory, std::uint64_t file_bytes,
                                ChangeGate& gate);
  /// Removes the oldest file. False when none can be removed now.
  bool evict_one(const Directory& directory, ChangeGate& gate);
  /// Removes files until the bytes used are within the capacity.
  void evict_to_capacity(const Directory& directory);

 private:
  bool lacks_free_space(const Directory& directory, std::uint64_t bytes) const;

  const FsOptions& options_;
  const FileSystemFacts& facts_;
  FsCounters& counters_;
  Inventory& inventory_;
  ErrorLatch& errors_;
};

}  // namespace larder::fs
