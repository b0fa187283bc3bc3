// Small sequences whose outcome is known from the papers' rules, worked out by hand.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "larder/cache/policies/arc.h"
#include "larder/cache/policies/lru.h"
#include "larder/cache/policies/noop.h"
#include "larder/cache/policies/s3_fifo.h"

namespace larder::cache {
namespace {

/// A cache of so many bytes over a policy: evicts before it inserts, as the engine does. Things
/// have names of one letter or number.
class Cache {
 public:
  Cache(std::unique_ptr<Policy> policy, std::uint64_t capacity)
      : policy_(std::move(policy)), capacity_(capacity) {}

  /// True: a hit.
  bool request(std::uint64_t thing, std::uint64_t bytes = 1) {
    ++stamp_;
    if (const auto at = columns_.find(thing); at != columns_.end()) {
      policy_->touch(at->second, stamp_);
      return true;
    }
    while (policy_->bytes() + bytes > capacity_) {
      ColumnId victim = 0;
      EXPECT_EQ(policy_->coldest({&victim, 1}), 1U);
      policy_->erase(victim, Removal::kEvicted);
      evicted_.push_back(things_[victim]);
      columns_.erase(things_[victim]);
    }
    things_[next_] = thing;
    columns_[thing] = next_;
    policy_->insert(next_++, thing, bytes, stamp_);
    return false;
  }
  /// Uses the letters of a text in turn; returns the evicted ones.
  std::string request(const std::string& letters) {
    evicted_.clear();
    for (const char letter : letters) request(static_cast<std::uint64_t>(letter));
    std::string text;
    for (const std::uint64_t thing : evicted_) text.push_back(static_cast<char>(thing));
    return text;
  }
  bool has(char letter) const { return columns_.contains(static_cast<std::uint64_t>(letter)); }
  Policy& policy() { return *policy_; }
  ColumnId column(char letter) const { return columns_.at(static_cast<std::uint64_t>(letter)); }

