#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connectors/log/appender.h"
#include "larder/connectors/log/loads.h"
#include "larder/connectors/log/options.h"
#include "larder/connectors/log/path_state.h"
#include "larder/connectors/log/reclaimer.h"
#include "larder/connectors/log/scanner.h"
#include "larder/connectors/log/superblock_file.h"
#include "larder/connectors/log/superblock_writer.h"

namespace larder::log_store {

class BatchSink {
 public:
  virtual ~BatchSink() = default;
  /// Every item of the batch has its outcome. Called in the path's thread, and from any while that
  /// is blocked.
  virtual void on_batch(Batch& batch) noexcept = 0;
};

/// One directory's log: a single-threaded state machine over a device and Clock. A reactor thread
/// drives it in production, a simulator under virtual time in tests; both run exactly this:
///
///   accept() batches; turn(); wait on the device until next_timer_ns(); turn(); ...
///
/// Items wait in queues by urgency, loads apart from stores, and are started as transfers come
/// free, weighted by bytes. Deadlines, cancellation, stalls and disk space are looked after in
/// turn().
///
/// Ownership: device, clock and sink outlive it. Batches are the callers' until on_batch().
/// Threads: one, but probe(), counters() and health() from any.
class LogPath final : public LoadSink, public StoreSink, public FileCallSink {
 public:
  /// Makes a new store in an empty directory, or opens the one that is there. Blocks.
  /// `where` names the directory in messages.
  static SetupResult<std::unique_ptr<LogPath>> open(const PathOptions& asked,
                                                    io::Directory& directory,
                                                    io::TransferQueue& queue, const Clock& clock,
                                                    BatchSink& sink, const std::string& where);
  ~LogPath() override;

  /// Takes a batch of Get, Set, Delete or Touch. `batch.connector_pending` is set to its item
  /// count.
  void accept(Batch& batch) noexcept;
  /// A bit of Batch::connector_pending: any thread sets it to have the batch cancelled at the next
  /// turn, then calls note_cancel().
  static constexpr std::uint32_t kCancelBit = 1U << 31;
  void note_cancel() noexcept { has_cancelled_.store(true, std::memory_order_release); }

  /// The part of a turn in which the kernel may block; turn() does it where nobody has.
  void reap() noexcept { state_.transfers.reap(); }
  void turn() noexcept;
  /// When turn() has something to do although nothing happened; kNever when it has not.
  std::uint64_t next_timer_ns() const noexcept;
  void start_scan(ScanTask& task) noexcept { scanner_.start(task); }

  /// Cancels what is queued and begins nothing of its own any more. turn() goes on until is_idle().
  void begin_stop() noexcept;
  bool is_idle() const noexcept;
  /// After is_idle(): writes what makes the next open fast and marks the store clean. Blocks. A
  /// path that is destroyed without it is one whose process was killed.
  Status close() noexcept;

  // While the kernel does not let the path's thread go (path_blocked.cc), the path is down: nothing
  // else waits.
  /// Any thread: from now on the path is down.
  void note_blocked() noexcept { state_.health.note_blocked(); }
  /// The path's thread, when it is back.
  void note_unblocked() noexcept;
  bool is_blocked() const noexcept { return state_.health.is_blocked(); }
  /// Any thread: ends a batch that accept() has not seen, with misses and refusals.
  void answer_as_down(Batch& batch) const noexcept;
  /// Does the same with what accept() has queued and nobody has begun. Only while is_blocked(), and
  /// nobody is in accept() or turn().
  void answer_queued_as_down() noexcept;
  std::uint64_t stall_ns() const noexcept { return state_.options.stall_ns; }

  /// Exists from memory, from any thread: fills outcome and value_bytes.
  void probe(std::span<Item> items) const noexcept;
  const PathCounters& counters() const noexcept { return state_.counters; }
  const PathHealth& health() const noexcept { return state_.health; }
  const EventRing& events() const noexcept { return state_.events; }
  const Superblock& superblock() const noexcept { return state_.superblock; }
  std::uint64_t keys() const noexcept { return state_.index.keys(); }
  std::uint64_t index_bytes() const noexcept { return state_.index.bytes(); }

  // For the simulation's oracle; the path's thread only.
  const Segments& segments_for_test() const noexcept { return state_.segments; }
  /// Where the index says that the key is.
  std::optional<Place> place_for_test(std::span<const std::byte> key) const noexcept {
    const auto entry = state_.index.find(state_.fingerprint(key));
    if (!entry) return std::nullopt;
    return state_.segments.place_of(entry->location);
  }
  bool is_frozen_for_test() const noexcept { return state_.is_frozen; }
  std::optional<std::uint32_t> head_for_test() const noexcept { return appender_.head(); }

  void on_load(LoadTask& load) noexcept override;
  void on_store(StoreTask& store) noexcept override;
  void on_delete(DeleteTask& erase) noexcept override;
  bool on_written(StoreTask& store) noexcept override;
  void on_file_call(FileCall& call) noexcept override;

