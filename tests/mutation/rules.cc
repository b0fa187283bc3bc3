#include "tests/mutation/rules.h"

namespace larder::mutation {
namespace {

using conformance::Defect;
using log_store::Rule;

constexpr BrokenRule kRules[] = {
    {Rule::kRecordMac, "L1", "record_mac", "a record header's MAC is not looked at"},
    {Rule::kTableMac, "L1", "table_mac", "a table's MACs are not looked at"},
    {Rule::kSegmentHeaderMac, "L1", "segment_header_mac", "nor a segment header's", Ring::kUnit,
     "*Format*"},
    {Rule::kPathId, "L1", "path_id", "headers, tables and records of another path count",
     Ring::kUnit, "*Format*"},
    {Rule::kSegmentNumber, "L1", "segment_number", "those of another segment count"},
    {Rule::kGeneration, "L1", "generation", "those of an earlier use of the segment count"},
    {Rule::kOffset, "L1", "offset", "records count wherever they stand"},
    {Rule::kRaiseOpenCount, "L2", "raise_open_count", "the open count stays what it was"},
    {Rule::kSyncOpenCount, "L2", "sync_open_count", "the raised open count is not synced"},
    {Rule::kNewestOpenCount, "L2", "newest_open_count",
     "the open count of an older superblock is believed against the segments"},
    {Rule::kSyncHeaderFirst, "L2", "sync_header_first",
     "records follow a segment header that is not synced"},
    {Rule::kRecoverInOrder, "L3", "recover_in_order", "the later segment number wins, not place"},
    {Rule::kPublishWhenComplete, "L4", "publish_when_complete",
     "the index points to a record from its submission on"},
    {Rule::kPublishForward, "L4", "publish_forward",
     "who ends last is published, not who is later"},
    {Rule::kRememberDelete, "L4", "remember_delete", "a delete's place is not remembered"},
    {Rule::kFailedWriteChangesNothing, "L4", "failed_write_changes_nothing",
     "a failed write is published all the same"},
    {Rule::kFailedRangeIsDead, "L4", "failed_range_is_dead", "the range of a failed write is used"},
    {Rule::kPrefixOfRun, "L4", "prefix_of_run",
     "of a write that ended early the record at the end counts as written"},
    {Rule::kVerifyKey, "L5", "verify_key", "a read does not compare the key"},
    {Rule::kVerifyChecksum, "L5", "verify_checksum", "a read does not compare the checksum"},
    {Rule::kForgetFailed, "L5", "forget_failed", "the entry of a failed read stays"},
    {Rule::kForgetOnlyWhatFailed, "L5", "forget_only_what_failed",
     "a failed read removes a newer record's entry", Ring::kDirected,
     "DirectedTest.AFailedLoadLeavesANewerRecordAlone"},
    {Rule::kPinReads, "L6", "pin_reads", "a segment is used again under a read"},
    {Rule::kNoEntryIntoFreed, "L6", "no_entry_into_freed",
     "a segment is used again under index entries"},
    {Rule::kEvictOldest, "L7", "evict_oldest", "the second oldest segment is evicted"},
    {Rule::kSyncMovedFirst, "L7", "sync_moved_first",
     "a segment is used again before its moved records are synced"},
    {Rule::kSyncAllMoved, "L7", "sync_all_moved",
     "of the segments that they were moved to only the last is waited for"},
    {Rule::kOutrankedDurably, "L7", "outranked_durably",
     "a dead segment is used again before what outranks its records is synced"},
    {Rule::kRecoveredIsUnproven, "L7", "recovered_is_unproven",
     "so is one that is outranked by what a killed owner left unsealed"},
    {Rule::kMoveCarriesChecksum, "L8", "move_carries_checksum", "a move loses the checksum"},
    {Rule::kMoveOnlyCurrent, "L8", "move_only_current",
     "a move is published though the index left its source"},
    {Rule::kMoveOnlyIdleKeys, "L8", "move_only_idle_keys",
     "a move starts while an operation on its key is in flight"},
    {Rule::kTombstoneAlways, "L9", "tombstone_always",
     "a delete of a key that the index does not know writes nothing"},
    {Rule::kTombstoneStays, "L9", "tombstone_stays",
     "a segment with tombstones is freed before older ones"},
    {Rule::kForgottenOutranks, "L9", "forgotten_outranks",
     "so is one with records that were forgotten and not replaced"},
    {Rule::kUnindexedOutranks, "L9", "unindexed_outranks",
     "so is one with records that the index had no room for at open"},
    {Rule::kReuseInOrder, "L9", "reuse_in_order", "what was freed last is used first"},
    {Rule::kSyncRemovals, "L9", "sync_removals",
     "a segment is begun before names that came or went are synced"},
    {Rule::kMoveHalfASegment, "L10", "move_half_a_segment", "reclaim moves everything"},
    {Rule::kMoveOnlyWithRoom, "L10", "move_only_with_room",
     "reclaim moves with fewer than two free segments"},
    {Rule::kNeverWaitForReclaim, "L10", "never_wait_for_reclaim",
     "a store without a free segment waits"},
    {Rule::kSealWaitsForWrites, "L11", "seal_waits_for_writes",
     "a seal does not wait for the writes"},
    {Rule::kSealSyncsFirst, "L11", "seal_syncs_first", "a table is written before the sync"},
    {Rule::kSealSyncsTable, "L11", "seal_syncs_table", "a table is not synced"},
    {Rule::kScanWithoutTable, "L11", "scan_without_table", "a segment without a table is empty"},
    {Rule::kScanEveryGrain, "L12", "scan_every_grain", "a scan ends at the first hole"},
    {Rule::kScanVerifiesValues, "L12", "scan_verifies_values", "a scan believes headers"},
    {Rule::kAppendOnlyAfterCleanEnd, "L12", "append_only_after_clean_end",
     "an old checkpoint counts after an unclean end"},
    {Rule::kOpenFreesTwo, "L12", "open_frees_two", "open evicts nothing"},
    {Rule::kFailedSyncFailsBatches, "L13", "failed_sync_fails_batches",
     "batches that wait for a failed sync succeed"},
    {Rule::kFailedSyncLasts, "L13", "failed_sync_lasts",
     "a sync that succeeds after a failed one counts"},
    {Rule::kFailedSyncClosesSegment, "L13", "failed_sync_closes_segment",
     "a segment goes on after a failed sync"},
    {Rule::kFailedSyncAtOpen, "L13", "failed_sync_at_open",
     "a segment whose sync fails at open counts as synced"},
    {Rule::kFailedSyncDegrades, "L13", "failed_sync_degrades", "a failed sync leaves it healthy"},
    {Rule::kLock, "L14", "lock", "a killed owner's lock is not waited for"},
};
static_assert(std::size(kRules) + 1 == static_cast<std::size_t>(Rule::kCount));

constexpr BrokenContract kContracts[] = {
    {Defect::kLosesBatch, "C1", "the 5th batch never comes back"},
    {Defect::kReturnsTwice, "C1", "the 5th batch comes back twice"},
    {Defect::kChangesRefused, "C1", "a refused batch has new outcomes"},
    {Defect::kLosesAtStop, "C1", "what is not reaped at stop() never comes back"},
    {Defect::kLeavesPending, "C2", "an item comes back without an outcome"},
    {Defect::kFailsNeighbours, "C2", "one illegal key fails the others of its batch"},
    {Defect::kFailsWithoutError, "C2", "a failed item has no error"},
    {Defect::kMixesValues, "C4", "half of a replaced value is the old one"},
    {Defect::kWritesThoughPresent, "C4", "kIfAbsent replaces"},
    {Defect::kKeepsDeleted, "C4", "a Delete says done and does nothing"},
    {Defect::kFindsFailedKey, "C6", "a key whose Get failed is there again"},
};

}  // namespace

std::span<const BrokenRule> broken_rules() {
  return kRules;
}

std::span<const BrokenContract> broken_contracts() {
  return kContracts;
}

}  // namespace larder::mutation
