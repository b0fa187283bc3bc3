#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "larder/connector/tile_scheduler.h"
#include "larder/connectors/fs/byte_budget.h"
#include "larder/connectors/fs/file_store.h"
#include "larder/io/transfer_ring.h"

namespace larder::fs {

/// The loads of one worker: opens one file after the other and has the kernel read all of them at
/// once, so that one caller's batch is as deep as it has keys.
///
/// Ownership: owns the ring and the reads in flight on it. Threads: one, the worker's. Bounded by
/// the budget that all workers share, and by kFlightsMax open files. Invariant: a flight is in use
/// from the submission of its read until its item ended.
class Loader {
 public:
  static constexpr std::size_t kFlightsMax = 64;

  /// Without a ring (`has_ring` false, or none available) reads are made in the worker's thread.
  Loader(FileStore& store, TileScheduler& scheduler, ByteBudget& budget, bool has_ring);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Begins every item of a tile. The tile is finished here or in a later start() or wait(), with
  /// its last item. `note_progress()` is called after each call that may block.
  template <class Progress>
  void start(const Ticket& tile, const Progress& note_progress) {
    Job& job = new_job(tile);
    for (Item& item : tile.items) {
      if (scheduler_.intake().begin(*tile.batch, item)) load(job, item, note_progress);
      if (!is_idle()) reap();
      note_progress();
    }
    release(job);
  }
  /// Waits until a read has ended. Not when idle.
  void wait() noexcept;
  /// Nothing is in flight.
  bool is_idle() const noexcept { return free_.size() == flights_.size(); }
  /// Another tile would have to wait for a read to end.
  bool is_full() const noexcept { return ring_ != nullptr && free_.empty(); }

 private:
  /// A tile with reads in flight, or one that is being started.
  struct Job {
    Ticket tile;
    std::size_t parts = 0;  ///< Its flights, plus one while it is being started.
  };
  struct Flight {
    Job* job = nullptr;
    Item* item = nullptr;
    FileStore::OpenValue value;
    std::optional<ValueTransfer> transfer;
    io::Request request;
    std::uint64_t bytes = 0;  ///< Bytes taken from the budget.
  };

  template <class Progress>
  void load(Job& job, Item& item, const Progress& note_progress) {
    const std::uint64_t bytes = bytes_of(item.value);
    while (is_full()) {
      wait();
      note_progress();
    }
    while (!budget_.try_take(bytes)) {
      // Only a worker with nothing in flight may block here, or two could deadlock.
      if (is_idle()) {
        budget_.take(bytes);
        break;
      }
      wait();
      note_progress();
    }
    begin(job, item, bytes);
  }

  Job& new_job(const Ticket& tile) noexcept;
  void release(Job& job) noexcept;
  void begin(Job& job, Item& item, std::uint64_t bytes) noexcept;
  Status begin_read(Job& job, Item& item, std::uint64_t bytes, bool& is_in_flight);
  void reap() noexcept;
  void end(std::span<io::Request*> done) noexcept;
  Status end_read(Flight& flight);
  void end_item(const Job& job, Item& item, const Status& status, std::uint64_t bytes) noexcept;

  FileStore& store_;
  TileScheduler& scheduler_;
  ByteBudget& budget_;
  StagingBuffer staging_;
  std::vector<Flight> flights_;  ///< Null without a ring.
  std::vector<Flight*> free_;
  std::vector<Job> jobs_;
  std::vector<Job*> free_jobs_;
  std::unique_ptr<io::TransferRing> ring_;  ///< Null: reads are made here.
};

}  // namespace larder::fs
