#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "larder/base/aligned_buffer.h"
#include "larder/base/result.h"

namespace larder::cache {

/// Hands out pieces of the offsets [0, extent): two-level segregated fit (Masmano, Ripoll, Crespo,
/// Real: "TLSF: a New Dynamic Memory Allocator for Real-Time Systems", ECRTS 2004). It never
/// touches the memory behind the offsets; a simulation needs none.
///
/// Units: every run is a multiple of the grain, so slots are aligned to it. 0 bytes take one grain.
/// Extent: the part of the capacity that is offered. It only grows, by extend(); the rest neither
///   counts as free nor is handed out.
/// Choice: the smallest class that has a run. Sizes below 128 grains each have a class of their
/// own,
///   above that a class is at most 1/64 wide. The lowest of a class's first runs is taken, and a
///   run is cut from its low end, so that used memory is reused.
/// Order: the same calls give the same offsets, always.
/// Fragmentation: allocate() searches at most kSearchMax runs of the size's own class, then the
///   larger classes. If all slots have one size, it finds a run whenever there is one. If sizes
///   within 1/64 of each other are mixed, it may miss a run that is exactly large enough.
/// Metadata: 16 bytes for each grain of capacity, mapped but not touched before a run begins or
///   ends there: one line of cache a run, at most one page (or a huge page for 512 MiB of arena,
///   grain 4096). The sum is at most 1/256 of the arena.
/// Threads: one. Cost: O(1), no allocation; largest_free_bytes() looks at one class.
class SlotAllocator {
 public:
  static constexpr std::uint64_t kGrainDefault = 4096;
  static constexpr std::uint64_t kGrainMin = 64;
  static constexpr std::uint64_t kGrainMax = std::uint64_t{1} << 30;
  static constexpr std::uint64_t kGrainsMax = 0xFFFF'FF00;  ///< 16 TiB at a grain of 4096.

  /// Nothing is offered yet. `grain` is a power of two; a rest of `capacity` below it is not used.
  /// kInvalidArgument: outside the limits; kResourceExhausted: no address space for the metadata.
  static Result<SlotAllocator> create(std::uint64_t capacity, std::uint64_t grain = kGrainDefault);

  ~SlotAllocator() = default;
  SlotAllocator(SlotAllocator&&) noexcept = default;
  SlotAllocator& operator=(SlotAllocator&&) noexcept = default;
  SlotAllocator(const SlotAllocator&) = delete;
  SlotAllocator& operator=(const SlotAllocator&) = delete;

  /// Offers the next `bytes`, whole grains within the capacity.
  void extend(std::uint64_t bytes) noexcept;

  /// Nothing if the extent has no run for it. Any number is a legal argument.
  std::optional<std::uint64_t> allocate(std::uint64_t bytes) noexcept;
  /// `offset` came from allocate() and was not freed since: anything else aborts.
  void free(std::uint64_t offset) noexcept;

  /// The size of the slot at `offset`, in whole grains. Aborts where there is none.
  std::uint64_t bytes_at(std::uint64_t offset) const noexcept;
  /// The size of a slot for `bytes`; UINT64_MAX if it does not fit into 64 bits.
  std::uint64_t taken_for(std::uint64_t bytes) const noexcept;

  std::uint64_t grain_bytes() const noexcept { return std::uint64_t{1} << grain_shift_; }
  std::uint64_t capacity_bytes() const noexcept { return bytes_of(capacity_); }
  std::uint64_t extent_bytes() const noexcept { return bytes_of(extent_); }
  std::uint64_t free_bytes() const noexcept { return bytes_of(free_); }
  std::uint64_t slots() const noexcept { return slots_; }
  /// The free run that ends where the extent ends; 0 if a slot does.
  std::uint64_t free_tail_bytes() const noexcept;
  std::uint64_t largest_free_bytes() const noexcept;
  /// 1 - largest free run / free bytes: 0 while all free room is in one piece, or there is none.
  double fragmentation() const noexcept;

  /// Walks the extent: every run is accounted for and in its class, no two free runs touch. Aborts
  /// where that does not hold. O(runs); for tests and simulations.
  void check_invariants() const;

 private:
  using Grain = std::uint32_t;  ///< A number of grains, or the offset of one.

  /// Describes the run that begins at a grain; all zero where no run begins.
  struct Tag {
    Grain size = 0;
    Grain size_before = 0;  ///< Size of the run that ends here; 0 at the start of the arena.
    Grain next = 0;         ///< Free: the next of its class, or kEnd.
    Grain previous = 0;     ///< Free: the previous one, or kEnd. Used: kUsed.
  };
  static_assert(sizeof(Tag) == 16);

  /// Level one is the power of two, level two the 64 steps within it.
  static constexpr unsigned kStepsLog2 = 6;
  static constexpr unsigned kSteps = 1U << kStepsLog2;
  static constexpr unsigned kLevels = 32 - kStepsLog2 + 1;
  static constexpr Grain kEnd = 0xFFFF'FFFF;
  static constexpr Grain kUsed = 0xFFFF'FFFE;
  static constexpr unsigned kChooseMax = 8;   ///< Runs among which the lowest is chosen.
  static constexpr unsigned kSearchMax = 64;  ///< Runs that may be too small.

  struct Class {
    unsigned level = 0;
    unsigned step = 0;
  };

  SlotAllocator(AlignedBuffer tags, Grain capacity, unsigned grain_shift) noexcept;

  static Class class_of(Grain size) noexcept;
  std::uint64_t bytes_of(Grain grains) const noexcept {
    return std::uint64_t{grains} << grain_shift_;
  }
  std::optional<Grain> grains_for(std::uint64_t bytes) const noexcept;
  Tag* tags() noexcept { return reinterpret_cast<Tag*>(tags_.data()); }
  const Tag* tags() const noexcept { return reinterpret_cast<const Tag*>(tags_.data()); }
  const Tag& used_tag(std::uint64_t offset) const noexcept;

  std::optional<Grain> find(Grain size) const noexcept;
  std::optional<Grain> find_in(Class of, Grain size) const noexcept;
  std::optional<Class> next_class(Class after) const noexcept;
  void link(Grain run) noexcept;
  void unlink(Grain run) noexcept;
  void set_run(Grain run, Grain size) noexcept;

  AlignedBuffer tags_;
  unsigned grain_shift_ = 0;
  Grain capacity_ = 0;
  Grain extent_ = 0;
  Grain last_run_size_ = 0;  ///< The size of the run that ends at the extent.
  Grain free_ = 0;
  std::uint64_t slots_ = 0;
  std::uint32_t levels_filled_ = 0;
  std::array<std::uint64_t, kLevels> steps_filled_{};
  std::array<std::array<Grain, kSteps>, kLevels> heads_{};
};

}  // namespace larder::cache
