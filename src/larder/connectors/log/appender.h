#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/hash.h"
#include "larder/connector/connector.h"
#include "larder/connectors/log/path_state.h"

namespace larder::log_store {

struct StoreTask;
struct DeleteTask;

class StoreSink {
 public:
  virtual ~StoreSink() = default;
  /// The record was written (and synced, where asked for), or `task.error` says why not. The task
  /// is the sink's again.
  virtual void on_store(StoreTask& task) noexcept = 0;
  virtual void on_delete(DeleteTask& task) noexcept = 0;
  /// The record is written and waits for a sync. True when its whole batch does: the sync is due.
  virtual bool on_written(StoreTask& task) noexcept = 0;
};

/// One record on its way from `value` to the head. Pooled by who starts it.
struct StoreTask {
  // In.
  Fingerprint fingerprint;
  std::span<const std::byte> key;
  std::span<const Slice> value;
  std::uint64_t value_bytes = 0;
  bool wants_sync = false;
  /// A move (L8): the checksum is known, and the index changes only if it still points to `source`.
  std::optional<Location> source;
  Hash128 checksum{};
  StoreSink* sink = nullptr;
  void* user_data = nullptr;

  // Out.
  Error error;
  bool was_published = false;

  // The appender's own.
  AlignedBuffer header;  ///< One grain, made at the task's first use.
  Location location;
  bool is_direct = false;
  bool is_hashed = false;
  bool is_waiting = false;
  bool header_submitted = false;
  std::uint64_t submitted = 0;
  std::uint32_t transfers_in_flight = 0;
  std::vector<iovec> hash_memory;
  HashJob hash_job;
  StreamingHash128 hash;
  StoreTask* next_in_write = nullptr;
};

struct DeleteTask {
  Fingerprint fingerprint;
  std::span<const std::byte> key;
  bool wants_sync = false;
  StoreSink* sink = nullptr;
  void* user_data = nullptr;
  bool existed = false;  ///< Out.
  Error error;           ///< Out.

  // The appender's own.
  Place value_before;  ///< Of the latest value of the key at its start, in the index or on its way.
};

/// What a start_* call came to.
enum class Admission : std::uint8_t {
  kStarted = 0,  ///< The sink will be called.
  kWait,         ///< The next segment is being prepared: try again after the next turn.
  kRefused,      ///< No free segment (L10): nothing was done.
};

/// The head of a path: gives out places, writes records and tombstones, publishes them, and takes a
/// segment from free through ready, open and sealing to sealed (L2, L4, L9, L11, L13).
///
/// A record of up to `io_bytes` is hashed, then written with its header in one transfer, together
/// with its neighbours where they are small. A longer one is written piece by piece while it is
/// hashed, its header last.
/// Threads: the path's one.
class Appender final : public TransferSink, public FileCallSink {
 public:
  explicit Appender(PathState& state) : state_(state) {}

  Admission start_store(StoreTask& task) noexcept;
  Admission start_delete(DeleteTask& task) noexcept;
  /// Ends the round: hands the gathered tombstones and small records to the device, goes on with
  /// tasks that wait, prepares and seals segments.
  void turn() noexcept;
  /// Goes on with records that wait for a transfer or for memory. Before new ones take those.
  void pump() noexcept;
  /// The path is down: what has nothing with the kernel ends now, the rest when its I/O ends.
  void fail_waiting() noexcept;
  void on_transfer(Transfer& transfer) noexcept override;
  void on_hashed(StoreTask& task) noexcept;

  /// Segments that stores can go on to after the present one.
  std::uint32_t free_segments() const noexcept;
  std::uint32_t in_flight() const noexcept { return tasks_in_flight_; }
  bool has_waiting() const noexcept { return !waiting_.empty(); }
  /// Nothing of its own is with the device: no header, table, sync or file.
  bool is_quiet() const noexcept { return internal_in_flight_ == 0 && !file_call_.is_busy(); }

