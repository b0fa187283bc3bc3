#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/connectors/log/format/fingerprint.h"
#include "larder/connectors/log/machine/blocking_io.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/offline/dry_run_device.h"

namespace larder::log_store {

/// The content of the superblock, and the facts found beside it.
struct StoreFacts {
  std::string store_id;
  std::string path_id;
  std::uint32_t format_major = 0;
  std::uint32_t grain_bytes = 0;
  std::uint64_t slot_bytes = 0;
  std::uint64_t segment_bytes = 0;
  std::uint32_t segment_count = 0;    ///< At the last open.
  std::uint64_t capacity_bytes = 0;   ///< At the last open.
  std::uint64_t value_bytes_max = 0;  ///< The same; 0: an older version, which did not say.
  std::uint64_t open_count = 0;
  std::uint64_t created_wall_seconds = 0;
  bool is_clean = false;
  std::uint32_t segment_files = 0;
  /// Whether the last owner recorded its number of files: then a missing one is damage.
  bool knows_files = false;
  std::uint64_t allocated_bytes = 0;  ///< Blocks of all files in the directory.
};

enum class SegmentFinding : std::uint8_t {
  kFree = 1,  ///< Nothing in it counts; it will be used next.
  kSealed,    ///< Full, with an intact table.
  kOpen,      ///< Left with room by a clean close; the next session continues here.
  kScanned,   ///< Without a valid table: its owner died, or the table is damaged.
  kSetAside,  ///< Its header does not count.
  kFailed,    ///< Its file cannot be opened.
};
std::string_view name_of(SegmentFinding finding) noexcept;

struct SegmentFacts {
  std::uint32_t segment = 0;
  SegmentFinding finding = SegmentFinding::kFree;
  std::uint64_t generation = 0;
  std::uint64_t records = 0;  ///< Values in its table, dead ones included.
  std::uint64_t tombstones = 0;
  std::uint64_t live_records = 0;
  std::uint64_t live_bytes = 0;      ///< Header grains and padding included.
  std::uint64_t appended_bytes = 0;  ///< From the first record to the end of the last.
};

/// A record that a load would find.
struct LiveRecord {
  std::string_view key;  ///< Empty where the segment's keys are damaged.
  std::uint64_t fingerprint_low = 0;
  std::uint64_t value_bytes = 0;
  std::uint64_t wall_seconds = 0;  ///< When it was stored or moved; for information.
  std::uint32_t segment = 0;
  std::uint64_t generation = 0;
  std::uint64_t offset = 0;  ///< In the segment, bytes: of its header, or of a packed value.
};

/// Data that differs from what was written.
struct Damage {
  std::optional<std::uint32_t> segment;  ///< Empty: the superblock or the directory.
  std::uint64_t offset = 0;
  std::string key;  ///< Empty: not a single record's, or unknown.
  std::string what;
};

/// A store that nobody has open, looked at without changing anything: what an open with the same
/// capacity would serve, by the same code that an open runs (Recovery), every record with its key,
/// and proof of each. (An open drops the oldest records of a full store, to have two segments
/// free.)
///
/// Holds the store's lock while it lives. Blocks as long as the disk takes.
/// Threads: one. Memory: the index (about 45 bytes a key), and one segment's table at a time.
class Inspection {
 public:
  /// kUnavailable: another process has the store, which is named. Other errors name the content of
  /// the directory that is not a store.
  static SetupResult<std::unique_ptr<Inspection>> open(const std::string& directory);

  const StoreFacts& facts() const noexcept { return facts_; }
  std::uint64_t keys() const noexcept { return state_->index.keys(); }
  /// In the order of the log, segments without a place in it last.
  std::vector<SegmentFacts> segments();
  /// Findings of the open: damaged copies of the superblock, quarantined segments, foreign files.
  const std::vector<Damage>& damage() const noexcept { return damage_; }

  /// Calls visit(record) for every live record in the order of the log, until it says false.
  /// Segments that cannot be read on the way are added to damage().
  void for_each_live(const std::function<bool(const LiveRecord&)>& visit);

  struct Verified {
    std::uint64_t records = 0;
    std::uint64_t value_bytes = 0;
    std::uint64_t damaged = 0;
    bool was_interrupted = false;
  };
  /// Reads every live record and proves MAC, identity, key and checksum. `on_damage` hears of each
  /// that fails; `on_record` of each record, and ends the walk by saying false.
  Verified verify(const std::function<void(const Damage&)>& on_damage,
                  const std::function<bool(const LiveRecord&)>& on_record);

  /// A value, proven. Nothing when the key is not there.
  SetupResult<std::optional<AlignedBuffer>> read_value(std::string_view key);

 private:
  Inspection() = default;

  SetupStatus load(const std::string& directory);
  void check_superblock_copies(io::FileId file);
  void collect_damage();
  Result<Table> table_of(std::uint32_t number, bool with_keys);
  std::uint64_t live_pack_headers(std::uint32_t number, const Table& table) const;
  std::vector<std::uint32_t> in_order() const;
  bool visit_segment(std::uint32_t number, const std::function<bool(const LiveRecord&)>& visit);

  std::unique_ptr<DryRunDevice> device_;
  std::unique_ptr<PathState> state_;
  std::unique_ptr<BlockingIo> io_;
  StoreFacts facts_;
  std::vector<Damage> damage_;
};

}  // namespace larder::log_store
