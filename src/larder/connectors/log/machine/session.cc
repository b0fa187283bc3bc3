#include "larder/connectors/log/machine/session.h"

#include <string>

#include "larder/base/result.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/rule.h"
#include "larder/connectors/log/machine/blocking_io.h"
#include "larder/connectors/log/machine/setup_error.h"

namespace larder::log_store {

SetupStatus Session::begin(std::uint64_t newest) {
  Superblock& superblock = state_.superblock;
  const bool is_older = newest > superblock.open_count && !is_broken(Rule::kNewestOpenCount);
  if (is_older) {
    state_.health.note_flaw("the superblock is older than the segments (opened " +
                            std::to_string(superblock.open_count) + " times, they " +
                            std::to_string(newest) +
                            "): it was restored, or is of a backup; the count goes on from theirs");
    superblock.open_count = newest;
  }
  superblock.is_clean = false;
  if (!is_broken(Rule::kRaiseOpenCount)) ++superblock.open_count;
  superblock.segment_count = state_.segments.geometry().segment_count;
  if (const Status written = superblock_file_.write(superblock); !written) {
    if (is_lack_of_space(written.error().sys_errno())) {
      freeze(written.error());
      return {};
    }
    return setup_error(state_.health.where(), "cannot write the superblock", written.error());
  }
  superblock_file_.write_owner_note(state_.options.owner_note);
  appender_.begin_generations(superblock.open_count);
  return {};
}

void Session::freeze(const Error& why) {
  state_.is_frozen = true;
  state_.health.set_condition("superblock",
                              "the superblock cannot be written (" + why.to_string() +
                                  "): what the store has is served, and nothing is stored or "
                                  "deleted until there is room; free some space");
}

void Session::adopt_head(std::uint32_t number) {
  Segment& segment = state_.segments.at(number);
  const bool is_shared = state_.directory.shares_blocks(segment_file_name(number)).value_or(false);
  if (!state_.is_frozen && !is_shared) {
    BlockingIo io{state_.queue, state_.clock, state_.options.opening_steps};
    const std::uint64_t trailer_at =
        state_.segments.geometry().segment_bytes - state_.grain_bytes();
    const bool is_void =
        is_broken(Rule::kVoidCheckpoint) || is_broken(Rule::kAppendOnlyAfterCleanEnd) ||
        (io.write(segment.file, trailer_at, state_.zeros.span()) && io.sync(segment.file));
    if (is_void) return appender_.adopt_head(number);
    segment.sync_failed = true;  // L13: the content of the disk is unknown now.
  }
  state_.segments.note_sealed(number);  // Its table is in memory.
}

Status Session::write_checkpoint(std::uint32_t number, TableBuilder& table) noexcept {
  BlockingIo io{state_.queue, state_.clock};
  const Segment& segment = state_.segments.at(number);
  const Geometry& geometry = state_.segments.geometry();
  LARDER_TRY(io.sync(segment.file));
  LARDER_ASSIGN(
      const AlignedBuffer bytes,
      table.encode(TableKind::kCheckpoint, state_.identity(number), state_.superblock.open_count,
                   segment.append_offset, geometry, state_.superblock.secret));
  LARDER_TRY(io.write(segment.file, geometry.segment_bytes - bytes.size(), bytes.span()));
  return io.sync(segment.file);
}

Status Session::end() noexcept {
  if (state_.is_frozen) return {};  // Nothing was written: the superblock still holds.
  if (const auto head = appender_.head()) {
    Segment& segment = state_.segments.at(*head);
    if (segment.sync_failed) return Error{ErrorCode::kIo, "log", "a sync had failed"};
    LARDER_TRY(write_checkpoint(*head, *segment.table));
  }
  if (const auto ready = appender_.ready()) {
    TableBuilder empty;
    state_.segments.at(*ready).append_offset = state_.grain_bytes();
    LARDER_TRY(write_checkpoint(*ready, empty));
  }
  state_.superblock.is_clean = true;
  state_.superblock.segment_files = state_.segments.whole_files_count();
  return superblock_file_.write(state_.superblock);
}

}  // namespace larder::log_store
