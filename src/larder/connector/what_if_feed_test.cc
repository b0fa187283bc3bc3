#include "larder/connector/what_if_feed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/key_text.h"

namespace larder {
namespace {

constexpr std::size_t kHalf = 0;
constexpr std::size_t kSame = 1;
constexpr std::size_t kDouble = 2;
constexpr std::uint64_t kValueBytes = 1000;

/// Batches as an intake sees them when they end.
class Ended {
 public:
  Ended(Op op, std::uint64_t from, std::uint64_t to) : slice_{nullptr, kValueBytes} {
    for (std::uint64_t key = from; key < to; ++key) names_.push_back("key " + std::to_string(key));
    for (const std::string& name : names_) {
      Item item;
      item.key = std::as_bytes(std::span{name.data(), name.size()});
      if (op == Op::kSet || op == Op::kGet) item.value = {&slice_, 1};
      items_.push_back(item);
    }
    batch_.op = op;
    batch_.items = items_;
  }
  Ended& as(Outcome outcome, MissReason reason = MissReason::kAbsent) {
    for (Item& item : items_) {
      item.outcome = outcome;
      item.miss_reason = reason;
      item.value_bytes = outcome == Outcome::kHit ? kValueBytes : 0;
    }
    return *this;
  }
  operator const Batch&() const { return batch_; }  // NOLINT: it is one.
  std::span<const Item> items() const { return items_; }

 private:
  Slice slice_;
  std::deque<std::string> names_;
  std::vector<Item> items_;
  Batch batch_;
};

WhatIf told(WhatIfFeed& feed) {
  Report report;
  feed.append_report(report);
  return report.what_if;
}

TEST(WhatIfFeed, IsEmptyWithoutACapacity) {
  WhatIfFeed feed{{}};
  feed.note(Ended{Op::kGet, 0, 10}.as(Outcome::kHit));
  EXPECT_TRUE(told(feed).is_empty());
}

TEST(WhatIfFeed, CountsLookupsWhereTheyComeBeforeLoads) {
  WhatIfFeed feed{{.capacity_bytes = 150 * kValueBytes}};
  // A loop over 100 keys, of which the store has all: they would be too many for half of it.
  feed.note(Ended{Op::kSet, 0, 100}.as(Outcome::kDone));
  for (int round = 0; round < 30; ++round) {
    feed.note(Ended{Op::kExists, 0, 100}.as(Outcome::kHit));
    feed.note(Ended{Op::kGet, 0, 100}.as(Outcome::kHit));
  }
  const WhatIf now = told(feed);
  EXPECT_EQ(now.of, BatchClass::kLookup);
  EXPECT_EQ(now.measured, 1.0);
  EXPECT_NEAR(*now.points[kSame].hit_rate, 1.0, 1e-6);
  // Used from the last key to the first: the last 25 are the deepest.
  EXPECT_NEAR(*now.points[kHalf].hit_rate, 0.75, 1e-6);
}

TEST(WhatIfFeed, CountsLoadsWhereNothingIsLookedUp) {
  WhatIfFeed feed{{.capacity_bytes = 50 * kValueBytes}};
  for (int round = 0; round < 30; ++round) {
    for (std::uint64_t key = 0; key < 100; ++key) {
      feed.note(Ended{Op::kGet, key, key + 1}.as(Outcome::kMiss));
      feed.note(Ended{Op::kSet, key, key + 1}.as(Outcome::kDone));
    }
  }
  const WhatIf now = told(feed);
  EXPECT_EQ(now.of, BatchClass::kLoad);
  EXPECT_EQ(now.measured, 0.0);
  EXPECT_NEAR(*now.points[kSame].hit_rate, 0.0, 1e-6);
  EXPECT_NEAR(*now.points[kDouble].hit_rate, 29.0 / 30, 0.01);  // All but the first round.
}

TEST(WhatIfFeed, CountsWholeGrains) {
  WhatIfFeed feed{{.capacity_bytes = 100 * 8192, .grain_bytes = 8192}};
  for (int round = 0; round < 30; ++round) {
    for (std::uint64_t key = 0; key < 150; ++key) {
      feed.note(Ended{Op::kGet, key, key + 1}.as(Outcome::kMiss));
      feed.note(Ended{Op::kSet, key, key + 1}.as(Outcome::kDone));
    }
  }
  EXPECT_NEAR(*told(feed).points[kSame].hit_rate, 0.0, 1e-6);
  EXPECT_GT(*told(feed).points[kDouble].hit_rate, 0.9);
}

TEST(WhatIfFeed, CountsNoMissThatHasNothingToDoWithRoom) {
  WhatIfFeed feed{{.capacity_bytes = 1'000'000}};
  feed.note(Ended{Op::kSet, 0, 50}.as(Outcome::kDone));
  for (int round = 0; round < 30; ++round) {
    feed.note(Ended{Op::kExists, 0, 50}.as(Outcome::kHit));
    feed.note(Ended{Op::kExists, 0, 50}.as(Outcome::kMiss, MissReason::kDown));
    feed.note(Ended{Op::kExists, 0, 50}.as(Outcome::kFailed));
  }
  // Of 1500; the first ones count less.
  EXPECT_LE(told(feed).asked, 1500);
  EXPECT_GE(told(feed).asked, 1400);
  EXPECT_EQ(told(feed).measured, 1.0);
  EXPECT_NEAR(*told(feed).points[kSame].hit_rate, 1.0, 1e-6);
}

TEST(WhatIfFeed, HearsOfTouchesDeletionsAndProbes) {
  WhatIfFeed feed{{.capacity_bytes = 10 * kValueBytes}};
  for (int round = 0; round < 300; ++round) {
    feed.note(Ended{Op::kSet, 0, 10}.as(Outcome::kDone));
    feed.note(Ended{Op::kTouch, 9, 10}.as(Outcome::kDone));   // Otherwise it is the deepest.
    feed.note(Ended{Op::kDelete, 0, 5}.as(Outcome::kDone));   // Never resident any more.
    feed.note(Ended{Op::kSet, 100, 109}.as(Outcome::kDone));  // Leaves room for one.
    feed.note_lookups(Ended{Op::kExists, 0, 10}.as(Outcome::kMiss).items());
  }
  const WhatIf now = told(feed);
  EXPECT_EQ(now.of, BatchClass::kLookup);
  EXPECT_NEAR(*now.points[kSame].hit_rate, 0.1, 1e-3);
  EXPECT_NEAR(*now.points[kDouble].hit_rate, 0.5, 1e-3);
}

TEST(WhatIfFeed, TakesBatchesFromManyThreads) {
  constexpr int kThreads = 4;
  WhatIfFeed feed{{.capacity_bytes = 100'000 * kValueBytes}};
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number < kThreads; ++number) {
    threads.emplace_back([&feed, number] {
      const std::uint64_t from = number * 1000;
      Ended stored{Op::kSet, from, from + 1000};
      Ended found{Op::kExists, from, from + 1000};
      feed.note(stored.as(Outcome::kDone));
      found.as(Outcome::kHit);
      for (int round = 0; round < 10; ++round) {
        feed.note(found);
        EXPECT_FALSE(told(feed).is_empty());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const WhatIf now = told(feed);
  ASSERT_TRUE(now.measured);
  EXPECT_NEAR(*now.measured, 1.0, 1e-9);
  // If no thread had to drop a record.
  if (now.points[kSame].hit_rate) {
    EXPECT_NEAR(*now.points[kSame].hit_rate, 1.0, 0.02);
  }
}

}  // namespace
}  // namespace larder