 private:
  struct Owner {
    Batch* batch = nullptr;
    Item* item = nullptr;
  };
  struct GetTask {
    LoadTask load;
    Owner owner;
  };
  struct SetTask {
    StoreTask store;
    Owner owner;
  };
  struct EraseTask {
    DeleteTask erase;
    Owner owner;
  };
  /// Tasks by value, reused; a deque keeps their addresses.
  template <class Task>
  struct Pool {
    std::deque<Task> all;
    std::vector<Task*> free;
    Task& take();
    void give(Task& task) { free.push_back(&task); }
  };
  /// First in, first out, through Batch::connector_next. The next item to start is kept in the
  /// first item's connector_words.
  struct Queue {
    Batch* head = nullptr;
    Batch* tail = nullptr;
    double pass = 0;  ///< Virtual time: bytes started / weight.
    bool is_blocked = false;
  };
  static constexpr std::size_t kQueues = 2 * kUrgencyCount;
  enum class Start : std::uint8_t { kStarted, kBlocked };

  static constexpr Error kStoreWhileDown{ErrorCode::kUnavailable, "log",
                                         "the path is down; the store was refused"};
  static constexpr Error kDeleteWhileDown{ErrorCode::kUnavailable, "log",
                                          "the path is down; nothing was deleted"};

  LogPath(const PathOptions& options, const Geometry& geometry, const Superblock& superblock,
          std::uint32_t segment_numbers, PathMemory memory, io::Directory& directory,
          io::TransferQueue& queue, const Clock& clock, BatchSink& sink, const std::string& where,
          std::unique_ptr<SuperblockFile> superblock_file);

  SetupStatus begin_session(std::uint64_t newest);
  void freeze(const Error& why);
  void adopt_head(std::uint32_t segment);

  // Scheduling.
  bool take_hashed() noexcept;
  void schedule() noexcept;
  Queue* next_queue() noexcept;
  Start start_item(Batch& batch, Item& item) noexcept;
  Start start_get(Batch& batch, Item& item) noexcept;
  Start start_set(Batch& batch, Item& item) noexcept;
  Start start_delete(Batch& batch, Item& item) noexcept;
  void touch(Batch& batch, Item& item) noexcept;
  void end_item(Batch& batch, Item& item, Outcome outcome, const Error& error = {}) noexcept;
  static std::uint64_t& cursor(Batch& batch) noexcept { return batch.items[0].connector_words[0]; }
  static std::uint64_t& unsynced(Batch& batch) noexcept {
    return batch.items[0].connector_words[1];
  }

  // Time (path_time.cc).
  void end_queued(bool (*is_due)(const Batch&, std::uint64_t), std::uint64_t now_ns,
                  const Error& error) noexcept;
  void fail_rest(Batch& batch, const Error& error) noexcept;
  void expire(std::uint64_t now_ns) noexcept;
  void shun(std::span<const std::byte> key, std::uint64_t now_ns) noexcept;
  void forgive(std::uint64_t now_ns) noexcept;
  void watch_stalls(std::uint64_t now_ns) noexcept;
  void watch_files(std::uint64_t now_ns) noexcept;
  void watch_space(std::uint64_t now_ns) noexcept;
  void thaw(bool may_try) noexcept;
  void apply_space(const io::Space& space, bool may_add_files) noexcept;
  void start_probe() noexcept;
  void publish_gauges() noexcept;
  Status write_checkpoint(std::uint32_t number, TableBuilder& table) noexcept;

  /// Tells whether a path that is down has come back: writes the owner's note, where nothing else
  /// is, and reads the superblock.
  class Probe final : public TransferSink {
   public:
    explicit Probe(PathState& state) : state_(state) {}
    void start(io::FileId file) noexcept;
    bool is_busy() const noexcept { return is_busy_; }
    void on_transfer(Transfer& transfer) noexcept override;

   private:
    void submit(io::Operation operation, std::uint64_t offset) noexcept;

    PathState& state_;
    io::FileId file_ = 0;
    AlignedBuffer memory_;
    bool is_busy_ = false;
  };

  PathState state_;
  BatchSink& sink_;
  std::unique_ptr<SuperblockFile> superblock_file_;
  Loads loads_;
  Appender appender_;
  Reclaimer reclaimer_;
  Scanner scanner_;
  SuperblockWriter superblock_writer_;
  Probe probe_;

  std::array<Queue, kQueues> queues_;
  double virtual_time_ = 0;
  std::uint64_t batches_queued_ = 0;
  std::uint64_t next_deadline_ns_ = kNever;
  std::uint64_t next_space_check_ns_ = 0;
  std::uint64_t next_turn_ns_ = kNever;  ///< When the last turn wanted the next one at the latest.
  /// Until then nothing counts as stalled: this thread did not run, and neither may have those that
  /// move the bytes.
  std::uint64_t no_stall_before_ns_ = 0;
  FileCall look_call_;
  std::uint64_t superblock_inode_ = 0;
  bool is_stopping_ = false;
  bool are_files_stalled_ = false;
  bool are_syncs_stalled_ = false;
  std::atomic<bool> has_cancelled_ = false;

  Pool<GetTask> gets_;
  Pool<SetTask> sets_;
  Pool<EraseTask> erases_;

  struct FingerprintHash {
    std::size_t operator()(const Fingerprint& fingerprint) const noexcept {
      return static_cast<std::size_t>(fingerprint.low);
    }
  };
  /// Keys whose load ran out of time, and until when they are misses (C6).
  std::unordered_map<Fingerprint, std::uint64_t, FingerprintHash> shunned_until_ns_;
  std::deque<std::pair<std::uint64_t, Fingerprint>> forgive_at_ns_;
};

}  // namespace larder::log_store
