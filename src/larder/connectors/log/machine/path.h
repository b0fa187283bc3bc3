#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "larder/connector/connector.h"
#include "larder/connectors/log/machine/appender.h"
#include "larder/connectors/log/machine/item_runner.h"
#include "larder/connectors/log/machine/loads.h"
#include "larder/connectors/log/machine/options.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/reclaimer.h"
#include "larder/connectors/log/machine/scanner.h"
#include "larder/connectors/log/machine/session.h"
#include "larder/connectors/log/machine/space_watch.h"
#include "larder/connectors/log/machine/stall_watch.h"
#include "larder/connectors/log/machine/superblock_file.h"

namespace larder::log_store {

/// One directory's log: a single-threaded state machine over a device and Clock. A reactor thread
/// drives it in production, a simulator under virtual time in tests; both run exactly this:
///
///   turn(); wait on the device until next_timer_ns(); turn(); ...
///
/// Get, Set, Delete and Touch come through the intake; their items are started as transfers come
/// free. Exists is answered from memory, in the caller's thread. While the path is down, or its
/// thread is blocked, the intake answers for it.
///
/// The parts do the work, and this class opens them, gives each its turn and closes them:
///
///   Session     the superblock: the open count (L2) and the clean mark
///   Recovery    what was there before (L12), at open only
///   ItemRunner  works the intake off
///   Loads       verified reads (L5)
///   Appender    stores, deletes and moves (L2, L4, L9, L11, L13)
///   Reclaimer   makes segments free again (L6 to L10)
///   Scanner     lists keys
///   StallWatch  what has no answer, and the probe that tells when it is back
///   SpaceWatch  the file system's free space
///
/// Ownership: device and clock outlive it.
/// Threads: one, but intake(), look_up(), probe(), is_down(), counters(), health() and
/// note_blocked() from any.
class LogPath final {
 public:
  /// Makes a new store in an empty directory, or opens the one that is there. Blocks.
  /// `where` names the directory in messages.
  static SetupResult<std::unique_ptr<LogPath>> open(const PathOptions& asked,
                                                    io::Directory& directory,
                                                    io::TransferQueue& queue, const Clock& clock,
                                                    const std::string& where);
  ~LogPath();

  Intake& intake() noexcept { return state_.intake; }
  const Intake& intake() const noexcept { return state_.intake; }

  void turn() noexcept;
  /// When turn() has work although nothing happened; kNever when it has none.
  std::uint64_t next_timer_ns() const noexcept;
  void start_scan(ScanTask& task) noexcept { scanner_.start(task); }

  /// After the intake was stopped: begins no work of its own any more. turn() continues until
  /// is_idle().
  void begin_stop() noexcept;
  bool is_idle() const noexcept;
  /// After is_idle(): writes the data for a fast next open and marks the store clean. Blocks. A
  /// path that is destroyed without it counts as killed.
  Status close() noexcept;

  /// Any thread: the kernel does not let the path's thread go. Its owner lets the intake answer
  /// until note_unblocked(), which the thread itself calls when it returns.
  void note_blocked() noexcept { state_.health.note_blocked(); }
  void note_unblocked() noexcept;
  bool is_blocked() const noexcept { return state_.health.is_blocked(); }
  std::uint64_t stall_ns() const noexcept { return state_.options.stall_ns; }

  /// Any thread: works an Exists off at once, as submit() does.
  Status look_up(Batch& batch) noexcept;
  /// Exists from memory, from any thread: fills outcome and value_bytes.
  void probe(std::span<Item> items) const noexcept;
  const PathCounters& counters() const noexcept { return state_.counters; }
  const PathHealth& health() const noexcept { return state_.health; }
  /// Whether lookups are misses now. The intake hears of a change at the end of a turn only: down
  /// begins with the health, which callers see at once, and ends with the intake.
  bool is_down() const noexcept { return state_.health.is_down() || state_.intake.is_down(); }
  const EventRing& events() const noexcept { return state_.events; }
  const Superblock& superblock() const noexcept { return state_.superblock; }
  std::uint64_t keys() const noexcept { return state_.index.keys(); }
  std::uint64_t index_bytes() const noexcept { return state_.index.bytes(); }

  // For the simulation's oracle; the path's thread only.
  const Segments& segments_for_test() const noexcept { return state_.segments; }
  /// The key's location according to the index.
  std::optional<Place> place_for_test(std::span<const std::byte> key) const noexcept {
    const auto entry = state_.index.find(state_.fingerprint(key));
    if (!entry) return std::nullopt;
    return state_.segments.place_of(entry->location);
  }
  bool is_frozen_for_test() const noexcept { return state_.is_frozen; }
  std::optional<std::uint32_t> head_for_test() const noexcept { return appender_.head(); }

 private:
  /// From the index alone.
  void find(std::span<Item> items) const noexcept;
  void note_request(std::span<const Item> items) const noexcept;

  LogPath(const PathOptions& options, const Geometry& geometry, const Superblock& superblock,
          std::uint32_t segment_numbers, PathMemory memory, io::Directory& directory,
          io::TransferQueue& queue, const Clock& clock, const std::string& where,
          std::unique_ptr<SuperblockFile> superblock_file);

  bool take_hashed() noexcept;
  void tell_intake() noexcept;
  void publish_gauges() noexcept;

  PathState state_;
  std::unique_ptr<SuperblockFile> superblock_file_;
  Loads loads_;
  Appender appender_;
  Reclaimer reclaimer_;
  Scanner scanner_;
  ItemRunner items_;
  StallWatch stall_watch_;
  SpaceWatch space_watch_;
  Session session_;
  bool is_stopping_ = false;
};

}  // namespace larder::log_store
