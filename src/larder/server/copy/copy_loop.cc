#include "larder/server/copy/copy_loop.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstring>

namespace larder::server {
namespace {

/// Cells from this size on would push everything else out of the caches.
constexpr std::uint64_t kStreamCellBytes = std::uint64_t{256} << 10;
/// Shorter runs are not worth the detour.
constexpr std::uint64_t kStreamRunBytes = 512;
constexpr std::uint64_t kVectorBytes = 16;

#if defined(__SSE2__)
/// Writes past the caches. The destination's ends, which share lines with others, go through them.
void stream(std::byte* to, const std::byte* from, std::uint64_t bytes) noexcept {
  const std::uint64_t head =
      std::min<std::uint64_t>((0 - reinterpret_cast<std::uintptr_t>(to)) % kVectorBytes, bytes);
  std::memcpy(to, from, head);
  to += head, from += head, bytes -= head;
  for (; bytes >= 4 * kVectorBytes; bytes -= 4 * kVectorBytes) {
    const auto* const source = reinterpret_cast<const __m128i*>(from);
    auto* const target = reinterpret_cast<__m128i*>(to);
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
    to += 4 * kVectorBytes, from += 4 * kVectorBytes;
  }
  std::memcpy(to, from, bytes);
}
/// Streamed bytes are visible before any later write.
void end_streaming() noexcept {
  _mm_sfence();
}
#else
void stream(std::byte* to, const std::byte* from, std::uint64_t bytes) noexcept {
  std::memcpy(to, from, bytes);
}
void end_streaming() noexcept {}
#endif

struct Mover {
  CopyDirection direction = CopyDirection::kStore;
  bool streams = false;

  void move(std::byte* cell, std::byte* block, std::uint64_t bytes) const noexcept {
    std::byte* const to = direction == CopyDirection::kStore ? cell : block;
    const std::byte* const from = direction == CopyDirection::kStore ? block : cell;
    if (streams && bytes >= kStreamRunBytes) {
      stream(to, from, bytes);
    } else {
      std::memcpy(to, from, bytes);
    }
  }
};

/// One block of one plane and layer, `cell` and `block` at its beginning on either side.
void move_block(const CopyShape& shape, const Mover& mover, std::byte* cell,
                std::byte* block) noexcept {
  const std::uint64_t slot = slot_bytes(shape);
  if (shape.head_stride == shape.head_bytes) {  // The heads of a slot lie together.
    if (shape.slot_stride == slot) return mover.move(cell, block, block_bytes(shape));
    for (std::uint32_t i = 0; i < shape.slots_per_block; ++i) {
      mover.move(cell + i * slot, block + i * shape.slot_stride, slot);
    }
    return;
  }
  for (std::uint32_t i = 0; i < shape.slots_per_block; ++i) {
    for (std::uint32_t head = 0; head < shape.heads; ++head) {
      mover.move(cell + i * slot + std::uint64_t{head} * shape.head_bytes,
                 block + i * shape.slot_stride + head * shape.head_stride, shape.head_bytes);
    }
  }
}

/// Blocks follow each other in memory as they do in the cell.
bool is_packed(const CopyShape& shape) noexcept {
  return shape.head_stride == shape.head_bytes && shape.slot_stride == slot_bytes(shape) &&
         shape.block_stride == block_bytes(shape);
}

/// The blocks kept of one plane and layer, but not the first `skipped`.
void move_plane(const CopyShape& shape, const Mover& mover, std::span<const std::uint32_t> ids,
                std::uint32_t skipped, std::byte* cell, std::byte* base) noexcept {
  const std::uint64_t bytes = block_bytes(shape);
  const bool can_join = is_packed(shape);
  for (std::size_t i = skipped; i < ids.size();) {
    std::size_t end = i + 1;
    while (can_join && end < ids.size() && ids[end] == ids[end - 1] + 1) ++end;
    std::byte* const block = base + ids[i] * shape.block_stride;
    if (can_join) {
      mover.move(cell + i * bytes, block, (end - i) * bytes);
    } else {
      move_block(shape, mover, cell + i * bytes, block);
    }
    i = end;
  }
}

/// How many of the blocks kept lie within the tokens to skip.
std::uint32_t skipped_blocks(const KernelGroupPlan& kernel, const CellCopy& copy) noexcept {
  const std::uint64_t before = std::uint64_t{copy.chunk} * kernel.blocks_per_chunk;
  const std::uint64_t skipped = copy.skip_tokens / kernel.tokens_per_block;
  const std::uint64_t cut = kernel.blocks_per_chunk - kernel.shape.blocks_kept;
  if (skipped <= before + cut) return 0;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(skipped - before - cut, kernel.shape.blocks_kept));
}

void move_kernel_group(const KernelGroupPlan& kernel, const CellCopy& copy,
                       const Mover& mover) noexcept {
  const CopyShape& shape = kernel.shape;
  const auto ids =
      copy.blocks->group(kernel.list)
          .subspan(std::size_t{copy.chunk} * kernel.blocks_per_chunk, kernel.blocks_per_chunk)
          .last(shape.blocks_kept);
  const bool is_store = mover.direction == CopyDirection::kStore;
  const std::uint32_t skipped = is_store ? 0 : skipped_blocks(kernel, copy);
  const std::uint64_t plane_bytes = shape.blocks_kept * block_bytes(shape);
  std::byte* cell = copy.cell + kernel.cell_offset;
  for (const PlaneBase& base : kernel.bases) {
    move_plane(shape, mover, ids, skipped, cell, copy.memories[base.memory] + base.offset);
    cell += plane_bytes;
  }
  const std::uint64_t used = kernel.bases.size() * plane_bytes;
  if (is_store && used < kernel.cell_bytes) std::memset(cell, 0, kernel.cell_bytes - used);
}

}  // namespace

void copy_cell(const CellCopy& copy, CopyDirection direction) noexcept {
  const Mover mover{.direction = direction, .streams = copy.group->cell_bytes >= kStreamCellBytes};
  for (const KernelGroupPlan& kernel : copy.group->kernels) move_kernel_group(kernel, copy, mover);
  if (mover.streams) end_streaming();
}

}  // namespace larder::server
