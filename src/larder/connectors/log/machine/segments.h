#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "larder/connectors/log/format/geometry.h"
#include "larder/connectors/log/format/place.h"
#include "larder/connectors/log/format/table.h"
#include "larder/connectors/log/index/index.h"
#include "larder/io/device.h"

namespace larder::log_store {

enum class SegmentState : std::uint8_t {
  kAbsent = 0,
  kFree,  ///< Nothing points into it. Its old content may still be intact on disk.
  kPreparing,
  kReady,    ///< Its new generation's header is synced; nothing was appended yet.
  kOpen,     ///< The head.
  kSealing,  ///< Full: waits for its writes, the sync and the table.
  kSealed,
  kReclaiming,
  kRemoving,  ///< Like free, and its file is being removed.
  kFailed,    ///< Not used again in this run.
};

/// Whether a segment may go from one state to another. Any other transition is a bug of larder's.
///
///   absent      free (the file was made, or holds nothing), sealed (found at open), failed (cannot
///               be opened), removing (a failed attempt to make the file left it behind)
///   free        preparing, removing (the file is given back)
///   preparing   ready, free (no room for the header), removing (the header cannot be written)
///   ready       open
///   open        sealing, sealed (recovery found it open and another segment becomes the head)
///   sealing     sealed
///   sealed      reclaiming, free (nothing in it lives), open (recovery: a clean close left it
///               open), failed (recovery: it holds nothing and can only be read)
///   reclaiming  free
///   removing    absent, free (the file could not be removed)
///   failed      nothing
bool is_legal_move(SegmentState from, SegmentState to) noexcept;

/// Keeps a segment from being overwritten (L6) while it lives: a segment with a read, a table read,
/// or records that wait for a sync.
///
/// Threads: the path's one. Cost: a pointer and a counter. The segments outlive it.
class SegmentPin {
 public:
  SegmentPin() noexcept = default;
  explicit SegmentPin(std::uint32_t& pins) noexcept : pins_(&pins) { ++pins; }
  SegmentPin(SegmentPin&& other) noexcept : pins_(std::exchange(other.pins_, nullptr)) {}
  SegmentPin& operator=(SegmentPin&& other) noexcept {
    if (this == &other) return *this;
    reset();
    pins_ = std::exchange(other.pins_, nullptr);
    return *this;
  }
  ~SegmentPin() { reset(); }

  void reset() noexcept {
    if (pins_ != nullptr) --*std::exchange(pins_, nullptr);
  }
  explicit operator bool() const noexcept { return pins_ != nullptr; }

 private:
  std::uint32_t* pins_ = nullptr;
};

/// The state of one segment. Segments alone changes its state and its pins.
struct Segment {
  SegmentState state() const noexcept { return state_; }
  std::uint32_t pins() const noexcept { return pins_; }  ///< L6.

  bool has_file = false;       ///< Changed by Segments::set_has_file() alone.
  bool was_set_aside = false;  ///< At open its header did not count.
  /// Recovery could read it, and not make it writable or as long as a segment. It is served, and
  /// must be repaired before it is used again (PathState::repair).
  bool needs_repair = false;
  /// A write of its header failed, and may still land over the next one until a sync has ended.
  bool has_failed_header = false;
  bool sync_failed = false;  ///< L13: closed, and never given a table.
  /// Sealed by a later owner than its own. That owner cannot know whether a sync of the segment had
  /// failed before: L13 holds across owners, and a sync that succeeds after a failed one proves
  /// nothing.
  bool is_unproven = false;
  io::FileId file = 0;
  std::uint32_t writes_in_flight = 0;  ///< Places allocated and not yet settled.
  std::uint64_t generation = 0;
  std::uint64_t append_offset = 0;
  std::uint64_t live_records = 0;  ///< Index entries that point here.
  std::uint64_t live_bytes = 0;
  /// The newest generation when its last live record was replaced: the records that outrank its own
  /// are no later.
  std::uint64_t dead_since = 0;
  /// Deletes in it, and records that were forgotten without a later one: while it has any, it is
  /// freed only as the oldest.
  std::uint64_t tombstones = 0;
  /// Records in it that took the place of an older record of their key, which may still be on the
  /// disk: while it has any, it is emptied only as the oldest (L7).
  std::uint64_t outranks = 0;
  /// Records in it that may count at the next open although the index does not have them: forgotten
  /// ones, overtaken ones, and those that it had no room for. While it has any, nothing younger is
  /// emptied before it (L7).
  std::uint64_t strays = 0;
  /// The first and the last generation that got a record moved from here; 0: none did.
  std::uint64_t moved_to_first = 0;
  std::uint64_t moved_to_last = 0;
  /// Its number in the order of freeing; 0: nothing in it can be admitted again. It stays while the
  /// segment is taken and returned unused, or cannot be removed.
  std::uint64_t freed_as = 0;
  std::unique_ptr<TableBuilder> table;  ///< While open or sealing, or when it could not be written.

 private:
  friend class Segments;
  SegmentState state_ = SegmentState::kAbsent;
  std::uint32_t pins_ = 0;
};

/// Bytes that the entry's value takes in its segment, without its share of a pack's header.
inline std::uint64_t bytes_taken(const IndexEntry& entry, std::uint32_t grain_bytes) noexcept {
  return record_bytes(entry.value_bytes, grain_bytes,
                      entry.is_packed ? RecordKind::kPack : RecordKind::kValue);
}

/// The segments of a path: their states, what points into them, and the order of reuse.
///
/// Invariant: a segment changes its state only along the edges of is_legal_move(), by the functions
///   under "Transitions". Free segments are reused in the order in which they were freed. A
///   tombstone may leave with the oldest segment only because everything older was overwritten
///   before (L9); a segment that was freed earlier but not yet overwritten would come back at the
///   next open without its tombstone if the order were another.
/// Threads: the path's one.
class Segments {
 public:
  /// `numbers`: how many numbers exist, more than geometry.segment_count (the limit of files) where
  /// the capacity was larger once.
  Segments(const Geometry& geometry, std::uint32_t numbers);
  Segments(const Segments&) = delete;
  Segments& operator=(const Segments&) = delete;

