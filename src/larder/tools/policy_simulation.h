#pragma once

#include <atomic>
#include <cstdint>

#include "larder/base/result.h"
#include "larder/cache/policies/policy.h"
#include "larder/tools/block_trace.h"

namespace larder::tools {

/// Blocks that a cache with one of the engine's policies hits, with one column for each block.
///
/// Model: as LruCurve's. A request hits its longest resident prefix. Then, the deepest block first,
/// resident ones are touched, and the others are inserted once victims have made room; if the
/// policy names none, they are not kept. All blocks belong to one salt, so IsolatedLRU is LRU here.
/// Hits of the trace's warm-up do not count.
/// `capacity_blocks` is above 0. kCancelled once `stop` is set.
/// Cost: that of the policy, some tens of ns a reference; 48 bytes a block, and its ghosts.
SetupResult<std::uint64_t> policy_hits(const BlockTrace& trace, const cache::PolicyKind& kind,
                                       std::uint64_t capacity_blocks, std::uint64_t block_bytes,
                                       const std::atomic<bool>& stop);

}  // namespace larder::tools
