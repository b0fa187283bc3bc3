#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/io/device.h"
#include "tests/support/io/simulated_file.h"

namespace larder::io {

class SimulatedDevice;

/// What goes wrong, as probabilities in [0, 1] for each operation, and how long things take. May be
/// changed at any time; holds for what is handed to the disk from then on.
struct SimulatedFaults {
  std::uint64_t latency_min_ns = 10'000;
  std::uint64_t latency_max_ns = 1'000'000;  ///< Uniform in between, so requests end in any order.

  double read_error = 0;   ///< EIO after a random prefix of whole sectors.
  double write_error = 0;  ///< As read_error; of the sectors behind the prefix any may be written.
  /// Of each write that failed: what is behind the prefix reaches the disk only after its owner was
  /// told of the error, but before the next sync of the file ends.
  double lands_after_error = 0;
  double sync_error = 0;  ///< EIO. Each write that it covered may then never become durable, also
                          ///< when a later sync succeeds, as after a real fsync failure.
  double sync_directory_error = 0;
  double allocate_error = 0;  ///< ENOSPC although there is room.
  double open_error = 0;      ///< EMFILE, of a file that is there.
  double remove_error = 0;    ///< EIO; the file stays.
  /// The transfer moves in two or more pieces with other requests in between. The device contract
  /// hides it from the owner, but other requests can see half a write.
  double short_transfer = 0;
  double stall = 0;                 ///< The request ends only `stall_ns` later.
  std::uint64_t stall_ns = kNever;  ///< kNever: not before release_stalls().

  double survives_power_cut = 0.5;  ///< Of each unsynced write, and of each sector of a torn one.
  double tears_in_power_cut =
      0.25;  ///< Of each unsynced write: its sectors are decided one by one.
  double name_survives_power_cut =
      0.5;  ///< Of each name created or removed since sync_directory().
  std::uint64_t kill_landing_max_ns = 2'000'000'000;  ///< A killed owner's writes land until then.
};

/// How often each thing happened. A test asserts that the faults it asked for did.
struct SimulatedCounts {
  std::uint64_t reads = 0;  ///< Requests that ended, whatever the outcome.
  std::uint64_t writes = 0;
  std::uint64_t syncs = 0;
  std::uint64_t reordered = 0;  ///< Requests that ended after one that was submitted later.
  std::uint64_t read_errors = 0;
  std::uint64_t write_errors = 0;
  std::uint64_t landed_after_error = 0;
  std::uint64_t sync_errors = 0;
  std::uint64_t sync_directory_errors = 0;
  std::uint64_t allocate_errors = 0;  ///< Injected.
  std::uint64_t out_of_space = 0;     ///< True: the capacity was met, by allocate() or by a write.
  std::uint64_t refused_opens = 0;    ///< Injected, or of a file that forbid_open() named.
  std::uint64_t refused_removals = 0;
  std::uint64_t unshared = 0;         ///< Writes that took new blocks, as a copy has the old ones.
  std::uint64_t short_transfers = 0;  ///< Pieces that ended before their request did.
  std::uint64_t stalls = 0;
  std::uint64_t alignment_errors = 0;  ///< Requests refused with EINVAL (strict alignment).
  std::uint64_t lock_conflicts = 0;    ///< lock() calls that found another owner, then or for good.
  std::uint64_t waits_for_nothing =
      0;  ///< wait(kNever) with nothing to come: a hang on a real disk.

  std::uint64_t power_cuts = 0;
  std::uint64_t writes_survived = 0;  ///< Unsynced or in flight, whole after a power cut.
  std::uint64_t writes_lost = 0;
  std::uint64_t writes_torn = 0;
  std::uint64_t abandoned_by_sync = 0;  ///< Writes that a failed sync cut off from later syncs.
  std::uint64_t names_lost = 0;         ///< A creation or a removal undone by a power cut.
  std::uint64_t names_kept = 0;
  std::uint64_t lengths_lost = 0;  ///< An unsynced allocate() or extension undone by a power cut.

