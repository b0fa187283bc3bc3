#pragma once

#include <cstdint>
#include <optional>

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/group_commit.h"
#include "larder/connectors/log/machine/head.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/publisher.h"
#include "larder/connectors/log/machine/record_writer.h"
#include "larder/connectors/log/machine/segment_files.h"
#include "larder/connectors/log/machine/segment_preparer.h"
#include "larder/connectors/log/machine/segment_sealer.h"
#include "larder/connectors/log/machine/tombstones.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

/// The entry of everything that is appended: gives each store and delete its place at the head,
/// refuses it if there is none, and passes it on. The parts do the work:
///
///   Head             the segment that is appended to, and the places in it
///   SegmentPreparer  free -> ready, so that the head has where to go on (L2)
///   SegmentFiles     makes and removes the files of segments
///   RecordWriter     hashes and writes records: RunWriter short ones, PieceWriter long ones
///   Tombstones       gathers and writes deletes (L9)
///   Publisher        what follows a write: index, table, the end of the task (L4)
///   GroupCommit      syncs for those that wait for one (L13)
///   SegmentSealer    full -> sealed (L11)
///   WriteErrors      errors of the disk, and lack of space
///
/// Invariant: tombstones that were gathered are written before the head leaves their segment.
/// Threads: the path's one.
class Appender final : public FailedSyncSink {
 public:
  explicit Appender(PathState& state);

  Admission start_store(StoreTask& task) noexcept;
  Admission start_delete(DeleteTask& task) noexcept;
  /// Why start_store() refuses.
  Error refusal() const noexcept;
  void on_hashed(StoreTask& task) noexcept { records_.on_hashed(task); }
  /// Goes on with records that wait for a transfer or for memory. Before new ones take those.
  void pump() noexcept { records_.pump(); }
  /// Ends the round: writes the gathered tombstones and small records, continues tasks that wait,
  /// syncs, and prepares the next segment.
  void turn() noexcept;
  /// The path is down: tasks without I/O in the kernel end now, the others when their I/O ends.
  void fail_waiting() noexcept;

  /// The segments that stores can continue in after the present one.
  std::uint32_t free_segments() const noexcept;
  std::uint32_t in_flight() const noexcept { return tasks_.count(); }
  bool has_waiting() const noexcept { return records_.has_waiting(); }
  /// None of its own I/O is in flight: no header, table, sync or file.
  bool is_quiet() const noexcept {
    return preparer_.is_quiet() && sealer_.is_quiet() && commit_.is_quiet() && files_.is_quiet();
  }
  std::optional<std::uint32_t> head() const noexcept { return head_.segment(); }
  std::optional<std::uint32_t> ready() const noexcept { return preparer_.ready(); }
  std::uint32_t sealing() const noexcept { return sealer_.sealing(); }

  /// Goes on in this segment, which a clean close left open (recovery).
  void adopt_head(std::uint32_t segment) noexcept { head_.adopt(segment); }
  void begin_generations(std::uint64_t open_count) noexcept {
    preparer_.begin_generations(open_count);
  }
  /// See SegmentFiles.
  void owe_directory_sync() noexcept { files_.owe_directory_sync(); }
  void give_back() noexcept { files_.give_back(); }
  void retry_files() noexcept { files_.retry(); }
  void set_files_stalled(bool is_stalled) noexcept { files_.set_stalled(is_stalled); }
  /// The same, once in a while; it also lets stores try again after the file system had no room for
  /// an overwrite.
  void set_growth(bool may_grow) noexcept;
  void set_syncs_stalled(bool is_stalled) noexcept { preparer_.set_syncs_stalled(is_stalled); }

  void on_failed_sync(std::uint32_t segment) noexcept override;

 private:
  Admission make_room(std::uint64_t bytes, std::uint64_t entries, std::uint64_t key_bytes) noexcept;
  void leave_head() noexcept;

  PathState& state_;
  TasksInFlight tasks_;
  WriteErrors errors_;
  SegmentFiles files_;
  SegmentPreparer preparer_;
  Head head_;
  SegmentSealer sealer_;
  GroupCommit commit_;
  Publisher publisher_;
  RecordWriter records_;
  Tombstones tombstones_;
};

}  // namespace larder::log_store
