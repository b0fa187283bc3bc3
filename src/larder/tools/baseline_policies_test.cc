#include "larder/tools/baseline_policies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/tools/policy_simulation.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;

BlockTrace single_blocks(const std::vector<std::uint64_t>& blocks) {
  std::vector<TraceRequest> requests;
  for (const std::uint64_t block : blocks) requests.push_back({.blocks = {block}});
  return *BlockTrace::make(requests);
}

std::uint64_t hits_of(const char* name, const std::vector<std::uint64_t>& blocks,
                      std::uint64_t capacity) {
  const auto kind = find_simulated_policy(name);
  EXPECT_TRUE(kind) << name;
  return policy_hits(single_blocks(blocks), **kind, capacity, 4096, kNoStop).value();
}

/// A list of (block, was it used), the hand at its front. Without `passes` it is FIFO.
std::uint64_t plain_hits(const std::vector<std::uint64_t>& blocks, std::size_t capacity,
                         bool passes) {
  struct Entry {
    std::uint64_t block = 0;
    bool is_used = false;
  };
  std::deque<Entry> cache;
  std::uint64_t hits = 0;
  for (const std::uint64_t block : blocks) {
    const auto found = std::ranges::find(cache, block, &Entry::block);
    if (found != cache.end()) {
      ++hits;
      found->is_used = true;
      continue;
    }
    if (cache.size() == capacity) {
      while (passes && cache.front().is_used) {
        cache.push_back({.block = cache.front().block});
        cache.pop_front();
      }
      cache.pop_front();
    }
    cache.push_back({.block = block});
  }
  return hits;
}

TEST(BaselinePoliciesTest, AUseKeepsABlockInClockAndNotInFifo) {
  const std::vector<std::uint64_t> blocks = {1, 2, 1, 3, 1};
  EXPECT_EQ(hits_of("FIFO", blocks, 2), 1U);
  EXPECT_EQ(hits_of("CLOCK", blocks, 2), 2U);
}

TEST(BaselinePoliciesTest, EqualPlainListsAtEverySize) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random{seed};
    std::vector<std::uint64_t> blocks;
    for (int i = 0; i < 600; ++i) {
      blocks.push_back(random.below(random.one_in(2) ? 40 : 8));
    }
    for (std::size_t capacity = 1; capacity <= 41; ++capacity) {
      ASSERT_EQ(hits_of("FIFO", blocks, capacity), plain_hits(blocks, capacity, false))
          << "seed " << seed << ", capacity " << capacity;
      ASSERT_EQ(hits_of("CLOCK", blocks, capacity), plain_hits(blocks, capacity, true))
          << "seed " << seed << ", capacity " << capacity;
    }
  }
}

TEST(BaselinePoliciesTest, SeveralVictimsAreThoseThatWouldGoOneByOne) {
  for (const cache::PolicyKind& kind : baseline_policies()) {
    const auto at_once = kind.make({});
    const auto one_by_one = kind.make({});
    for (cache::ColumnId column = 0; column < 100; ++column) {
      for (const auto& policy : {at_once.get(), one_by_one.get()}) {
        policy->insert(column, column, 1, column + 1);
        if (column % 3 == 0) policy->touch(column, column + 1);
        if (column % 7 == 0) policy->hide(column);
      }
    }
    std::vector<cache::ColumnId> expected;
    cache::ColumnId victim = 0;
    while (one_by_one->coldest({&victim, 1}) == 1) {
      expected.push_back(victim);
      one_by_one->erase(victim, cache::Removal::kEvicted);
    }
    std::vector<cache::ColumnId> victims(200);
    victims.resize(at_once->coldest(victims));
    EXPECT_EQ(victims.size(), 85U) << kind.name;
    EXPECT_EQ(victims, expected) << kind.name;
  }
}

TEST(BaselinePoliciesTest, EveryPolicyIsFoundByNameInAnyCase) {
  EXPECT_EQ((*find_simulated_policy("fifo"))->name, "FIFO");
  EXPECT_EQ((*find_simulated_policy("Clock"))->name, "CLOCK");
  for (const cache::PolicyKind& kind : cache::policy_kinds()) {
    EXPECT_EQ(*find_simulated_policy(kind.name), &kind);
  }
  const auto unknown = find_simulated_policy("LUR");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text.find("did you mean 'LRU'?"), std::string::npos);
  EXPECT_NE(unknown.error().text.find("FIFO, CLOCK"), std::string::npos);
}

}  // namespace
}  // namespace larder::tools