  /// Goes on in this segment, which a clean close left open (recovery).
  void adopt_head(std::uint32_t segment) noexcept { head_ = segment; }
  std::optional<std::uint32_t> head() const noexcept { return head_; }
  std::optional<std::uint32_t> ready() const noexcept { return ready_; }
  /// Segments on their way from full to sealed.
  std::uint32_t sealing() const noexcept { return sealing_; }
  /// The last generation that was given out, and by whom.
  void begin_generations(std::uint64_t open_count) noexcept { generation_ = open_count << 32; }
  /// The directory is synced before the next segment is begun: when a segment's file was removed,
  /// as what is overwritten next may hold the tombstones for its records (L9), and at open, as a
  /// killed owner's files may have names that no power cut has seen.
  void owe_directory_sync() noexcept { owes_directory_sync_ = true; }
  /// Set when free segments may not be added to the file system: a full disk, or min_free. Once in
  /// a while; it also lets stores try again after the file system had no room for an overwrite.
  void set_growth(bool may_grow) noexcept;
  /// Why start_store() refuses.
  Error refusal() const noexcept;
  /// Tries again what failed in the file system, once in a while, so that the path is well again
  /// when the file system is, although nobody may need what failed.
  void retry_files() noexcept;
  /// The file system does not answer: stores do not wait for it.
  void set_files_stalled(bool is_stalled) noexcept { are_files_stalled_ = is_stalled; }
  void set_syncs_stalled(bool is_stalled) noexcept { are_syncs_stalled_ = is_stalled; }
  /// Removes the file of the segment that would be used next, as the file system is too full.
  void give_back() noexcept;
  void on_file_call(FileCall& call) noexcept override;

 private:
  enum class Step : std::uint8_t {
    kSettle = 1,  ///< A sync, where an earlier write of the header has failed.
    kHeaderWrite,
    kHeaderSync,
    kSync,
    kTableWrite,
    kTableSync,
  };
  /// What the appender itself has in flight on a segment.
  struct SegmentWork {
    std::uint32_t segment = 0;
    Step step = Step::kHeaderWrite;
    AlignedBuffer buffer;
    std::uint32_t in_flight = 0;
    bool failed = false;
    int sys_errno = 0;
  };
  /// Tasks whose writes ended, waiting for a sync of their segment.
  struct SyncGroup {
    std::uint32_t segment = 0;
    SegmentPin pin;
    bool in_flight = false;
    bool is_due = false;
    std::vector<StoreTask*> covered;  ///< By the sync in flight.
    std::vector<StoreTask*> waiting;
    std::vector<DeleteTask*> covered_deletes;
    std::vector<DeleteTask*> waiting_deletes;
  };
  struct TombstoneGrain {
    AlignedBuffer grain;
    std::size_t payload_bytes = 0;
    Location location;
    std::vector<DeleteTask*> tasks;
  };
  /// What a transfer of the appender is for; Transfer::task points to its StoreTask (the first of a
  /// run), TombstoneGrain, SegmentWork or SyncGroup.
  enum Purpose : std::uint32_t { kRun = 1, kPiece, kTombstones, kWork, kGroupSync };

  // Places.
  Admission make_room(std::uint64_t bytes, std::uint64_t entries, std::uint64_t key_bytes) noexcept;
  Location allocate(std::uint64_t bytes, std::uint64_t entries, std::uint64_t key_bytes) noexcept;

  // Records.
  void begin_record(StoreTask& task) noexcept;
  void write(StoreTask& task) noexcept;
  void gather(StoreTask& task) noexcept;
  void flush_run() noexcept;
  bool submit_run(StoreTask* first) noexcept;
  bool submit_pieces(StoreTask& task) noexcept;
  bool is_long(const StoreTask& task) const noexcept;
  void fill_header(StoreTask& task) noexcept;
  Transfer* acquire_write(std::uint32_t segment, std::uint64_t offset, Purpose purpose,
                          void* task) noexcept;
  void append_padding(Transfer& transfer, std::uint64_t value_bytes);
  void wait(StoreTask& task) noexcept;
  void note_io_error(const char* what, int sys_errno) noexcept;
  static Error error_of_write(const Transfer& transfer) noexcept;
  void note_write_error(const Transfer& transfer) noexcept;
  void on_run_written(Transfer& transfer) noexcept;
  void on_piece_written(Transfer& transfer) noexcept;
  void settle(StoreTask& task) noexcept;
  void publish(StoreTask& task) noexcept;
  void end(StoreTask& task) noexcept;

