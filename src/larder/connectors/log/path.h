#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

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

/// One directory's log: a single-threaded state machine over a device and Clock. A reactor thread
/// drives it in production, a simulator under virtual time in tests; both run exactly this:
///
///   turn(); wait on the device until next_timer_ns(); turn(); ...
///
/// Get, Set, Delete and Touch come through the intake; their items are started as transfers come
/// free. Exists is answered from memory, in the caller's thread. While the path is down, or its
/// thread is blocked, the intake answers for it. Stalls and disk space are looked after in turn().
///
/// Ownership: device and clock outlive it.
/// Threads: one, but intake(), look_up(), probe(), counters(), health() and note_blocked() from
/// any.
class LogPath final : public LoadSink, public StoreSink, public FileCallSink {
 public:
  /// Makes a new store in an empty directory, or opens the one that is there. Blocks.
  /// `where` names the directory in messages.
  static SetupResult<std::unique_ptr<LogPath>> open(const PathOptions& asked,
                                                    io::Directory& directory,
                                                    io::TransferQueue& queue, const Clock& clock,
                                                    const std::string& where);
  ~LogPath() override;

  Intake& intake() noexcept { return state_.intake; }
  const Intake& intake() const noexcept { return state_.intake; }

  void turn() noexcept;
  /// When turn() has something to do although nothing happened; kNever when it has not.
  std::uint64_t next_timer_ns() const noexcept;
  void start_scan(ScanTask& task) noexcept { scanner_.start(task); }

  /// After the intake was stopped: begins nothing of its own any more. turn() goes on until
  /// is_idle().
  void begin_stop() noexcept;
  bool is_idle() const noexcept;
  /// After is_idle(): writes what makes the next open fast and marks the store clean. Blocks. A
  /// path that is destroyed without it is one whose process was killed.
  Status close() noexcept;

  /// Any thread: the kernel does not let the path's thread go. Its owner has the intake answer
  /// until note_unblocked(), which is for the thread itself when it is back.
  void note_blocked() noexcept { state_.health.note_blocked(); }
  void note_unblocked() noexcept;
  bool is_blocked() const noexcept { return state_.health.is_blocked(); }
  std::uint64_t stall_ns() const noexcept { return state_.options.stall_ns; }

  /// Any thread: works an Exists off at once, as submit() does.
  Status look_up(Batch& batch) noexcept;
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
  enum class Start : std::uint8_t { kStarted, kBlocked };

  LogPath(const PathOptions& options, const Geometry& geometry, const Superblock& superblock,
          std::uint32_t segment_numbers, PathMemory memory, io::Directory& directory,
          io::TransferQueue& queue, const Clock& clock, const std::string& where,
          std::unique_ptr<SuperblockFile> superblock_file);

  SetupStatus begin_session(std::uint64_t newest);
  void freeze(const Error& why);
  void adopt_head(std::uint32_t segment);

  // Scheduling.
  bool take_hashed() noexcept;
  void schedule() noexcept;
  Start start_item(Batch& batch, Item& item) noexcept;
  Start start_get(Batch& batch, Item& item) noexcept;
  Start start_set(Batch& batch, Item& item) noexcept;
  Start start_delete(Batch& batch, Item& item) noexcept;
  void touch(Batch& batch, Item& item) noexcept;
  void end_item(const Owner& owner, Outcome outcome) noexcept;
  void end_item(const Owner& owner, const Error& error, bool says_of_key = true) noexcept;
  /// Of a batch's stores those that wait for a sync.
  static std::uint64_t& unsynced(Batch& batch) noexcept {
    return batch.items[0].connector_words[0];
  }

  // Time (path_time.cc).
  void tell_intake() noexcept;
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
  std::unique_ptr<SuperblockFile> superblock_file_;
  Loads loads_;
  Appender appender_;
  Reclaimer reclaimer_;
  Scanner scanner_;
  SuperblockWriter superblock_writer_;
  Probe probe_;

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

  Pool<GetTask> gets_;
  Pool<SetTask> sets_;
  Pool<EraseTask> erases_;
};

}  // namespace larder::log_store
