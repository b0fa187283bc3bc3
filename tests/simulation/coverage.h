#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace larder::simulation {

/// What a history has met. A run that never meets one of these proves nothing about it.
enum class Seen : std::uint8_t {
  kHit = 0,
  kMiss,
  kSetAcknowledged,
  kSetExisted,
  kDeleteOfAbsentKey,
  kDeadline,
  kCancelled,
  kSetRefused,
  kEviction,
  kReadmission,
  kLeftEarly,
  kNotAdmitted,
  kCleanClose,
  kHeadAdopted,
  kKill,
  kKillWhileOpening,
  kPowerCut,
  kTornNewestOverIntactOlder,
  kHoleInUnsealedSegment,
  kMoveRacingSet,
  kMoveRacingDelete,
  kFailedSync,
  kReadError,
  kWriteError,
  kStall,
  kPathDown,
  kOutOfSpace,
  kSegmentGivenBack,
  kEverySegmentReused,
  kTableLost,
  kStaleTableAfterReuse,
  kForgedHeaderInValue,
  kReadPinnedAcrossReclaim,
  kCorruptionFound,
  kCollidingKeys,
  kIndexFull,
  kLongRecord,
  kStagedBytes,
  kReorderedCompletion,
  kShortTransfer,
  kTornWrite,
  kLostUnsyncedWrite,
  kLandedAfterDeath,
  kLandedAfterError,
  kBitRot,
  kCopiedSegment,
  kSwappedSegment,
  kSetAside,
  kDeleteOvertook,
  kValueAboveMaxValue,
  kOpenRefused,
  kSegmentOnlyRead,
  kSegmentRepaired,
  kRemovalRefused,
  kOlderSuperblock,
  kNoSpaceToOverwrite,
  kFrozen,
  kBatchRefused,
  kWaitedForRoom,
  kCount,
};
inline constexpr std::size_t kSeenCount = static_cast<std::size_t>(Seen::kCount);

/// Counts, one per Seen.
class Coverage {
 public:
  void note(Seen what, std::uint64_t by = 1) noexcept {
    counts_[static_cast<std::size_t>(what)] += by;
  }
  void add(const Coverage& other) noexcept;
  std::uint64_t operator[](Seen what) const noexcept {
    return counts_[static_cast<std::size_t>(what)];
  }
  /// "torn_newest_over_intact_older 17", a line each.
  std::string to_string() const;

 private:
  std::array<std::uint64_t, kSeenCount> counts_{};
};

std::string_view name_of(Seen what) noexcept;

}  // namespace larder::simulation