  // Tombstones.
  void flush_tombstones() noexcept;
  void on_tombstones_written(Transfer& transfer) noexcept;
  void end(DeleteTask& task) noexcept;

  // Segments (appender_segments.cc).
  std::optional<std::uint32_t> take_free() noexcept;
  void prepare_next() noexcept;
  void seal_head() noexcept;
  void step_sealing(std::uint32_t segment) noexcept;
  void submit_work(SegmentWork& work, std::uint64_t offset) noexcept;
  void submit_work_sync(SegmentWork& work) noexcept;
  void on_work(Transfer& transfer) noexcept;
  void on_prepared(SegmentWork& work) noexcept;
  void give_up(std::uint32_t number) noexcept;
  void on_sealed(SegmentWork& work) noexcept;
  void end_work(SegmentWork& work) noexcept;
  void settle_write(std::uint32_t segment) noexcept;

  // Files (appender_files.cc).
  bool settle_files() noexcept;
  bool grow() noexcept;
  void start_file_call(FileCall::Kind kind, std::uint32_t segment) noexcept;
  bool has_blocks_of_its_own(std::uint32_t segment) noexcept;
  void on_looked_for_copies(std::uint32_t number, bool is_shared) noexcept;
  void remove_file(std::uint32_t segment) noexcept;
  void on_made(std::uint32_t number, const Status& made) noexcept;
  void note_growth(const std::string& why_not) noexcept;
  void on_removed(std::uint32_t number, const Status& removed) noexcept;
  bool open_whole(std::uint32_t number) noexcept;
  void on_directory_synced(const Status& synced) noexcept;

  // Group commit (appender_segments.cc).
  SyncGroup& group_of(std::uint32_t segment);
  void start_due_syncs() noexcept;
  void on_group_synced(Transfer& transfer) noexcept;

  PathState& state_;
  std::uint64_t generation_ = 0;
  std::optional<std::uint32_t> head_;
  std::optional<std::uint32_t> ready_;
  std::uint32_t sealing_ = 0;
  bool is_preparing_ = false;
  bool waits_for_copies_ = false;  ///< The next segment's records are not synced where they went.
  bool owes_directory_sync_ = false;
  bool may_grow_ = true;
  bool lacks_space_ = false;          ///< An overwrite met ENOSPC since set_growth().
  bool says_it_lacks_space_ = false;  ///< In the health, until a write succeeds.
  /// The next free segment, once it is known whether its blocks are its own.
  std::optional<std::uint32_t> looked_at_;
  bool is_shared_ = false;  ///< They are not, and there is no room for others.
  bool has_failed_to_grow_ = false;
  FileCall file_call_;  ///< One at a time.
  std::deque<std::uint32_t> to_remove_;
  std::uint64_t sync_directory_at_ns_ = 0;  ///< Not before.
  std::uint64_t remove_at_ns_ = 0;          ///< Not before.
  bool are_files_stalled_ = false;
  bool are_syncs_stalled_ = false;

  StoreTask* run_first_ = nullptr;  ///< Small records that stand one behind the other, unwritten.
  StoreTask* run_last_ = nullptr;
  std::uint64_t run_bytes_ = 0;
  std::size_t run_vectors_ = 0;

  std::deque<StoreTask*> waiting_;
  std::unique_ptr<TombstoneGrain> tombstones_;
  std::vector<std::unique_ptr<TombstoneGrain>> tombstones_in_flight_;
  std::vector<std::unique_ptr<SegmentWork>> works_;
  std::vector<std::unique_ptr<SyncGroup>> groups_;
  std::uint32_t tasks_in_flight_ = 0;
  std::uint32_t tasks_waiting_for_sync_ = 0;
  std::uint32_t internal_in_flight_ = 0;
};

}  // namespace larder::log_store