  Segment& at(std::uint32_t segment) noexcept { return segments_[segment]; }
  const Segment& at(std::uint32_t segment) const noexcept { return segments_[segment]; }
  std::uint32_t count() const noexcept { return static_cast<std::uint32_t>(segments_.size()); }
  const Geometry& geometry() const noexcept { return geometry_; }

  Place place_of(Location location) const noexcept {
    return {.generation = segments_[location.segment].generation,
            .offset = std::uint64_t{location.grain} * geometry_.grain_bytes};
  }
  void add_live(const IndexEntry& entry) noexcept;
  void remove_live(const IndexEntry& entry) noexcept;
  std::uint64_t live_bytes() const noexcept { return live_bytes_; }

  // Transitions.

  /// Recovery found a generation in it: absent to sealed, until more is known.
  void note_found(std::uint32_t segment, std::uint64_t generation) noexcept;
  /// It cannot be used in this run.
  void fail(std::uint32_t segment) noexcept;
  /// Nothing in it lives any more: it becomes the last of the free ones.
  void push_free(std::uint32_t segment);
  /// For segments that were free and were not overwritten, which return to their position in the
  /// order, and for those whose content can never be admitted again, which go before the others.
  void put_back(std::uint32_t segment);
  /// Takes the segment that next_free() returned, for its use as `generation`.
  void begin_preparing(std::uint32_t segment, std::uint64_t generation) noexcept;
  void note_ready(std::uint32_t segment) noexcept;
  /// It becomes the head, and is empty.
  void begin_appending(std::uint32_t segment);
  /// Recovery: a clean close left it open.
  void reopen(std::uint32_t segment) noexcept;
  /// It is the head no more.
  void begin_sealing(std::uint32_t segment) noexcept;
  void note_sealed(std::uint32_t segment) noexcept;
  void begin_reclaiming(std::uint32_t segment) noexcept;
  /// The caller closes and removes the file of a segment without pointers into it, which still
  /// counts until that has succeeded. It leaves the free ones, if it is one, and comes back to its
  /// place among them when its file could not be removed.
  void begin_removal(std::uint32_t segment) noexcept;
  void end_removal(std::uint32_t segment, bool is_removed);

  [[nodiscard]] SegmentPin pin(std::uint32_t segment) noexcept {
    return SegmentPin{segments_[segment].pins_};
  }

  /// The next to be reused, or the next without a file; empty when neither is left.
  std::optional<std::uint32_t> next_free() const noexcept;
  std::optional<std::uint32_t> next_absent() const noexcept;
  std::uint32_t free_count() const noexcept { return static_cast<std::uint32_t>(free_.size()); }
  /// How many files may still be made.
  std::uint32_t absent_count() const noexcept;
  void set_has_file(std::uint32_t segment, bool has_file) noexcept;
  std::uint32_t files_count() const noexcept { return files_; }
  /// Those that this run could use, found by visiting all: the input of missing_files_text() later.
  std::uint32_t whole_files_count() const noexcept;
  std::uint32_t files_max() const noexcept { return geometry_.segment_count; }

  /// L6 under a power cut: a segment must not be overwritten before the records that were moved
  /// from it are synced where they are now.
  bool waits_for_its_copies(std::uint32_t segment) const noexcept;

  /// A generation is appended to, or was found at open.
  void note_newest(std::uint64_t generation) noexcept {
    if (generation > newest_generation_) newest_generation_ = generation;
  }
  /// True if every record that supersedes this dead segment's records is durable. Otherwise the
  /// segment must not be overwritten: a power cut that takes the newer records would bring back
  /// records that are older than this segment's.
  bool is_durably_outranked(std::uint32_t segment) const noexcept;

  /// L7: whether the sealed segment may be emptied although it is not the oldest, because nothing
  /// in it outranks anything older. `first_unsettled` is the result of first_unsettled().
  bool may_leave_early(std::uint32_t segment, std::uint64_t first_unsettled) const noexcept;
  /// The lowest generation of which the disk may hold more than the index knows of: it is not
  /// sealed by its own owner, or has strays.
  std::uint64_t first_unsettled() const noexcept;
  std::uint64_t newest_generation() const noexcept { return newest_generation_; }

  /// The used segment of the lowest generation, in any state; empty in an empty store.
  std::optional<std::uint32_t> oldest() const noexcept;
  /// The used segment of the lowest generation that is >= `generation`.
  std::optional<std::uint32_t> oldest_from(std::uint64_t generation) const noexcept;

 private:
  void move(Segment& segment, SegmentState to) noexcept;
  void move(Segment& segment, SegmentState from, SegmentState to) noexcept;
  void pop_free(std::uint32_t segment) noexcept;

  const Geometry geometry_;
  std::vector<Segment> segments_;
  std::deque<std::uint32_t> free_;  ///< By `freed_as`.
  std::uint64_t freed_ = 0;         ///< How many were, so far.
  std::uint32_t files_ = 0;  ///< Asked for in every turn, so it is counted and not looked for.
  std::uint64_t live_bytes_ = 0;
  std::uint64_t newest_generation_ = 0;
};

}  // namespace larder::log_store
