#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/base/result.h"
#include "larder/tools/trace.h"

namespace larder::tools {

/// Blocks of a BlockTrace are numbered from 0 in the order of their first appearance.
using BlockNumber = std::uint32_t;

/// A trace as cache simulations read it: the chains of all requests in one array, each first to
/// last.
///
/// A reference is one block of one request. A chain names each block once: an id that a request
/// repeats is dropped and counted.
/// Prefix-consistent: each block follows the same block in every request, as is so for ids that
/// stand for a whole prefix. PrefixOptimum is exact for such traces only; blocks that break the
/// rule are counted.
/// Warm-up: the models use its requests, and do not count their hits.
/// Threads: any, once made. Memory: 4 bytes a reference.
class BlockTrace {
 public:
  static constexpr std::size_t kReferencesMax = std::size_t{1} << 30;

  /// kInvalidArgument above kReferencesMax.
  /// The first `warmup_requests` are the warm-up; at most all of them.
  static SetupResult<BlockTrace> make(std::span<const TraceRequest> requests,
                                      std::size_t warmup_requests = 0);

  std::size_t requests() const noexcept { return begins_.size() - 1; }
  std::size_t references() const noexcept { return references_.size(); }
  std::size_t warmup_requests() const noexcept { return warmup_requests_; }
  /// Requests after the warm-up.
  std::size_t counted_references() const noexcept {
    return references_.size() - begins_[warmup_requests_];
  }
  std::size_t blocks() const noexcept { return blocks_; }  ///< Distinct ones.
  /// Blocks of request number `index`.
  std::span<const BlockNumber> chain(std::size_t index) const noexcept {
    return std::span{references_}.subspan(begins_[index], begins_[index + 1] - begins_[index]);
  }
  /// How many references come before the request's first one.
  std::size_t begin(std::size_t index) const noexcept { return begins_[index]; }
  BlockNumber reference(std::size_t index) const noexcept { return references_[index]; }

  std::uint64_t repeats() const noexcept { return repeats_; }  ///< Dropped references.
  /// Blocks that follow different blocks in different requests; 0: it is prefix-consistent.
  std::uint64_t inconsistent_blocks() const noexcept { return inconsistent_blocks_; }

 private:
  BlockTrace() = default;

  std::vector<BlockNumber> references_;
  std::vector<std::size_t> begins_{0};  ///< Start of each request, and the end of the last.
  std::size_t warmup_requests_ = 0;
  std::size_t blocks_ = 0;
  std::uint64_t repeats_ = 0;
  std::uint64_t inconsistent_blocks_ = 0;
};

}  // namespace larder::tools