  std::uint64_t kills = 0;
  std::uint64_t kill_never = 0;  ///< Writes in flight at a kill that never happened.
  std::uint64_t kill_now = 0;
  std::uint64_t kill_later = 0;
  std::uint64_t kill_partial = 0;  ///< Of kill_now and kill_later: only a prefix of whole sectors.
};

struct SimulatedDiskOptions {
  std::uint64_t seed = 1;
  std::uint64_t capacity_bytes = std::uint64_t{1} << 30;
  Alignment alignment = {512, 512};
  bool strict_alignment = true;  ///< EINVAL for a transfer that violates `alignment`.
  SimulatedFaults faults = {};
};

/// One directory on one disk, with everything that a real one may do: the durable part of a
/// simulation. It survives its owners: mount() it, use the device, kill_owner() or power_cut(),
/// destroy the device, mount() again.
///
/// Model. A file has a durable image and, over it, the writes that ended but were not synced; reads
///   see both. A sector (512 bytes) is atomic, a larger write is not. A sync makes durable what
///   ended before the sync was submitted, lengths included. Names become durable by
///   sync_directory(). The bytes of a write are taken from the caller's memory when it lands, not
///   when it is submitted.
/// Determinism: everything follows from the seed, the calls and their order; history_hash() tells
///   two histories apart. Time is the clock's, moved by the devices' wait() and by nothing else.
/// Threads: one thread at a time for the disk and all its devices, SimulatedDevice::wake()
/// excepted. Ownership: `clock` outlives the disk, the disk outlives its devices.
class SimulatedDisk {
 public:
  static constexpr std::uint64_t kSectorBytes = SimulatedFile::kSectorBytes;
  static constexpr std::uint64_t kBlockBytes = SimulatedFile::kBlockBytes;  ///< Of allocation.

  SimulatedDisk(const SimulatedDiskOptions& options, ManualClock& clock);
  ~SimulatedDisk();
  SimulatedDisk(const SimulatedDisk&) = delete;
  SimulatedDisk& operator=(const SimulatedDisk&) = delete;

  /// A new owner. Several may be mounted at once (to test locks); `options.directory` and
  /// `options.direct` are not looked at.
  std::unique_ptr<SimulatedDevice> mount(const DeviceOptions& options = {});

  // What happens to a machine. Owners that it happened to are dead: nothing of theirs ends any
  // more, every call of theirs fails, and all that is left is to destroy them.

  /// SIGKILL. What had ended stays. Each write in flight never happens, happens now, or lands
  /// later; the owner's locks are held until the last one landed.
  void kill_owner(SimulatedDevice& owner);
  /// Power loss for all owners. Each write that was not synced or is in flight survives, is lost,
  /// or is torn between sectors. Locks are gone.
  void power_cut();
  /// Stalled requests, also those of killed owners, end within the usual latency from now.
  void release_stalls();

  SimulatedFaults& faults() noexcept { return faults_; }
  const SimulatedCounts& counts() const noexcept { return counts_; }
  /// A hash over every event so far.
  std::uint64_t history_hash() const noexcept { return history_hash_; }
  /// When the next request ends or lands; kNever when there is none. For drivers of several disks.
  std::uint64_t next_event_ns() const noexcept;
  /// Lets everything happen that is due at the clock's time. Devices do it in reap() and wait().
  void run_due_events();

  // The test's hand on the disk, durable at once. The file must exist, and ranges lie within it.

  std::vector<std::string> names() const;
  /// Names whose removal is not durable: a power cut may bring their files back.
  std::vector<std::string> removed_names() const;
  std::uint64_t file_bytes(std::string_view name) const;
  std::vector<std::byte> read_image(std::string_view name, std::uint64_t offset,
                                    std::size_t bytes) const;
  /// What would be there if every unsynced write were lost.
  std::vector<std::byte> read_durable_image(std::string_view name, std::uint64_t offset,
                                            std::size_t bytes) const;
  void write_image(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes);
  /// Bit rot. `bit` is 0..7.
  void flip_bit(std::string_view name, std::uint64_t offset, unsigned bit);
  /// `to` is created or replaced.
  void copy_file(std::string_view from, std::string_view to);
  /// Exchanges the contents: devices that have them open see it too.
  void swap_files(std::string_view one, std::string_view other);
  void truncate(std::string_view name, std::uint64_t bytes);
  void remove(std::string_view name);
  /// Until permit_open() nobody can open the file: open() says `sys_errno`. With `is_readable` it
  /// is only immutable: it can be opened for reading, and not be removed.
  void forbid_open(std::string_view name, int sys_errno, bool is_readable);
  void permit_open(std::string_view name);
  /// Somebody copies all files by reference: to overwrite a block then takes a new one, and to
  /// remove a file gives none back.
  void copy_by_reference();
  /// Those copies are removed.
  void remove_copies();