 private:
  std::unique_ptr<Policy> policy_;
  const std::uint64_t capacity_;
  std::uint64_t stamp_ = 0;
  ColumnId next_ = 0;
  std::map<std::uint64_t, ColumnId> columns_;
  std::map<ColumnId, std::uint64_t> things_;
  std::vector<std::uint64_t> evicted_;
};

// ---- LRU ----------------------------------------------------------------------------------------

TEST(LruPaperTest, TheReferenceStringOfTheTextbooks) {
  // Silberschatz, Operating System Concepts: 12 faults in three frames.
  Cache cache{std::make_unique<LruPolicy>(PolicyOptions{}), 3};
  int faults = 0;
  for (const char letter : std::string{"70120304230321201701"}) {
    faults += cache.request(static_cast<std::uint64_t>(letter)) ? 0 : 1;
  }
  EXPECT_EQ(faults, 12);
}

TEST(LruPaperTest, ALargerCacheHoldsWhatASmallerOneDoes) {
  // Mattson et al. 1970: LRU is a stack algorithm, so a hit in a smaller cache is one in a larger.
  Cache small{std::make_unique<LruPolicy>(PolicyOptions{}), 20};
  Cache large{std::make_unique<LruPolicy>(PolicyOptions{}), 50};
  std::uint64_t state = 1;
  int hits = 0;
  for (int step = 0; step < 20'000; ++step) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const std::uint64_t thing = (state >> 33) % 100 * ((state >> 50) % 2);
    const bool is_hit = small.request(thing);
    ASSERT_TRUE(large.request(thing) || !is_hit) << step;
    hits += is_hit ? 1 : 0;
  }
  EXPECT_GT(hits, 1000);
}

TEST(LruPaperTest, ATailLeavesBeforeItsHead) {
  Cache cache{std::make_unique<LruPolicy>(PolicyOptions{}), 6};
  cache.request("cba");  // Chunks a, b, c of a request, the last one first (E20).
  cache.request("zyx");
  EXPECT_EQ(cache.request("123"), "cba");
}

// ---- ARC ----------------------------------------------------------------------------------------

TEST(ArcPaperTest, TheTargetFollowsTheGhosts) {
  auto made = std::make_unique<ArcPolicy>(PolicyOptions{.capacity_bytes = 4});
  const ArcPolicy& arc = *made;
  Cache cache{std::move(made), 4};
  cache.request("abcdab");  // T1 = c d, T2 = a b; p = 0.
  EXPECT_EQ(cache.request("e"), "c") << "|T1| > p: from T1 to B1";
  EXPECT_EQ(arc.target_bytes(), 0U);
  // c comes back from B1 = c d: p becomes 1, and c goes to T2. T1 = e, T2 = a b c, B1 = d.
  EXPECT_EQ(cache.request("c"), "d");
  EXPECT_EQ(arc.target_bytes(), 1U);
  EXPECT_EQ(cache.request("f"), "a") << "|T1| = p: from T2 to B2";
  // a comes back from B2 while B1 = d e has twice as many: p becomes 1 - 2, at least 0.
  EXPECT_EQ(cache.request("a"), "e");
  EXPECT_EQ(arc.target_bytes(), 0U);
  EXPECT_TRUE(cache.has('a') && cache.has('b') && cache.has('c') && cache.has('f'));
}

TEST(ArcPaperTest, AScanDoesNotWashOutWhatIsUsedAgain) {
  Cache arc{std::make_unique<ArcPolicy>(PolicyOptions{.capacity_bytes = 8}), 8};
  Cache lru{std::make_unique<LruPolicy>(PolicyOptions{}), 8};
  for (Cache* cache : {&arc, &lru}) {
    cache->request("abcabc");
    for (std::uint64_t scanned = 1000; scanned < 2000; ++scanned) cache->request(scanned);
  }
  EXPECT_TRUE(arc.has('a') && arc.has('b') && arc.has('c'));
  EXPECT_FALSE(lru.has('a'));
}

TEST(ArcPaperTest, GhostsAreBoundedByTheCapacity) {
  auto made = std::make_unique<ArcPolicy>(PolicyOptions{.capacity_bytes = 4});
  const ArcPolicy& arc = *made;
  Cache cache{std::move(made), 4};
  cache.request("abcd");  // T1 is full, so B1 remembers nothing ...
  cache.request("efgh");  // ... although all of a to d were evicted.
  cache.request("a");     // A plain miss.
  EXPECT_EQ(arc.target_bytes(), 0U);
  EXPECT_EQ(cache.request("a"), "");
  EXPECT_EQ(cache.request("i"), "f");
  EXPECT_EQ(cache.request("f"), "g") << "B1 has room for one: T2 holds a";
  EXPECT_EQ(arc.target_bytes(), 1U);
}

TEST(ArcPaperTest, TheTargetMovesByTheBytesOfTheColumn) {
  auto made = std::make_unique<ArcPolicy>(PolicyOptions{.capacity_bytes = 100});
  const ArcPolicy& arc = *made;
  Cache cache{std::move(made), 100};
  cache.request('a', 40);
  cache.request('b', 30);
  cache.request('b', 30);
  cache.request('c', 50);  // Evicts a: B1 holds 40 bytes of it.
  EXPECT_FALSE(cache.has('a'));
  cache.request('a', 40);
  EXPECT_EQ(arc.target_bytes(), 40U);
}

TEST(ArcPaperTest, WhatIsDeletedOrCooledLeavesNoGhost) {
  auto made = std::make_unique<ArcPolicy>(PolicyOptions{.capacity_bytes = 4});
  const ArcPolicy& arc = *made;
  Cache cache{std::move(made), 4};
  cache.request("abcdab");
  cache.policy().cool(cache.column('c'));
  EXPECT_EQ(cache.request("e"), "c");
  EXPECT_EQ(cache.request("c"), "d");
  EXPECT_EQ(arc.target_bytes(), 0U) << "c was a plain miss";
}

// ---- S3-FIFO ------------------------------------------------------------------------------------

TEST(S3FifoPaperTest, QuickDemotionAndGhosts) {
  Cache cache{std::make_unique<S3FifoPolicy>(PolicyOptions{.capacity_bytes = 10}), 10};
  cache.request("abcdefghij");  // All in S, whose target size is 1.
  EXPECT_EQ(cache.request("k"), "a");
  cache.request("bbc");  // b was used twice, c once.
  EXPECT_EQ(cache.request("l"), "c") << "b moves to M; one use does not save c";
  EXPECT_EQ(cache.request("a"), "d") << "a is in G, and goes to M";
  EXPECT_EQ(cache.request("mnopqrst"), "efghijkl") << "S empties: b and a stay in M";
  EXPECT_TRUE(cache.has('a') && cache.has('b'));
}

TEST(S3FifoPaperTest, TheMainQueueGivesAsManyRoundsAsUses) {
  Cache cache{std::make_unique<S3FifoPolicy>(PolicyOptions{.capacity_bytes = 10}), 10};
  cache.request("abcdefghij");
  cache.request("aabbccddeeffgghhiijj");
  // All move to M, and S is empty, so M's oldest goes; their uses were cleared by the move.
  EXPECT_EQ(cache.request("k"), "a");
  cache.request("bbbbcc");  // b: 3 at most, c: 2.
  // S holds k and is at its tenth, so it is evicted from; each newcomer follows.
  EXPECT_EQ(cache.request("l"), "k");
  std::string evicted;
  // l is used until it moves to M, and then the next one: M loses one each time.
  for (const char* letters : {"llm", "mmn", "nno", "oop", "ppq", "qqr", "rrs"}) {
    evicted += cache.request(letters);
  }
  EXPECT_EQ(evicted, "defghij") << "b and c got other rounds";
  evicted.clear();
  for (const char* letters : {"sst", "ttu", "uuv", "vvw", "wwx", "xxy", "yyz"}) {
    evicted += cache.request(letters);
  }
  EXPECT_EQ(evicted, "lmnopqr") << "and another one each";
  evicted.clear();
  for (const char* letters : {"zz1", "112", "223"}) evicted += cache.request(letters);
  EXPECT_EQ(evicted, "stc") << "c was used twice, b three times";
  EXPECT_TRUE(cache.has('b'));
}

TEST(S3FifoPaperTest, AScanLeavesTheMainQueueAlone) {
  Cache cache{std::make_unique<S3FifoPolicy>(PolicyOptions{.capacity_bytes = 10}), 10};
  cache.request("abcabcabc");
  for (std::uint64_t scanned = 1000; scanned < 2000; ++scanned) cache.request(scanned);
  EXPECT_TRUE(cache.has('a') && cache.has('b') && cache.has('c'));
}

// ---- noop ---------------------------------------------------------------------------------------

TEST(NoopTest, OnlyWhatWasCooledGoes) {
  NoopPolicy noop{PolicyOptions{}};
  for (ColumnId column = 0; column < 4; ++column) noop.insert(column, column, 1, column + 1);
  ColumnId victim = 0;
  EXPECT_EQ(noop.coldest({&victim, 1}), 0U);
  noop.cool(2);
  EXPECT_EQ(noop.coldest({&victim, 1}), 1U);
  EXPECT_EQ(victim, 2U);
  noop.touch(2, 5);
  EXPECT_EQ(noop.coldest({&victim, 1}), 0U);
}

}  // namespace
}  // namespace larder::cache
