#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "larder/base/mutex.h"

namespace larder::internal {

/// How the threads' values of one cell become one. Zero is neutral to both.
enum class CellKind : std::uint8_t { kSum = 0, kMaximum };

inline constexpr std::uint32_t kCellsPerChunk = 1024;
inline constexpr std::uint32_t kChunks = 512;

using Cell = std::atomic<std::uint64_t>;

/// 8 KiB that one thread writes and everybody reads.
struct alignas(64) CellChunk {
  std::array<Cell, kCellsPerChunk> cells{};
};

/// One thread's cells, allocated in chunks at the first use of each.
class CellBlock {
 public:
  CellBlock() = default;
  ~CellBlock();
  CellBlock(const CellBlock&) = delete;
  CellBlock& operator=(const CellBlock&) = delete;

  /// Null when the chunk is not there yet.
  Cell* find(std::uint32_t cell) const noexcept {
    CellChunk* chunk = chunks_[cell / kCellsPerChunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : &chunk->cells[cell % kCellsPerChunk];
  }
  /// Null when there is no memory. By the block's thread only.
  Cell* find_or_create(std::uint32_t cell) noexcept;

 private:
  std::array<std::atomic<CellChunk*>, kChunks> chunks_{};
};

/// Every thread's cells, of every registry. A metric is some consecutive cell numbers.
///
/// Invariant: the value of a cell is the sum (or maximum) over the blocks of the living threads and
/// the block of the ended ones; a thread that ends moves its values to the latter under the mutex
/// that readers hold, so that no reader sees them twice or not at all.
class CellTable {
 public:
  static CellTable& instance();

  /// Numbers for `kinds.size()` cells, the first of which is returned; all in one chunk.
  std::uint32_t allocate(const std::vector<CellKind>& kinds) LARDER_EXCLUDES(mutex_);

  std::uint64_t read(std::uint32_t cell) const LARDER_EXCLUDES(mutex_);
  /// `count` consecutive cells.
  std::vector<std::uint64_t> read(std::uint32_t first, std::uint32_t count) const
      LARDER_EXCLUDES(mutex_);

  /// Of the ended threads: for one that has no block (it is ending, or there was no memory).
  Cell* shared_cells(std::uint32_t first) noexcept { return ended_.find(first); }

  /// Called once by each thread that counts; null when there is no memory.
  CellBlock* attach() noexcept LARDER_EXCLUDES(mutex_);
  void detach(CellBlock* block) noexcept LARDER_EXCLUDES(mutex_);

 private:
  std::uint64_t read_locked(std::uint32_t cell) const LARDER_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::vector<CellKind> kinds_ LARDER_GUARDED_BY(mutex_);  // By cell number.
  std::vector<std::unique_ptr<CellBlock>> living_ LARDER_GUARDED_BY(mutex_);
  // Its chunks are made by allocate(), before anyone knows the numbers of their cells.
  CellBlock ended_;
};

/// Consecutive cells as the calling thread may change them: its own by plain loads and stores,
/// because it alone writes them; without a block, the shared ones by atomic operations.
class WritableCells {
 public:
  /// Wait-free but for a thread's first use of a chunk.
  static WritableCells from(std::uint32_t first) noexcept;

  void add(std::uint32_t index, std::uint64_t n) noexcept {
    Cell& cell = first_[index];
    if (is_own_) [[likely]] {
      cell.store(cell.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    } else {
      cell.fetch_add(n, std::memory_order_relaxed);
    }
  }

  /// Makes the cell at least `to`.
  void raise(std::uint32_t index, std::uint64_t to) noexcept {
    Cell& cell = first_[index];
    std::uint64_t now = cell.load(std::memory_order_relaxed);
    if (is_own_) [[likely]] {
      if (now < to) cell.store(to, std::memory_order_relaxed);
    } else {
      while (now < to && !cell.compare_exchange_weak(now, to, std::memory_order_relaxed)) {
      }
    }
  }

 private:
  friend class CellTable;
  WritableCells(Cell* first, bool is_own) noexcept : first_(first), is_own_(is_own) {}

  Cell* first_;
  bool is_own_;
};

}  // namespace larder::internal
