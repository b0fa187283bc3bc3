#include "larder/connectors/log/machine/use_ledger.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "larder/base/random.h"
#include "larder/connectors/log/machine/request_notes.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kBytes = 65536;
constexpr std::uint64_t kUnlimited = std::uint64_t{1} << 30;

Fingerprint fingerprint_of(std::uint64_t key) {
  std::uint64_t state = key * 2 + 1;
  const std::uint64_t low = Random{state}.next();
  state = ~low;
  return {.low = low, .high = Random{state}.next()};
}

/// A cache of `capacity` records of one size, each in segment (key / 100): the work of the
/// reclaimer and the item runner around the ledger.
class Cache {
 public:
  explicit Cache(std::uint64_t capacity) : ledger_(capacity * kBytes), index_(kUnlimited) {}

  UseLedger& ledger() { return ledger_; }
  Index& index() { return index_; }

  /// A request of so many keys from `first` on, of which the first `known` were known.
  void request(std::uint64_t first, std::uint32_t keys, std::uint32_t known) {
    ledger_.begin(keys, known, keys);
    for (std::uint32_t i = keys; i > 0; --i) {
      const Fingerprint fingerprint = fingerprint_of(first + i - 1);
      const auto entry = index_.find(fingerprint);
      const std::uint32_t note = ledger_.use(fingerprint, entry ? &*entry : nullptr, kBytes);
      const auto segment = static_cast<std::uint32_t>((first + i - 1) / 100);
      EXPECT_TRUE(index_.assign(
          fingerprint,
          {.location = {.segment = segment, .grain = 1}, .value_bytes = kBytes - 1, .note = note}));
      ledger_.look(index_, generation);
    }
  }
  void evict(std::uint64_t key) {
    const Fingerprint fingerprint = fingerprint_of(key);
    const auto entry = index_.find(fingerprint);
    ASSERT_TRUE(entry.has_value());
    index_.erase(fingerprint);
    ledger_.note_gone(fingerprint, entry->note);
  }
  UseNote note_of(std::uint64_t key) const {
    return UseNote::unpack(index_.find(fingerprint_of(key))->note);
  }
  double worth_of(std::uint64_t key) const {
    return ledger_.worth(index_.find(fingerprint_of(key))->note);
  }
  bool has(std::uint64_t key) const { return index_.find(fingerprint_of(key)).has_value(); }

  std::uint64_t generation = 1;

 private:
  UseLedger ledger_;
  Index index_;
};

TEST(UseLedgerTest, ANoteIsWhatWasPacked) {
  for (const UseNote note : {UseNote{}, UseNote{.used = 1, .uses = 2, .shape = 3, .behind = 4},
                             UseNote{.used = UseNote::kTimes - 1,
                                     .uses = UseNote::kUsesMax,
                                     .shape = 11,
                                     .behind = UseNote::kDepthsMax}}) {
    const UseNote again = UseNote::unpack(note.pack());
    EXPECT_EQ(again.used, note.used);
    EXPECT_EQ(again.uses, note.uses);
    EXPECT_EQ(again.shape, note.shape);
    EXPECT_EQ(again.behind, note.behind);
  }
}

TEST(UseLedgerTest, AHeadHasAsManyUsesAsWhatStandsBehindIt) {
  Cache cache{1000};
  cache.request(0, 300, 0);
  EXPECT_EQ(cache.note_of(0).uses, 1U);
  EXPECT_EQ(cache.note_of(299).uses, 1U);
  EXPECT_EQ(cache.note_of(299).behind, 0U);
  EXPECT_EQ(cache.note_of(298).behind, 1U);
  EXPECT_EQ(cache.note_of(296).behind, 1U);
  EXPECT_EQ(cache.note_of(295).behind, 2U);
  EXPECT_EQ(cache.note_of(0).behind, 5U);
  cache.request(250, 50, 50);
  EXPECT_EQ(cache.note_of(299).uses, 2U);
  EXPECT_EQ(cache.note_of(0).uses, 1U);
  cache.request(0, 300, 300);  // The tail has had two.
  EXPECT_EQ(cache.note_of(299).uses, 3U);
  EXPECT_EQ(cache.note_of(0).uses, 3U);
}

