#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/server/copy/copy_index.h"
#include "larder/wire/decode_error.h"
#include "larder/wire/kv_cache.h"
#include "larder/wire/request.h"

namespace larder::server {

/// Memory of the worker that a backend is to map.
struct PlanMemory {
  std::string name;         ///< Name of POSIX shared memory, with its slash.
  std::uint64_t bytes = 0;  ///< From its start; nothing beyond is touched.

  friend bool operator==(const PlanMemory&, const PlanMemory&) = default;
};

/// Offset of block 0 of one plane of one layer.
struct PlaneBase {
  std::uint32_t memory = 0;  ///< Index into CopyPlan::memories.
  std::uint64_t offset = 0;  ///< Bytes.

  friend bool operator==(const PlaneBase&, const PlaneBase&) = default;
};

/// Layers that are copied alike: one block table, one shape.
struct KernelGroupPlan {
  CopyShape shape;
  std::vector<PlaneBase> bases;  ///< By plane * layers + layer.
  std::vector<std::uint32_t> layers;
  std::uint32_t list = 0;  ///< Which of a request's lists of block ids is its own.
  std::uint32_t tokens_per_block = 0;
  std::uint32_t blocks_per_chunk = 0;  ///< Block ids for a chunk, at least shape.blocks_kept.
  std::uint64_t cell_offset = 0;       ///< Offset of its part in the cell.
  std::uint64_t cell_bytes = 0;  ///< Size of that part: a whole chunk's, also in a window (CPU).
  std::string dtype;
  std::string_view format;  ///< A literal such as "[2, blocks, tokens, heads, size]".
};

/// Kernel groups whose bytes form one cell.
struct ObjectGroupPlan {
  std::vector<KernelGroupPlan> kernels;  ///< In the order of their bytes.
  std::uint64_t cell_bytes = 0;
  std::uint32_t window_chunks = 0;  ///< Chunks at the end that a hit needs; 0: all of them.
  bool is_recurrent = false;
};

/// How a worker's chunks are copied (S22): plain data, without a pointer into anything, made once
/// at its registration and executed by every backend.
struct CopyPlan {
  std::uint32_t chunk_tokens = 0;
  std::uint32_t lists = 0;  ///< Lists of block ids in a request: the kernel groups of all objects.
  std::vector<ObjectGroupPlan> groups;
  std::vector<PlanMemory> memories;
};

struct PlanOptions {
  std::uint32_t chunk_tokens = 256;
  /// S21: kernel groups that differ in (recurrent, window in chunks) become object groups of their
  /// own. No: all of them are one object group, for which a hit needs every chunk.
  bool has_separate_groups = true;
};

/// Makes the plan, or says which field of the registration is wrong, its value and what it must be.
/// Formats and rules are those of LMCache 0.5.6 and 0.5.7 (docs/transfers.md has the table).
/// Pure. Cost: O(tensors).
wire::DecodeResult<CopyPlan> make_copy_plan(const wire::KvCacheRegistration& registration,
                                            const PlanOptions& options);

/// Kernel groups' layers together.
std::uint32_t layers_of(const CopyPlan& plan) noexcept;

/// Whether a transfer of the first `chunks` chunks of a range may use these blocks: a list for each
/// kernel group, of whole chunks, enough for the range, and no block beyond the worker's memory.
/// O(blocks).
wire::DecodeStatus check_blocks(const CopyPlan& plan, const wire::BlockIds& blocks,
                                std::uint32_t chunks);

/// Whether the worker lacks a part of this chunk of an object group, so that it must not be stored
/// (E17): all its blocks are the null block, or, in a group with a window or a recurrent state, one
/// of those that are copied, because the engine frees the blocks before the window. The blocks were
/// checked.
bool is_null_chunk(const ObjectGroupPlan& group, const wire::BlockIds& blocks, std::uint32_t chunk,
                   std::uint32_t null_block) noexcept;

}  // namespace larder::server
