#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

/// The files of the segments: they are made as they are needed, and removed where space runs short,
/// where they share their blocks with a copy, or where they cannot be written. One call to the file
/// system at a time, by way of FileCalls, because such calls have no deadline.
///
/// Invariant: nothing is overwritten, made or removed before earlier removals are durable (L9): a
///   removed segment may hold records whose tombstones are in the next segment to go, and a power
///   cut may bring its file back.
/// Threads: the path's one.
class SegmentFiles final : public FileCallSink {
 public:
  explicit SegmentFiles(PathState& state) : state_(state) {}

  struct Next {
    std::optional<std::uint32_t> segment;  ///< Still among the free ones.
    bool waits_for_copies = false;         ///< Records that were moved from it are not synced (L6).
  };
  /// The segment that can be overwritten next, made if none is free; empty while that has to wait,
  /// or if there is none.
  Next next() noexcept;
  /// Whether a call is in flight whose answer is worth waiting for.
  bool is_waiting() const noexcept { return call_.is_busy() && !is_stalled_; }
  bool is_growing() const noexcept {
    return call_.is_busy() && call_.kind == FileCall::Kind::kMake;
  }
  /// Segments without a file yet that stores can count on.
  std::uint32_t room_to_grow() const noexcept {
    return may_grow_ ? state_.segments.absent_count() : 0;
  }
  /// The next segment shares its blocks with a copy, and there is no room for others.
  bool is_shared() const noexcept { return is_shared_; }
  bool is_quiet() const noexcept { return !call_.is_busy(); }

  /// Removes the file of a segment that is free or cannot be written, so that it is made again.
  void make_anew(std::uint32_t segment) noexcept;
  /// Removes the file of the segment that would be used next, as the file system is too full.
  void give_back() noexcept;
  /// Retries failed calls once in a while, so that the path recovers with the file system, even if
  /// no task needs them.
  void retry() noexcept;

  /// The directory is synced before the next segment is begun: after the removal of a segment's
  /// file, because the segment that is overwritten next may hold the tombstones for its records
  /// (L9), and at open, because a power cut may not preserve the names of a killed owner's files.
  void owe_directory_sync() noexcept { owes_directory_sync_ = true; }
  /// Whether files may be added: not on a full file system, nor below min_free. Once in a while.
  void set_growth(bool may_grow) noexcept;
  /// The file system does not answer: stores do not wait for it.
  void set_stalled(bool is_stalled) noexcept { is_stalled_ = is_stalled; }

  void on_file_call(FileCall& call) noexcept override;

 private:
  bool settle() noexcept;
  bool grow() noexcept;
  bool has_blocks_of_its_own(std::uint32_t segment) noexcept;
  void remove(std::uint32_t segment) noexcept;
  void start(FileCall::Kind kind, std::uint32_t segment) noexcept;
  void on_made(std::uint32_t number, const Status& made) noexcept;
  void on_removed(std::uint32_t number, const Status& removed) noexcept;
  void on_looked_for_copies(std::uint32_t number, bool is_shared) noexcept;
  void on_directory_synced(const Status& synced) noexcept;
  void note_growth(const std::string& why_not) noexcept;
  bool open_whole(std::uint32_t number) noexcept;

  PathState& state_;
  FileCall call_;  ///< One at a time.
  bool is_stalled_ = false;
  bool owes_directory_sync_ = false;
  bool may_grow_ = true;
  bool has_failed_to_grow_ = false;
  /// The next free segment, once it is known whether its blocks are its own.
  std::optional<std::uint32_t> looked_at_;
  bool is_shared_ = false;  ///< They are not, and there is no room for others.
  std::deque<std::uint32_t> to_remove_;
  std::uint64_t sync_directory_at_ns_ = 0;  ///< Not before.
  std::uint64_t remove_at_ns_ = 0;          ///< Not before.
};

}  // namespace larder::log_store
