#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <span>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/policies/policy.h"

namespace larder::cache::testing {

/// Requests as chains of blocks, first to last; a block's number names its whole prefix.
class Workload {
 public:
  using Block = std::uint32_t;

  void add(const std::vector<Block>& chain);
  std::size_t requests() const noexcept { return begins_.size() - 1; }
  std::size_t references() const noexcept { return blocks_.size(); }
  std::size_t blocks() const noexcept { return blocks_end_; }  ///< One above the largest number.
  std::span<const Block> chain(std::size_t request) const noexcept {
    return std::span{blocks_}.subspan(begins_[request], begins_[request + 1] - begins_[request]);
  }

 private:
  std::vector<Block> blocks_;
  std::vector<std::size_t> begins_{0};
  std::size_t blocks_end_ = 0;
};

/// A cache of equal blocks over a policy. A request hits its longest resident prefix; then, the
/// deepest block first, resident ones are touched and the others inserted once a victim has made
/// room, as in the engine.
class ChainCache {
 public:
  ChainCache(Policy& policy, std::size_t capacity, std::size_t blocks)
      : policy_(policy), capacity_(capacity), is_resident_(blocks), stamps_(blocks) {}

  /// How many blocks were hit.
  std::size_t request(std::span<const Workload::Block> chain);
  const std::vector<Workload::Block>& victims() const noexcept { return victims_; }
  /// Blocks of requests that were resident, and no hit, because one before them was not.
  std::uint64_t behind_holes() const noexcept { return behind_holes_; }
  std::uint64_t stamp_of(Workload::Block block) const noexcept { return stamps_[block]; }

 private:
  Policy& policy_;
  const std::size_t capacity_;
  std::vector<bool> is_resident_;
  std::vector<std::uint64_t> stamps_;
  std::vector<Workload::Block> victims_;
  std::uint64_t behind_holes_ = 0;
  std::uint64_t stamp_ = 0;
};

std::uint64_t hits_of(Policy& policy, const Workload& workload, std::size_t capacity);
/// Of an LRU that shares no code with the policies.
std::uint64_t lru_hits(const Workload& workload, std::size_t capacity);
/// Of Belady's MIN, which is the optimum for prefixes, too (tools/prefix_optimum.h says why).
std::uint64_t optimal_hits(const Workload& workload, std::size_t capacity);

/// Workloads on which a policy that learns may lose, by name; each from a fixed seed.
struct Adversary {
  std::string name;
  std::function<Workload()> make;
};
std::vector<Adversary> adversaries();

}  // namespace larder::cache::testing
