#include "larder/tools/prefix_optimum.h"

#include <limits>
#include <queue>

namespace larder::tools {
namespace {

constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();

}  // namespace

PrefixOptimum::PrefixOptimum(const BlockTrace& trace)
    : trace_(&trace), next_use_(trace.references(), kNever) {
  std::vector<std::uint32_t> later(trace.blocks(), kNever);
  for (std::size_t i = trace.references(); i > 0; --i) {
    std::uint32_t& next = later[trace.reference(i - 1)];
    next_use_[i - 1] = next;
    next = static_cast<std::uint32_t>(i - 1);
  }
}

// A block's next use is the number of that reference. References are numbered first to last within
// a request, so of two blocks with one next request the deeper one has the larger number.
SetupResult<std::uint64_t> PrefixOptimum::hits(std::uint64_t capacity_blocks,
                                               const std::atomic<bool>& stop) const {
  std::vector<bool> is_resident(trace_->blocks());
  // The largest on top. Numbers of the past stay in it: they are smaller than those of all resident
  // blocks, so none of them comes to the top while there is a resident block.
  std::priority_queue<std::uint32_t> next_uses;
  std::uint64_t resident = 0;
  std::uint64_t hits = 0;
  for (std::size_t request = 0; request < trace_->requests(); ++request) {
    if (stop.load(std::memory_order_relaxed)) {
      return SetupError{ErrorCode::kCancelled, "interrupted while the optimum was simulated"};
    }
    const std::size_t begin = trace_->begin(request);
    const std::size_t end = begin + trace_->chain(request).size();
    for (std::size_t i = begin; i < end; ++i) {
      const BlockNumber block = trace_->reference(i);
      if (is_resident[block]) {
        if (request >= trace_->warmup_requests()) ++hits;
        --resident;
      }
      is_resident[block] = next_use_[i] != kNever;
      if (next_use_[i] == kNever) continue;
      next_uses.push(next_use_[i]);
      ++resident;
    }
    for (; resident > capacity_blocks; --resident) {
      is_resident[trace_->reference(next_uses.top())] = false;
      next_uses.pop();
    }
  }
  return hits;
}

}  // namespace larder::tools