 private:
  friend class SimulatedDevice;
  using FilePtr =
      std::shared_ptr<SimulatedFile>;  // A file lives as long as any name or user of it.
  using Names = std::map<std::string, FilePtr, std::less<>>;

  /// An owner that lives, or is dead and still has writes to land.
  struct Owner {
    SimulatedDevice* device = nullptr;  // Null: dead.
    std::uint64_t in_flight = 0;
    std::uint64_t last_ended = 0;  // The latest submission that ended.
    std::vector<FilePtr> locks;
    std::vector<FilePtr> retired_locks;  // Their files are closed; held until nothing is in flight.
  };

  struct EventTime {
    std::uint64_t at_ns = 0;
    std::uint64_t sequence = 0;  // Orders events of the same instant.
    auto operator<=>(const EventTime&) const = default;
  };

  /// A request that the disk has.
  struct Flight {
    Request* request = nullptr;  // Null: the owner is dead, or was told of an error already.
    std::uint64_t owner = 0;
    std::uint64_t submission = 0;
    FilePtr file;
    Operation operation = Operation::kRead;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::uint64_t progress = 0;
    std::uint64_t error_at = kNever;  // Progress at which EIO comes; any value for a sync.
    std::uint64_t covers = 0;         // Sync: the file's last write that it makes durable.
    std::uint64_t covers_bytes = 0;   // Sync: the length that it makes durable.
    bool is_stalled = false;
    bool has_failed = false;          // The owner was told of an error: only the rest lands.
    std::vector<std::byte> captured;  // Without a request: the bytes from `progress` on.
  };
  using Flights = std::map<EventTime, Flight>;

  // For SimulatedDevice.
  void start(std::uint64_t owner, const FilePtr& file, Request& request);
  void unmount(std::uint64_t owner);
  Result<FilePtr> open_file(std::string_view name, OpenMode mode);
  Status remove_name(std::string_view name);
  Status allocate(SimulatedFile& file, std::uint64_t bytes);
  Status sync_directory();
  Space space() const;
  Status lock(std::uint64_t owner, const FilePtr& file, std::uint64_t deadline_ns);
  void release_lock(std::uint64_t owner, const FilePtr& file);

  // Requests in flight.
  void run_events_until(std::uint64_t time_ns);
  void run(EventTime time, Flight flight);
  void run_transfer(EventTime time, Flight flight);
  void end_sync(const Flight& flight);
  void end(const Flight& flight, int sys_errno);
  bool land(Flight& flight, std::uint64_t bytes);
  void write_beyond_prefix(const Flight& flight);
  void land_after_error(const Flight& flight);
  void land_failed(const SimulatedFile& file);
  std::uint64_t cut_point(const Flight& flight, std::uint64_t limit, bool may_be_nothing);
  void let_go(std::uint64_t owner);
  void schedule(std::uint64_t at_ns, Flight flight);
  bool is_misaligned(const Request& request) const noexcept;
  bool reserve(SimulatedFile& file, std::uint64_t end);
  bool unshare(SimulatedFile& file, std::uint64_t offset, std::uint64_t bytes);

  // Deaths.
  void kill_flight(std::uint64_t at_ns, Flight flight);
  void land_flights_in_power_cut();
  void cut_power_of(SimulatedFile& file);
  void settle_names_in_power_cut();
  template <class T>
  void shuffle(std::vector<T>& items);

  bool chance(double probability) { return probability > 0 && random_.unit() < probability; }
  std::uint64_t latency_ns();
  std::uint64_t used_bytes(bool with_unsynced_removals) const;
  bool is_locked_by_other(std::uint64_t owner, const SimulatedFile& file) const;
  SimulatedFile& file_named(std::string_view name) const;
  void record(std::uint64_t what, std::uint64_t a, std::uint64_t b = 0,
              std::uint64_t c = 0) noexcept;

  const SimulatedDiskOptions options_;
  ManualClock& clock_;
  Random random_;
  SimulatedFaults faults_;
  SimulatedCounts counts_;
  std::uint64_t history_hash_ = 0;
  std::uint64_t bytes_of_copies_ = 0;  ///< That are no file's any more.
  std::uint64_t next_file_ = 1;
  std::uint64_t next_owner_ = 1;
  std::uint64_t next_sequence_ = 1;
  Names names_;
  Names durable_names_;
  std::map<std::uint64_t, Owner> owners_;
  Flights flights_;
};

}  // namespace larder::io
