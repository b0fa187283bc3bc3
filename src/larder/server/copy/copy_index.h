#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define LARDER_HOST_DEVICE __host__ __device__
#else
#define LARDER_HOST_DEVICE
#endif

// The position of each byte of a cell in a worker's memory: the one definition that the CPU's loop
// and a GPU's kernel share. Plain data and pure functions; no pointer into a worker's memory.

namespace larder::server {

/// How the part of a cell that one kernel group has lies in the worker's blocks. In the cell the
/// order is always [plane][layer][block][slot][head][byte], without gaps.
struct CopyShape {
  std::uint64_t blocks = 0;        ///< The worker's number of blocks: block ids are below it.
  std::uint64_t block_stride = 0;  ///< Strides are bytes.
  std::uint64_t slot_stride = 0;
  std::uint64_t head_stride = 0;
  std::uint32_t planes = 0;  ///< 2: keys and values.
  std::uint32_t layers = 0;
  std::uint32_t blocks_kept = 0;      ///< The last ones of a chunk; in a window, all stored ones.
  std::uint32_t slots_per_block = 0;  ///< Tokens of a block, fewer where they are compressed.
  std::uint32_t heads = 0;
  std::uint32_t head_bytes = 0;  ///< Bytes of one slot and head, which are contiguous.

  friend bool operator==(const CopyShape&, const CopyShape&) = default;
};

/// Bytes of one slot with all its heads.
LARDER_HOST_DEVICE constexpr std::uint64_t slot_bytes(const CopyShape& shape) noexcept {
  return std::uint64_t{shape.heads} * shape.head_bytes;
}
/// Bytes of one block in one plane of one layer.
LARDER_HOST_DEVICE constexpr std::uint64_t block_bytes(const CopyShape& shape) noexcept {
  return shape.slots_per_block * slot_bytes(shape);
}
/// Bytes of all parts of a cell with this shape.
LARDER_HOST_DEVICE constexpr std::uint64_t copied_bytes(const CopyShape& shape) noexcept {
  return std::uint64_t{shape.planes} * shape.layers * shape.blocks_kept * block_bytes(shape);
}

struct WorkerPlace {
  std::uint32_t base = 0;    ///< plane * layers + layer.
  std::uint32_t block = 0;   ///< Of the stored blocks, counted from 0.
  std::uint64_t offset = 0;  ///< Offset from the block's first byte.
};

/// The position of byte number `byte` of the cell, below copied_bytes().
LARDER_HOST_DEVICE constexpr WorkerPlace place_of(const CopyShape& shape,
                                                  std::uint64_t byte) noexcept {
  const std::uint64_t row = byte / shape.head_bytes;
  const std::uint64_t slot = row / shape.heads;
  const std::uint64_t block = slot / shape.slots_per_block;
  return {.base = static_cast<std::uint32_t>(block / shape.blocks_kept),
          .block = static_cast<std::uint32_t>(block % shape.blocks_kept),
          .offset = slot % shape.slots_per_block * shape.slot_stride +
                    row % shape.heads * shape.head_stride + byte % shape.head_bytes};
}

/// One cell of a launch.
struct KernelCell {
  std::byte* cell = nullptr;              ///< Offset of the kernel group in the cell.
  const std::uint32_t* blocks = nullptr;  ///< The ids of the blocks kept.
  std::uint32_t blocks_skipped = 0;       ///< Of these, the first ones, which are left alone.
};

/// The input of one launch of the kernel: many cells of one kernel group. All memory is the
/// caller's.
struct KernelArguments {
  CopyShape shape{};
  std::byte* const* bases = nullptr;  ///< By plane * layers + layer.
  const KernelCell* cells = nullptr;
  bool is_store = false;  ///< Into the cells.
};

/// The part that thread `index` of a launch copies: the vector of that number in the cell of that
/// number. A vector lies in one head: head_bytes, strides, bases and cells are multiples of its
/// size.
template <class Vector>
LARDER_HOST_DEVICE void copy_vector(const KernelArguments& arguments, std::uint64_t cell_number,
                                    std::uint64_t index) noexcept {
  const std::uint64_t byte = index * sizeof(Vector);
  if (byte >= copied_bytes(arguments.shape)) return;
  const KernelCell& cell = arguments.cells[cell_number];
  const WorkerPlace place = place_of(arguments.shape, byte);
  if (place.block < cell.blocks_skipped) return;
  std::byte* const in_cell = cell.cell + byte;
  std::byte* const in_block = arguments.bases[place.base] +
                              cell.blocks[place.block] * arguments.shape.block_stride +
                              place.offset;
  if (arguments.is_store) {
    *reinterpret_cast<Vector*>(in_cell) = *reinterpret_cast<const Vector*>(in_block);
  } else {
    *reinterpret_cast<Vector*>(in_block) = *reinterpret_cast<const Vector*>(in_cell);
  }
}

}  // namespace larder::server
