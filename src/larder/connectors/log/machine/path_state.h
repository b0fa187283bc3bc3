#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "larder/base/clock.h"
#include "larder/connector/intake.h"
#include "larder/connectors/log/index/index.h"
#include "larder/connectors/log/index/key_guard.h"
#include "larder/connectors/log/machine/counters.h"
#include "larder/connectors/log/machine/event_ring.h"
#include "larder/connectors/log/machine/file_calls.h"
#include "larder/connectors/log/machine/health.h"
#include "larder/connectors/log/machine/options.h"
#include "larder/connectors/log/machine/request_notes.h"
#include "larder/connectors/log/machine/retentions.h"
#include "larder/connectors/log/machine/segments.h"
#include "larder/connectors/log/machine/staging.h"
#include "larder/connectors/log/machine/transfers.h"
#include "larder/connectors/log/machine/use_ledger.h"

namespace larder::log_store {

/// The memory that a path has from its open on.
struct PathMemory {
  Staging staging;      ///< Bounce memory of callers' loads and stores.
  Staging move_memory;  ///< Values on their way from a reclaimed segment to the head.
  AlignedBuffer zeros;  ///< One grain: padding behind values.

  /// Address space only: the kernel hands out the pages at first touch. An error where the process
  /// may not have so much (ulimit -v, overcommit).
  static SetupResult<PathMemory> create(const PathOptions& options, std::uint32_t grain_bytes);
};

/// The result of PathState::publish().
enum class Published : std::uint8_t {
  kYes = 0,
  kOvertaken,  ///< Something later was published for the key, perhaps a delete: nothing changed.
  kIndexFull,  ///< Nothing changed.
};

/// The state that the parts of one path (loads, appends, reclaim) share: the index, the segments,
/// and the services to reach the disk. Parts change the index only through publish() and forget(),
/// so that the counts of live records per segment stay true.
///
/// Threads: the path's one, but `intake`, `index` for reading, `requests`, `counters`, `health` and
/// `events`.
struct PathState final : KeyHashes {
  PathState(const PathOptions& path_options, const Geometry& geometry, const Superblock& block,
            std::uint32_t segment_numbers, PathMemory memory, io::Directory& path_directory,
            io::TransferQueue& path_queue, const Clock& path_clock, std::string where);

  const PathOptions options;
  io::Directory& directory;
  io::TransferQueue& queue;
  const Clock& clock;
  const io::Alignment alignment;
  Intake intake;
  Superblock superblock;
  /// The file system had no room to raise the open count (L2): the store serves, but writes, moves,
  /// evicts and removes nothing until it has.
  bool is_frozen = false;
  Index index;
  KeyGuard guard;
  Segments segments;
  UseLedger ledger;
  mutable RequestNotes requests;  ///< By lookups, from any thread.
  Staging staging;
  Staging move_memory;
  AlignedBuffer zeros;
  Transfers transfers;
  std::unique_ptr<HashPool> hash_pool;
  std::unique_ptr<FileCalls> file_calls;
  PathCounters counters;
  PathHealth health;
  EventRing events;
  Retentions retentions;

  std::uint32_t grain_bytes() const noexcept { return superblock.grain_bytes; }
  /// How a value of this size is stored: short ones, which are hashed in line, in packs.
  RecordKind kind_of_new(std::uint64_t value_bytes) const noexcept {
    const bool is_short = value_bytes < kHashInlineBytesMax &&
                          record_bytes(value_bytes, grain_bytes()) <= options.io_bytes;
    return is_short && value_bytes > 0 ? RecordKind::kPack : RecordKind::kValue;
  }
  /// Bytes that such a value will take.
  std::uint64_t bytes_of_new(std::uint64_t value_bytes) const noexcept {
    return record_bytes(value_bytes, grain_bytes(), kind_of_new(value_bytes));
  }
  Fingerprint fingerprint(std::span<const std::byte> key) const noexcept {
    const Fingerprint fingerprint = fingerprint_of(key, superblock.fingerprint_seed);
    return {.low = fingerprint.low & options.fingerprint_mask_for_test,
            .high = fingerprint.high & options.fingerprint_mask_for_test};
  }
  std::uint64_t hash_of(std::span<const std::byte> key) const noexcept override {
    return fingerprint(key).high;
  }
  /// LogPath::find() left it there.
  std::uint64_t hash_of_lookup(const Item& item) const noexcept override {
    return item.connector_words[1];
  }
  Identity identity(std::uint32_t segment) const noexcept {
    return {.path_id = superblock.path_id,
            .segment = segment,
            .generation = segments.at(segment).generation};
  }

  /// L4: makes the record at `entry.location` the key's, if it is later than everything published
  /// for the key. The key must be in the guard.
  /// `is_copy`: of the record that the index has, moved (L8).
  Published publish(const Fingerprint& fingerprint, const IndexEntry& entry, bool is_copy = false);
  /// Removes the entry if it still points to `location`; tells whether it did.
  bool forget(const Fingerprint& fingerprint, Location location);
  /// The same after a load that failed (L5). The record still outranks older ones of its key that
  /// may be on the disk, so its segment must stay until it is the oldest, as if it held a
  /// tombstone.
  bool forget_failed(const Fingerprint& fingerprint, Location location,
                     std::span<const std::byte> key);
  /// Makes a segment that recovery could only read fit for its next use: writable, and of its whole
  /// length. None of its I/O may be in flight. Blocks. Errors: what the file system says.
  Status repair(std::uint32_t segment);
  /// Ends a retention by a Touch with Hint::kRetain; true if it was still in force. A record that
  /// leaves the index, or is replaced, ends it by itself.
  bool end_retention(const Fingerprint& fingerprint) noexcept;
  /// For the report, after a change.
  void count_retentions() noexcept {
    counters.retained_keys.set(retentions.keys());
    counters.retained_bytes.set(retentions.bytes());
  }
  /// L4 for a delete at `place`: removes earlier records. Tells whether there was something.
  bool publish_delete(const Fingerprint& fingerprint, const Place& place);
};

}  // namespace larder::log_store
