#pragma once

#include <cstdint>

#include "larder/base/breakable.h"

namespace larder::log_store {

/// The rules of the log store that a test build can break: see base/breakable.h. L1 to L14 are
/// rules of docs/format_log.md. tests/mutation/rules.cc says what each broken rule does instead,
/// and which tests must notice.
enum class Rule : std::uint8_t {
  kNone = 0,
  // L1 Identity.
  kRecordMac,
  kTableMac,
  kSegmentHeaderMac,
  kPathId,
  kSegmentNumber,
  kGeneration,
  kOffset,
  // L2 Generations.
  kRaiseOpenCount,
  kSyncOpenCount,
  kKeepNewestCopy,
  kNewestOpenCount,
  kSyncHeaderFirst,
  kSettleFailedHeader,
  // L3 Place is version.
  kRecoverInOrder,
  // L4 Publish when complete, only forward.
  kPublishWhenComplete,
  kPublishForward,
  kRememberDelete,
  kDeleteAnswersByPlace,
  kEventsFollowIndex,
  kFailedWriteChangesNothing,
  kFailedRangeIsDead,
  kPrefixOfRun,
  // L5 Verified reads.
  kVerifyKey,
  kVerifyChecksum,
  kForgetFailed,
  kForgetOnlyWhatFailed,
  // L6 No overwrite under a pointer.
  kPinReads,
  kNoEntryIntoFreed,
  // L7 Evict only what outranks nothing older.
  kEvictOldest,
  kReplacerOutranks,
  kNothingBeforeStrays,
  kSyncMovedFirst,
  kSyncAllMoved,
  kOutrankedDurably,
  kRecoveredIsUnproven,
  // L8 Moves.
  kMoveCarriesChecksum,
  kMoveOnlyCurrent,
  kMoveOnlyIdleKeys,
  // L9 Tombstones.
  kTombstoneAlways,
  kTombstoneStays,
  kForgottenOutranks,
  kUnindexedOutranks,
  kReuseInOrder,
  kSyncRemovals,
  kRefuseUnread,
  kRepairBeforeReuse,
  kRemovalBeforeReuse,
  // L10 Progress.
  kMoveHalfASegment,
  kMoveOnlyWithRoom,
  kNeverWaitForReclaim,
  // L11 Seal.
  kSealWaitsForWrites,
  kSealSyncsFirst,
  kSealSyncsTable,
  kScanWithoutTable,
  // L12 Open.
  kScanEveryGrain,
  kScanVerifiesValues,
  kAppendOnlyAfterCleanEnd,
  kVoidCheckpoint,
  kOpenFreesTwo,
  // L13 A failed sync.
  kFailedSyncFailsBatches,
  kFailedSyncLasts,
  kFailedSyncClosesSegment,
  kFailedSyncAtOpen,
  kFailedSyncDegrades,
  // L14 One owner.
  kLock,
  // P4 A path is down only where its disk does not answer.
  kOwnPauseIsNoStall,
  kCount,
};

#ifdef LARDER_BREAKABLE
inline bool is_broken(Rule rule) noexcept {
  return broken_rule() == static_cast<std::uint32_t>(rule);
}
#else
constexpr bool is_broken(Rule /*rule*/) noexcept {
  return false;
}
#endif

}  // namespace larder::log_store