TEST(UseLedgerTest, WhatIsGoneIsRememberedByHalfOfTheKeys) {
  Cache cache{1000};
  cache.request(0, 400, 0);
  for (std::uint64_t key = 0; key < 400; ++key) cache.evict(key);
  std::uint64_t remembered = 0;
  for (std::uint64_t key = 0; key < 400; ++key) {
    cache.request(key, 1, 0);
    remembered += cache.note_of(key).uses == 2 ? 1 : 0;
  }
  EXPECT_GT(remembered, 150U);
  EXPECT_LT(remembered, 250U);
}

TEST(UseLedgerTest, NothingIsKnownBeforeARoundOfKeysThatAreUsedAgain) {
  Cache cache{1000};
  EXPECT_FALSE(cache.ledger().knows());
  cache.request(0, 100, 0);
  for (int i = 0; i < 10'000; ++i) cache.ledger().look(cache.index(), 1);
  EXPECT_FALSE(cache.ledger().knows());
  cache.request(0, 100, 100);
  EXPECT_TRUE(cache.ledger().knows());
}

TEST(UseLedgerTest, ASegmentIsKnownAfterItsFirstWholeRound) {
  Cache cache{1000};
  cache.request(0, 100, 0);
  cache.request(0, 100, 100);
  // The segment of generation 7 may have been filled in the middle of the round.
  int rounds = 0;
  while (!cache.ledger().knows_segment(7)) {
    ASSERT_LT(++rounds, 10'000);
    cache.ledger().look(cache.index(), 7);
  }
  EXPECT_GT(rounds, static_cast<int>(Index::kShards / 64));
  EXPECT_FALSE(cache.ledger().knows_segment(8));
}

/// Chains that are asked for again and again among prompts that come once.
TEST(UseLedgerTest, WhatComesBackIsWorthMoreThanWhatDoesNot) {
  Cache cache{2000};
  std::uint64_t next = 100'000;
  std::vector<std::uint64_t> once;
  for (int round = 0; round < 600; ++round) {
    const std::uint64_t hot = static_cast<std::uint64_t>(round % 8) * 10;
    cache.request(hot, 10, cache.has(hot) ? 10 : 0);
    cache.request(next, 30, 0);
    for (std::uint64_t i = 0; i < 30; ++i) once.push_back(next + i);
    next += 30;
    while (cache.index().keys() > 2000) {
      cache.evict(once.front());
      once.erase(once.begin());
    }
  }
  ASSERT_TRUE(cache.ledger().knows());
  for (std::uint64_t key = 0; key < 80; ++key) {
    EXPECT_GT(cache.worth_of(key), cache.ledger().threshold()) << key;
    EXPECT_GT(cache.worth_of(key), cache.worth_of(once[once.size() / 2])) << key;
  }
  // Segment 0 holds the chains, the others hold keys that come once.
  const auto cold = static_cast<std::uint32_t>(once[once.size() / 2] / 100);
  EXPECT_GT(cache.ledger().worth_of_segment(0), cache.ledger().worth_of_segment(cold));
}

TEST(UseLedgerTest, TheSameCallsGiveTheSameAnswers) {
  std::optional<double> before;
  for (int run = 0; run < 2; ++run) {
    Cache cache{500};
    Random random{7};
    for (int i = 0; i < 300; ++i) {
      const std::uint64_t first = random.below(40) * 10;
      cache.request(first, 10, cache.has(first) ? 10 : 0);
    }
    const double worth = cache.worth_of(0) + cache.ledger().threshold();
    if (before) {
      EXPECT_EQ(*before, worth);
    }
    before = worth;
  }
}

TEST(RequestNotesTest, ARequestIsFoundByTheKeysThatItWasPutUnder) {
  RequestNotes notes;
  EXPECT_FALSE(notes.find(fingerprint_of(1)));
  notes.put(fingerprint_of(1), {.keys = 40, .known = 7});
  notes.put(fingerprint_of(8), {.keys = 40, .known = 7});
  for (const std::uint64_t key : {1, 8}) {
    const auto found = notes.find(fingerprint_of(key));
    ASSERT_TRUE(found.has_value()) << key;
    EXPECT_EQ(found->keys, 40U);
    EXPECT_EQ(found->known, 7U);
  }
  EXPECT_FALSE(notes.find(fingerprint_of(2)));
  notes.put(fingerprint_of(1), {.keys = 3, .known = 0});
  EXPECT_EQ(notes.find(fingerprint_of(1))->keys, 3U);
  notes.put(fingerprint_of(2), {.keys = 1U << 20, .known = 0});  // Too long to be noted.
  EXPECT_FALSE(notes.find(fingerprint_of(2)));
}

}  // namespace
}  // namespace larder::log_store
