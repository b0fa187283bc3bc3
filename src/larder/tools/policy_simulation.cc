#include "larder/tools/policy_simulation.h"

#include <memory>
#include <string>
#include <vector>

namespace larder::tools {
namespace {

class Simulation {
 public:
  Simulation(const BlockTrace& trace, const cache::PolicyKind& kind, std::uint64_t capacity_blocks,
             std::uint64_t block_bytes)
      : policy_(kind.make({.capacity_bytes = capacity_blocks * block_bytes})),
        capacity_blocks_(capacity_blocks),
        block_bytes_(block_bytes),
        is_resident_(trace.blocks()) {}

  std::size_t request(std::span<const BlockNumber> chain) {
    std::size_t hits = 0;
    while (hits < chain.size() && is_resident_[chain[hits]]) ++hits;
    const auto chunks = static_cast<std::uint32_t>(chain.size());
    policy_->begin_chain(
        {.chunks = chunks, .resident = static_cast<std::uint32_t>(hits), .end = chunks});
    for (std::size_t i = chain.size(); i > 0; --i) use(chain[i - 1]);
    return hits;
  }

 private:
  void use(BlockNumber block) {
    ++stamp_;
    if (is_resident_[block]) {
      policy_->touch(block, stamp_);
      return;
    }
    if (policy_->columns() >= capacity_blocks_ && !evict()) return;
    policy_->insert(block, block, block_bytes_, stamp_);
    is_resident_[block] = true;
  }

  bool evict() {
    cache::ColumnId victim = 0;
    if (policy_->coldest({&victim, 1}) == 0) return false;
    policy_->erase(victim, cache::Removal::kEvicted);
    is_resident_[victim] = false;
    return true;
  }

  const std::unique_ptr<cache::Policy> policy_;
  const std::uint64_t capacity_blocks_;
  const std::uint64_t block_bytes_;
  std::vector<bool> is_resident_;
  std::uint64_t stamp_ = 0;
};

}  // namespace

SetupResult<std::uint64_t> policy_hits(const BlockTrace& trace, const cache::PolicyKind& kind,
                                       std::uint64_t capacity_blocks, std::uint64_t block_bytes,
                                       const std::atomic<bool>& stop) {
  Simulation simulation{trace, kind, capacity_blocks, block_bytes};
  std::uint64_t hits = 0;
  for (std::size_t request = 0; request < trace.requests(); ++request) {
    if (stop.load(std::memory_order_relaxed)) {
      return SetupError{ErrorCode::kCancelled,
                        "interrupted while " + std::string{kind.name} + " was simulated"};
    }
    const std::size_t request_hits = simulation.request(trace.chain(request));
    if (request >= trace.warmup_requests()) hits += request_hits;
  }
  return hits;
}

}  // namespace larder::tools
