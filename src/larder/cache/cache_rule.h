#pragma once

#include <cstdint>

#include "larder/base/breakable.h"

namespace larder::cache {

/// The rules of the engine that a test build can break: see base/breakable.h. The letters are those
/// of docs/engine.md. tests/mutation/rules.cc says what each broken rule does instead, and which
/// tests must notice.
enum class CacheRule : std::uint32_t {
  kNoRule = 2000,
  // E2 A slot with a claim or I/O is never freed.
  kOrphanWhilePinned,
  // E4 Another layout is a miss.
  kOtherLayoutIsMiss,
  // E5 One writing and one loading reservation for a cell.
  kOneWriter,
  kJoinLoad,
  // E6 Sessions are found by connection and request id.
  kAmbiguousIsNone,
  kOtherConnection,
  kNewLookupEndsOld,
  // E7 Locks belong to their session.
  kReleaseOnce,
  kReadReleasesOnce,
  kFailedReadReleases,
  // E8 A read is all or nothing, and needs no lock.
  kReadWholeRange,
  kReadWindow,
  // E9 Locks end with time.
  kReadTtl,
  kClosedConnection,
  // E10 The locks are exactly what the hit needs.
  kLockExactly,
  // E11 FREE and END during a lookup.
  kRememberFree,
  kEndCancels,
  // E12 Locks leave room.
  kLockShare,
  // E13 A reservation holds the longest leading run.
  kLeadingRun,
  // E14, E15 Commits.
  kLateCommit,
  kNeverPublishOfEnded,
  // E16 Time ends visibility, never memory.
  kQuarantine,
  kQuarantineLimit,
  // E17 Skipped cells.
  kSkip,
  // E18 The unit of eviction is the column.
  kPinsProtectColumn,
  // E19 Bounded eviction.
  kBoundedTurn,
  kWatermarks,
  // E20 Order of touches; columns that are not kept are cold.
  kTailsFirst,
  kTouchBeforeBegin,
  kCoolUnkept,
  // E22 Quotas.
  kQuotaLimit,
  kQuotaGuarantee,
  // E23 to E29 Lookups over tiers.
  kAskFromBegin,
  kAskInPieces,
  kFirstTierFirst,
  kAllOrNothing,
  kLoadShare,
  kKeepRoomForHead,
  kPassOver,
  kNextConnector,
  kShrinkToHole,
  kLoadDeadline,
  kLateIsNotJoined,
  kLoadBytes,
  kResultOnce,
  // E30 to E32 Promotion.
  kPromoteOnlyPrefix,
  kPromoteNoMemory,
  kFill,
  // E33, E34 Stores to L2.
  kStoreHeadsFirst,
  kThreeFailures,
  kDownKeepsWants,
  kPauseAfterFailure,
  kMinHits,
  kSkipL1,
  kTierQuota,
  // E40 Tiers are told which columns L1 serves.
  kTouchOnce,
  kTouchOneBatch,
  // E41 Pledges.
  kPledgePins,
  kPledgeBudget,
  // E36 Clear.
  kClearKeepsLocked,
  kClearVoidsWrites,
  kRemoveVoidsWrites,
  kPurgeWaitsForStores,
  kPurgeHides,
  kPurgeHoldsStores,
  kClearAllEndsWants,
  kCount,
};

#ifdef LARDER_BREAKABLE
inline bool is_broken(CacheRule rule) noexcept {
  return broken_rule() == static_cast<std::uint32_t>(rule);
}
#else
constexpr bool is_broken(CacheRule /*rule*/) noexcept {
  return false;
}
#endif

}  // namespace larder::cache
