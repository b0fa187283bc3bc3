#include "larder/tools/block_trace.h"

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_map>

namespace larder::tools {
namespace {

constexpr BlockNumber kStart = std::numeric_limits<BlockNumber>::max();  ///< Before a first block.

struct BlockFacts {
  BlockNumber before = kStart;  ///< The block that it followed at first.
  std::uint64_t last_request = 0;
  bool is_consistent = true;
};

}  // namespace

SetupResult<BlockTrace> BlockTrace::make(std::span<const TraceRequest> requests,
                                         std::size_t warmup_requests) {
  std::size_t references = 0;
  for (const TraceRequest& request : requests) references += request.blocks.size();
  if (references > kReferencesMax) {
    return SetupError{ErrorCode::kInvalidArgument,
                      "the trace has " + std::to_string(references) + " blocks, and at most " +
                          std::to_string(kReferencesMax) +
                          " can be simulated: limit it with --requests"};
  }
  BlockTrace trace;
  trace.warmup_requests_ = std::min(warmup_requests, requests.size());
  trace.references_.reserve(references);
  trace.begins_.reserve(requests.size() + 1);
  std::unordered_map<std::uint64_t, BlockNumber> numbers;
  std::vector<BlockFacts> facts;
  for (std::size_t index = 0; index < requests.size(); ++index) {
    BlockNumber before = kStart;
    for (const std::uint64_t id : requests[index].blocks) {
      const auto [known, is_new] =
          numbers.try_emplace(id, static_cast<BlockNumber>(numbers.size()));
      const BlockNumber block = known->second;
      if (is_new) {
        facts.push_back({.before = before, .last_request = index});
      } else if (facts[block].last_request == index) {
        ++trace.repeats_;
        continue;
      } else if (facts[block].before != before && facts[block].is_consistent) {
        facts[block].is_consistent = false;
        ++trace.inconsistent_blocks_;
      }
      facts[block].last_request = index;
      trace.references_.push_back(block);
      before = block;
    }
    trace.begins_.push_back(trace.references_.size());
  }
  trace.blocks_ = numbers.size();
  return trace;
}

}  // namespace larder::tools
