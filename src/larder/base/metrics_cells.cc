#include "larder/base/metrics_cells.h"

#include <algorithm>
#include <new>

#include "larder/base/check.h"

namespace larder::internal {
namespace {

// What the hot path looks at; zero-initialised, so that reading it costs no guard.
thread_local constinit CellBlock* block_of_this_thread = nullptr;
thread_local constinit bool was_attached = false;

/// Detaches the block when the thread ends. Metrics that are touched by destructors that run even
/// later go to the shared cells.
struct Detacher {
  bool armed = false;
  Detacher() = default;
  Detacher(const Detacher&) = delete;
  Detacher& operator=(const Detacher&) = delete;
  ~Detacher() {
    if (!armed) return;
    CellTable::instance().detach(block_of_this_thread);
    block_of_this_thread = nullptr;
  }
};
thread_local Detacher detacher;

void attach_this_thread() noexcept {
  was_attached = true;
  block_of_this_thread = CellTable::instance().attach();
  detacher.armed = block_of_this_thread != nullptr;
}

/// The thread's own cells from `cell` on, or null.
Cell* own_cells(std::uint32_t cell) noexcept {
  if (block_of_this_thread == nullptr) [[unlikely]] {
    if (was_attached) return nullptr;
    attach_this_thread();
    if (block_of_this_thread == nullptr) return nullptr;
  }
  if (Cell* found = block_of_this_thread->find(cell); found != nullptr) [[likely]]
    return found;
  return block_of_this_thread->find_or_create(cell);
}

}  // namespace

CellBlock::~CellBlock() {
  for (auto& chunk : chunks_) delete chunk.load(std::memory_order_relaxed);
}

Cell* CellBlock::find_or_create(std::uint32_t cell) noexcept {
  auto& chunk = chunks_[cell / kCellsPerChunk];
  if (chunk.load(std::memory_order_relaxed) == nullptr) {
    auto made = std::unique_ptr<CellChunk>{new (std::nothrow) CellChunk};
    if (!made) return nullptr;
    chunk.store(made.release(), std::memory_order_release);
  }
  return find(cell);
}

CellTable& CellTable::instance() {
  // Kept for ever, because threads may count while the process ends.
  static CellTable& table = *std::make_unique<CellTable>().release();
  return table;
}

std::uint32_t CellTable::allocate(const std::vector<CellKind>& kinds) {
  const MutexLock lock{mutex_};
  LARDER_CHECK(!kinds.empty() && kinds.size() <= kCellsPerChunk);
  // What does not fit into the rest of the last chunk starts the next one.
  const std::size_t room = kCellsPerChunk - kinds_.size() % kCellsPerChunk;
  if (kinds.size() > room) kinds_.resize(kinds_.size() + room, CellKind::kSum);
  const std::size_t first = kinds_.size();
  LARDER_CHECK(first + kinds.size() <= std::size_t{kChunks} * kCellsPerChunk);
  LARDER_CHECK(ended_.find_or_create(static_cast<std::uint32_t>(first)) != nullptr);
  kinds_.insert(kinds_.end(), kinds.begin(), kinds.end());
  return static_cast<std::uint32_t>(first);
}

std::uint64_t CellTable::read(std::uint32_t cell) const {
  const MutexLock lock{mutex_};
  return read_locked(cell);
}

std::vector<std::uint64_t> CellTable::read(std::uint32_t first, std::uint32_t count) const {
  std::vector<std::uint64_t> values(count);
  const MutexLock lock{mutex_};
  for (std::uint32_t i = 0; i < count; ++i) values[i] = read_locked(first + i);
  return values;
}

std::uint64_t CellTable::read_locked(std::uint32_t cell) const {
  const CellKind kind = kinds_[cell];
  std::uint64_t value = ended_.find(cell)->load(std::memory_order_relaxed);
  for (const auto& block : living_) {
    const Cell* own = block->find(cell);
    if (own == nullptr) continue;
    const std::uint64_t part = own->load(std::memory_order_relaxed);
    value = kind == CellKind::kSum ? value + part : std::max(value, part);
  }
  return value;
}

CellBlock* CellTable::attach() noexcept {
  try {
    auto block = std::make_unique<CellBlock>();
    const MutexLock lock{mutex_};
    living_.push_back(std::move(block));
    return living_.back().get();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void CellTable::detach(CellBlock* block) noexcept {
  const MutexLock lock{mutex_};
  for (std::uint32_t cell = 0; cell < kinds_.size(); ++cell) {
    const Cell* own = block->find(cell);
    if (own == nullptr) continue;
    const std::uint64_t value = own->load(std::memory_order_relaxed);
    if (value == 0) continue;
    WritableCells ended{shared_cells(cell), false};
    if (kinds_[cell] == CellKind::kSum) {
      ended.add(0, value);
    } else {
      ended.raise(0, value);
    }
  }
  std::erase_if(living_, [block](const auto& owned) { return owned.get() == block; });
}

WritableCells WritableCells::from(std::uint32_t first) noexcept {
  if (Cell* own = own_cells(first); own != nullptr) [[likely]]
    return {own, true};
  return {CellTable::instance().shared_cells(first), false};
}

}  // namespace larder::internal
