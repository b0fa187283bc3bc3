#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/cache/arena/slot_allocator.h"

namespace larder::cache {

class ArenaMemory;
class CommitAhead;

/// A piece of the arena. Offsets count from its start, which is base() in this process and wherever
/// a worker has mapped the segment in another.
struct SlotRef {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  ///< As requested; it takes whole grains, see Arena::taken_for().
};

enum class ArenaKind : std::uint8_t {
  kPrivate = 0,  ///< Anonymous memory of this process; a child made by fork() does not have it.
  kShared,       ///< A file of `directory` that workers map by its name: POSIX shared memory.
  kOffsets,      ///< No memory at all: base() is null. For simulations.
};

struct ArenaOptions {
  ArenaKind kind = ArenaKind::kPrivate;
  /// kShared: as for shm_open(); a leading slash is allowed, another one is not.
  std::string name;
  /// kShared: where shm_open() of Linux has its files. A tmpfs.
  std::string directory = "/dev/shm";
  std::uint64_t capacity_bytes = 0;
  /// Slots begin at multiples of it; a power of two. 4096 suits O_DIRECT on every device.
  std::uint64_t grain_bytes = SlotAllocator::kGrainDefault;
  /// How far the helper thread commits pages ahead of the highest byte that was ever used, so that
  /// take() need not. 0: no helper, the pages of a slot are committed in take().
  std::uint64_t commit_ahead_bytes = std::uint64_t{256} << 20;
  /// Ask the kernel for huge pages. It decides; see ArenaReport::huge_pages.
  bool huge_pages = true;

  SetupStatus validate() const;
};

/// Why take() failed. Eviction may help in both cases.
enum class NoRoom : std::uint8_t {
  kNoRun = 1,     ///< No free run is long enough, and the arena cannot grow by as much.
  kNoMemory = 2,  ///< The arena may grow, but the system has no pages for it (a full tmpfs).
};

/// Bytes that were taken, in whole grains.
struct ArenaUsage {
  std::uint64_t capacity_bytes = 0;  ///< = used + free.
  std::uint64_t used_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t largest_free_bytes = 0;
  std::uint64_t slots = 0;
  double fragmentation = 0;  ///< 1 - largest free run / free bytes.
};

enum class HugePages : std::uint8_t {
  kOff = 0,  ///< Not requested, or there is no memory to back.
  kRefused,  ///< The kernel's settings forbid them for this kind of memory.
  kAllowed,  ///< Used where the kernel finds some: see Arena::huge_page_bytes().
};

struct ArenaReport {
  ArenaUsage usage;
  std::uint64_t committed_bytes = 0;  ///< Offset from the arena's start.
  std::uint64_t inline_commits = 0;  ///< take() had to commit itself: the helper was behind or off.
  std::uint64_t commit_failures = 0;  ///< The system had no pages for the arena.
  int commit_errno = 0;               ///< Errno of the last failure.
  HugePages huge_pages = HugePages::kOff;
  bool has_replaced_stale = false;  ///< The name was left behind by a process that has died.
  /// kShared: the size limit of the tmpfs, full or not. Below the capacity, L1 will never be full.
  std::uint64_t file_system_bytes = 0;
};

/// The memory of L1 (E3): one contiguous region, cut into slots by a SlotAllocator whose metadata
/// is outside, so that the first slot is at offset 0.
///
/// Pages: a slot's pages are committed before take() returns it, so no access to a slot ever raises
///   SIGBUS; a full tmpfs is kNoMemory. (Anonymous memory that a cgroup denies is the OOM killer's,
///   as ever.) The offered part of the arena grows from its start and by no more than a slot needs:
///   pages that are committed are used before others are. Pages are not returned to the system
///   before the arena closes. A helper thread commits ahead in steps of 2 MiB; it changes no
///   offset, so where slots lie depends on the calls alone.
/// Shared: the file has mode 0600, appears under its name locked (flock) and complete, and is
///   unlinked by the destructor. A name whose owner is alive is refused; one whose owner has died
///   is replaced. The lock is this process's alone: children made by fork() have neither the
///   descriptor nor the mapping.
/// Threads: base() may be called by any thread, everything else by the engine's only. A child made
///   by fork() may only destroy it.
/// Cost: opening touches no page (64 GiB: below 50 ms). take() and give_back() are O(1), and take()
///   makes system calls only where the helper has not been yet.
class Arena {
 public:
  static SetupResult<std::unique_ptr<Arena>> open(const ArenaOptions& options);
  /// Every slot is void from here on; it must have been released, or have no I/O.
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Any number of bytes is a legal argument; 0 takes one grain. The contents are unspecified.
  Result<SlotRef, NoRoom> take(std::uint64_t bytes) noexcept;
  /// `slot` came from take() and was not released since. Anything else aborts.
  void give_back(SlotRef slot) noexcept;
  /// The size of a slot for so many bytes; UINT64_MAX if no arena has it.
  std::uint64_t taken_for(std::uint64_t bytes) const noexcept;

  /// Aligned to the grain and to 2 MiB. Null: kOffsets.
  std::byte* base() const noexcept;
  std::uint64_t capacity_bytes() const noexcept;
  std::uint64_t grain_bytes() const noexcept;
  std::uint64_t used_bytes() const noexcept;
  std::uint64_t free_bytes() const noexcept;
  /// kShared: the name that a worker opens, without a leading slash; else empty.
  const std::string& name() const noexcept;

  /// Cost: looks at the free runs of one class; for reports.
  ArenaUsage usage() const noexcept;
  ArenaReport report() const noexcept;
  /// How much of the arena is backed by huge pages now, as /proc says; for people. Walks the page
  /// tables: up to 100 ms for 64 GiB.
  std::uint64_t huge_page_bytes() const;

  /// For tests and simulations: aborts if the slots and the free runs do not add up.
  void check_invariants() const;

 private:
  Arena(SlotAllocator slots, std::unique_ptr<ArenaMemory> memory,
        std::unique_ptr<CommitAhead> helper) noexcept;
  std::uint64_t not_offered_bytes() const noexcept;
  bool commit(std::uint64_t end) noexcept;

  SlotAllocator slots_;
  std::unique_ptr<ArenaMemory> memory_;  ///< Null: kOffsets.
  std::unique_ptr<CommitAhead> helper_;  ///< Null: none. Goes before the memory.
  std::string name_;
  std::uint64_t inline_commits_ = 0;
  const int opened_by_;  ///< A pid.
};

}  // namespace larder::cache
