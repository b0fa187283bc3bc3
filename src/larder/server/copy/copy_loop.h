#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "larder/server/copy/copy_plan.h"

namespace larder::server {

enum class CopyDirection : std::uint8_t {
  kStore = 0,  ///< From the worker's blocks into cells.
  kRetrieve,   ///< From cells into the worker's blocks.
};

/// One cell, and the blocks that it is copied from or to. Everything is the caller's, and was
/// checked: the cell has ObjectGroupPlan::cell_bytes, the memories are those of the plan, the ids
/// are in them.
struct CellCopy {
  const ObjectGroupPlan* group = nullptr;
  std::span<std::byte* const> memories{};
  const wire::BlockIds* blocks = nullptr;
  std::uint32_t chunk = 0;  ///< Offset from the begin of the range.
  /// Tokens from the begin of the range, in each kernel group: blocks within them are not written
  /// (S25). For kRetrieve.
  std::uint64_t skip_tokens = 0;
  std::byte* cell = nullptr;
};

/// Copies the cell in this thread. A store writes every byte of the cell: zeros where a window does
/// not fill it, so that no byte of an earlier value stays.
///
/// Runs that lie together on both sides are copied at once: whole blocks where heads and tokens lie
///   as in the cell, blocks with consecutive ids together. Large cells are written past the caches.
/// May be left by FaultGuard at any access. Cost: the copy; no allocation, no system call.
void copy_cell(const CellCopy& copy, CopyDirection direction) noexcept;

}  // namespace larder::server
