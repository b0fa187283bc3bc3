#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/base/result.h"
#include "larder/server/copy/copy_plan.h"

namespace larder::server {

using Md5 = std::array<std::byte, 16>;

/// Checksums of a worker's blocks as LMCache's /cache/checksums makes them, for tools that compare
/// a worker's memory before and after a transfer.
struct ChecksumRequest {
  /// Below the blocks of every kernel group: the same ids in each.
  std::vector<std::uint32_t> blocks;
  std::uint32_t blocks_per_chunk = 0;  ///< One checksum is of so many blocks; the last of fewer.
  bool is_by_layer = false;

  /// Output: by chunk; or by layer, and by chunk within it.
  std::vector<Md5> checksums;
};

/// Fills in the checksums: MD5 over the layers in their order, of each the blocks as they lie in
/// memory, the values of all blocks behind the keys of all where the format has planes first.
/// bfloat16 is hashed as the float32 of the same value, as LMCache does.
///
/// `memories` are those of the plan. kInvalidArgument: there are no blocks, or one is outside of
/// them. kIo: the worker's memory is gone. kUnimplemented: OpenSSL has no MD5 here. Reads under a
/// FaultGuard. Cost: some 600 MB/s; it copies a MiB at a time, or one block.
Status checksum_blocks(const CopyPlan& plan, std::span<const std::span<std::byte>> memories,
                       ChecksumRequest& request);

}  // namespace larder::server
