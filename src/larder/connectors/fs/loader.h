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
#include "larder/io/file_ring.h"

namespace larder::fs {

/// The loads of one worker: opens one file after the other and has the kernel read all of them at
/// once, so that one caller's batch is as deep as it has keys.
///
/// Ownership: the ring and what is in flight on it. Threads: one, the worker's. Bounded by the
/// budget that all workers share, and by kFlightsMax open files. Invariant: a flight is in use from
/// the submission of its read until its item ended.
class Loader {
 public:
  static constexpr std::size_t kFlightsMax = 64;

  /// Without a ring (`has_ring` false, or none to be had) reads are made in the worker's thread.
  Loader(FileStore& store, TileScheduler& scheduler, ByteBudget& budget, bool has_ring);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Ends every item of the tile. `note_progress()` is called after each call that may block.
  template <class Progress>
  void run(const TileScheduler::Tile& tile, const Progress& note_progress) {
    for (Item& item : tile.items) {
      if (scheduler_.begin_item(*tile.batch, item)) load(*tile.batch, item, note_progress);
      if (ring_ != nullptr && ring_->in_flight() > 0) reap(*tile.batch);
      note_progress();
    }
    while (ring_ != nullptr && ring_->in_flight() > 0) {
      wait(*tile.batch);
      note_progress();
    }
  }

 private:
  struct Flight {
    Item* item = nullptr;
    FileStore::OpenValue value;
    std::optional<ValueTransfer> transfer;
    io::Request request;
    std::uint64_t bytes = 0;  ///< Taken from the budget.
  };

  template <class Progress>
  void load(const Batch& batch, Item& item, const Progress& note_progress) {
    const std::uint64_t bytes = bytes_of(item.value);
    while (ring_ != nullptr && free_.empty()) {
      wait(batch);
      note_progress();
    }
    while (!budget_.try_take(bytes)) {
      // Only who has nothing in flight may wait for others: else two could wait for each other.
      if (ring_ == nullptr || ring_->in_flight() == 0) {
        budget_.take(bytes);
        break;
      }
      wait(batch);
      note_progress();
    }
    begin(batch, item, bytes);
  }

  void begin(const Batch& batch, Item& item, std::uint64_t bytes) noexcept;
  Status begin_read(const Batch& batch, Item& item, std::uint64_t bytes, bool& is_in_flight);
  void reap(const Batch& batch) noexcept;
  void wait(const Batch& batch) noexcept;
  void end(const Batch& batch, std::span<io::Request*> done) noexcept;
  Status end_read(Flight& flight);
  void end_item(const Batch& batch, Item& item, const Status& status, std::uint64_t bytes) noexcept;

  FileStore& store_;
  TileScheduler& scheduler_;
  ByteBudget& budget_;
  StagingBuffer staging_;
  std::vector<Flight> flights_;
  std::vector<Flight*> free_;
  std::unique_ptr<io::FileRing> ring_;  ///< Null: reads are made here.
};

}  // namespace larder::fs
