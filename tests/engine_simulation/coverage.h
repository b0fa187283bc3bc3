#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "larder/cache/engine_stats.h"

namespace larder::cache::simulation {

/// What a history has met. A run that never meets one of these proves nothing about it.
enum class Seen : std::uint8_t {
  // Requests.
  kHitRead = 0,  ///< An answered hit whose locks were all there was read.
  kHitFromL2,
  kHitBehindBegin,  ///< A hit beyond what the serving engine has itself.
  kWaitAnswered,
  kWaitTimedOut,
  kAnsweredAtDeadline,
  kAmbiguousRequest,
  kSessionOfClosedConnection,
  kOtherConnection,
  kFreeDuringLookup,
  kEndDuringLookup,
  kSecondFree,
  kLookupReplaced,
  kConnectionClosed,
  kLocksExpired,
  kSessionExpired,
  kLookupTrimmed,
  kLookupQueued,
  kLookupPassed,
  kLoadJoined,
  kWarmUp,
  // Workers.
  kBytesChecked,
  kReadFailed,
  kReadRepeated,
  kWritePublished,
  kWriteCut,
  kWriteRefused,
  kWriteSkipped,
  kSecondWriter,
  kLateCommit,
  kCommitOfEndedOwner,
  kCommitAfterClear,
  kScribble,
  kGhostReturned,
  kOwnerUnregistered,
  kOwnerReaped,
  kOwnerDead,
  kQuarantineLimit,
  // Whole values.
  kValueInL1,
  kValueFromL2,
  kValueMissing,
  kGetCancelled,
  kGetLate,
  // Room.
  kEviction,
  kFragmentation,  ///< A value found no room where as many bytes were free.
  kQuotaRefused,
  kEvictionOfSeveralTurns,
  // Tiers.
  kLoadFailed,
  kNextTier,
  kLateCompletion,
  kTierDown,
  kTierDownDuringLoad,
  kTierRefused,
  kTierFull,
  kStoreDone,
  kStoreFailed,
  kStoreLost,
  kStoreOverLimit,
  kStoresPaused,
  kStoresPausedForErrors,
  kCommitInTier,
  kPromoted,
  kFilled,
  kTouched,
  kLogStored,
  kLogHit,
  kLogEvicted,
  kLogReopened,
  // Operation.
  kClear,
  kClearForced,
  kClearOfSpace,
  kClearDuringLoad,
  kRemove,
  kQuotaSet,
  kAccountSet,
  kClearAll,
  kPurgeNamed,
  kPurged,
  kPurgeIncomplete,
  kPurgeLate,
  kPurgeOfPages,
  kPurgeNotScanned,
  kPageTooLate,
  kCommitAfterRemove,
  kTrimmed,
  kLayoutChanged,
  kOtherLayoutMissed,
  kDrainWithLoads,
  kDrainCancelled,
  kRestart,
  kHitAfterRestart,
  kCount,
};
inline constexpr std::size_t kSeenCount = static_cast<std::size_t>(Seen::kCount);

/// Counts, one per Seen, and the misses by reason.
class Coverage {
 public:
  void note(Seen what, std::uint64_t by = 1) noexcept {
    counts_[static_cast<std::size_t>(what)] += by;
  }
  /// What an engine counted in its life.
  void note(const EngineTotals& totals) noexcept;
  void add(const Coverage& other) noexcept;
  std::uint64_t operator[](Seen what) const noexcept {
    return counts_[static_cast<std::size_t>(what)];
  }
  std::uint64_t missed(Miss why) const noexcept { return missed_[static_cast<std::size_t>(why)]; }
  /// "late_commit 17", a line each.
  std::string to_string() const;
  /// The names of what was not met.
  std::string lacks() const;

 private:
  std::array<std::uint64_t, kSeenCount> counts_{};
  std::array<std::uint64_t, kMisses> missed_{};
};

}  // namespace larder::cache::simulation
