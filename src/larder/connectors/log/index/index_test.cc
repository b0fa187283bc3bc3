#include "larder/connectors/log/index/index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "larder/base/random.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kNoBound = UINT64_MAX;
constexpr std::uint64_t kBytesPerKeyMax = 48;
constexpr std::uint64_t kMillion = 1'000'000;

// A large index has nothing to do with threads and takes minutes under the thread sanitizer.
#if !defined(__has_feature)
#define __has_feature(feature) 0  // GCC; its name of the sanitizer stands beside.
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
constexpr std::uint64_t kManyKeys = kMillion + kMillion / 10;
#else
constexpr std::uint64_t kManyKeys = 3 * kMillion;
#endif

struct FingerprintHash {
  std::size_t operator()(const Fingerprint& fingerprint) const noexcept {
    return fingerprint.low * 0x9E3779B97F4A7C15U + fingerprint.high;
  }
};
using Model = std::unordered_map<Fingerprint, IndexEntry, FingerprintHash>;

/// The same number gives the same fingerprint, spread over all shards.
Fingerprint spread(std::uint64_t number) {
  Random random{number};
  const std::uint64_t low = random.next();
  return {.low = low, .high = random.next()};
}

/// All in one shard.
Fingerprint in_shard(std::uint64_t number, std::uint64_t shard = 7) {
  Fingerprint fingerprint = spread(number);
  fingerprint.low = fingerprint.low / Index::kShards * Index::kShards + shard;
  return fingerprint;
}

IndexEntry entry_of(std::uint64_t number) {
  return {.location = {.segment = static_cast<std::uint32_t>(number % Index::kSegmentsMax),
                       .grain = static_cast<std::uint32_t>(number * 31)},
          .value_bytes = static_cast<std::uint32_t>(number * 17 + 1)};
}

void expect_equal(const Index& index, const Model& model, std::span<const Fingerprint> universe) {
  ASSERT_EQ(index.keys(), model.size());
  std::vector<IndexEntry> entries(universe.size());
  std::vector<std::uint8_t> found(universe.size());
  index.find_many(universe, entries, found);
  for (std::size_t i = 0; i < universe.size(); ++i) {
    const auto expected = model.find(universe[i]);
    const auto one = index.find(universe[i]);
    ASSERT_EQ(found[i] != 0, expected != model.end());
    ASSERT_EQ(one.has_value(), expected != model.end());
    if (expected == model.end()) continue;
    ASSERT_EQ(entries[i], expected->second);
    ASSERT_EQ(*one, expected->second);
  }
}

TEST(IndexTest, EmptyIndexFindsNothingAndTakesNoArrays) {
  Index index{kNoBound};

  EXPECT_FALSE(index.find({}).has_value());
  EXPECT_FALSE(index.erase({}));
  EXPECT_FALSE(index.erase_if_at({}, {}));
  EXPECT_FALSE(index.set_was_read({}));
  index.prefetch({});
  EXPECT_EQ(index.keys(), 0U);
  EXPECT_EQ(index.bytes(), 0U);
}

TEST(IndexTest, ExtremeFingerprintsAndEntriesComeBackAsTheyWere) {
  Index index{kNoBound};
  const IndexEntry zero;
  const IndexEntry largest{.location = {.segment = Index::kSegmentsMax - 1, .grain = UINT32_MAX},
                           .value_bytes = UINT32_MAX,
                           .was_read = true,
                           .note = UINT32_MAX,
                           .is_packed = true,
                           .tag = UINT64_MAX};

  ASSERT_TRUE(index.assign({.low = 0, .high = 0}, zero));
  ASSERT_TRUE(index.assign({.low = UINT64_MAX, .high = UINT64_MAX}, largest));

  EXPECT_EQ(index.find({.low = 0, .high = 0}), zero);
  EXPECT_EQ(index.find({.low = UINT64_MAX, .high = UINT64_MAX}), largest);
  EXPECT_FALSE(index.find({.low = 1, .high = 0}).has_value());
  EXPECT_FALSE(index.find({.low = UINT64_MAX - 1, .high = UINT64_MAX}).has_value());
}

TEST(IndexTest, TheLowHalfOfAFingerprintIsTheKeyAndATagStandsForTheOther) {
  Index index{kNoBound};
  IndexEntry packed = entry_of(1);
  packed.is_packed = true;
  packed.tag = 0x0123456789ABCDEFU;
  ASSERT_TRUE(index.assign({.low = 5, .high = 6}, entry_of(2)));
  EXPECT_EQ(index.entries_in(2).front().first, (Fingerprint{.low = 5, .high = 6}));
  ASSERT_TRUE(index.assign({.low = 5, .high = 7}, packed));
  EXPECT_EQ(index.keys(), 1U);
  EXPECT_EQ(index.find({.low = 5, .high = 8}), packed);
  ASSERT_TRUE(index.set_was_read({.low = 5}));
  ASSERT_TRUE(index.set_note({.low = 5}, 9));
  packed.was_read = true;
  packed.note = 9;
  EXPECT_EQ(index.find({.low = 5}), packed);
  EXPECT_EQ(index.entries_in(1).front().first, (Fingerprint{.low = 5, .high = 0}));
  EXPECT_EQ(index.entries_in(1).front().second, packed);
  ASSERT_TRUE(index.assign({.low = 5, .high = 6}, entry_of(2)));
  EXPECT_EQ(index.find({.low = 5}), entry_of(2));
}

TEST(IndexTest, AssignReplacesTheWholeEntry) {
  Index index{kNoBound};
  const Fingerprint key = spread(1);
  ASSERT_TRUE(index.assign(key, entry_of(1)));
  ASSERT_TRUE(index.set_was_read(key));

  ASSERT_TRUE(index.assign(key, entry_of(2)));

  EXPECT_EQ(index.find(key), entry_of(2));
  EXPECT_EQ(index.keys(), 1U);
}

TEST(IndexTest, TheMarkChangesNothingElse) {
  Index index{kNoBound};
  const Fingerprint key = spread(1);
  IndexEntry expected = entry_of(1);
  ASSERT_TRUE(index.assign(key, expected));

  ASSERT_TRUE(index.set_was_read(key));
  expected.was_read = true;
  EXPECT_EQ(index.find(key), expected);
}

TEST(IndexTest, EraseIfAtLeavesAnEntryThatMovedOn) {
  Index index{kNoBound};
  const Fingerprint key = spread(1);
  ASSERT_TRUE(index.assign(key, entry_of(1)));
  ASSERT_TRUE(index.set_was_read(key));
  const Location location = entry_of(1).location;

  EXPECT_FALSE(index.erase_if_at(key, {location.segment + 1, location.grain}));
  EXPECT_FALSE(index.erase_if_at(key, {location.segment, location.grain + 1}));
  EXPECT_TRUE(index.find(key).has_value());
  EXPECT_TRUE(index.erase_if_at(key, location));
  EXPECT_FALSE(index.find(key).has_value());
  EXPECT_FALSE(index.erase_if_at(key, location));
}

/// How a model test's fingerprints are distributed.
struct Spread {
  std::string name;
  std::uint64_t keys = 0;
  std::function<Fingerprint(std::uint64_t)> fingerprint;
};

class IndexModelTest : public ::testing::TestWithParam<Spread> {};

TEST_P(IndexModelTest, RandomOperationsMatchAMap) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random{seed};
  std::vector<Fingerprint> universe;
  universe.reserve(GetParam().keys);
  for (std::uint64_t i = 0; i < GetParam().keys; ++i) universe.push_back(GetParam().fingerprint(i));
  Index index{kNoBound};
  Model model;

  for (std::uint64_t step = 0; step < 24'000; ++step) {
    // Phases of growth and of decline, so that shards are rebuilt both ways.
    const bool grows = step / 4'000 % 2 == 0;
    const Fingerprint& key = universe[random.below(universe.size())];
    const auto known = model.find(key);
    const bool is_known = known != model.end();
    const std::uint64_t choice = random.below(10);
    if (choice < (grows ? 6U : 2U)) {
      ASSERT_TRUE(index.assign(key, entry_of(step)));
      model[key] = entry_of(step);
    } else if (choice < 7) {
      ASSERT_EQ(index.erase(key), is_known);
      model.erase(key);
    } else if (choice == 7) {
      Location location = is_known ? known->second.location : Location{};
      if (random.one_in(2)) ++location.grain;
      const bool matches = is_known && known->second.location == location;
      ASSERT_EQ(index.erase_if_at(key, location), matches);
      if (matches) model.erase(key);
    } else {
      ASSERT_EQ(index.set_was_read(key), is_known);
      if (is_known) known->second.was_read = true;
    }
    if (step % 1'000 == 0) expect_equal(index, model, universe);
  }
  expect_equal(index, model, universe);
}

INSTANTIATE_TEST_SUITE_P(
    Distributions, IndexModelTest,
    ::testing::Values(
        Spread{"AllShards", 1500, [](std::uint64_t i) { return spread(i); }},
        Spread{"OneShard", 1500, [](std::uint64_t i) { return in_shard(i); }},
        Spread{"OneSlotAtTheStart", 500,
               [](std::uint64_t i) { return Fingerprint{i * Index::kShards, i}; }},
        Spread{"OneSlotInTheMiddle", 500,
               [](std::uint64_t i) { return Fingerprint{(1ULL << 63) + i * Index::kShards, i}; }},
        Spread{"OneSlotAtTheEnd", 500,
               [](std::uint64_t i) { return Fingerprint{UINT64_MAX - i * Index::kShards, i}; }},
        Spread{
            "FewSlots", 500,
            [](std::uint64_t i) { return Fingerprint{((i % 40) << 58) + i * Index::kShards, i}; }}),
    [](const auto& parameter) { return parameter.param.name; });

TEST(IndexTest, EverySizeOfAShardHoldsAllItsKeys) {
  constexpr std::uint64_t kKeyCount = 1'200;
  Index index{kNoBound};

  for (std::uint64_t size = 1; size <= kKeyCount; ++size) {
    ASSERT_TRUE(index.assign(in_shard(size), entry_of(size)));
    for (std::uint64_t i = 1; i <= size; ++i) ASSERT_EQ(index.find(in_shard(i)), entry_of(i));
    ASSERT_FALSE(index.find(in_shard(size + 1)).has_value());
  }
  for (std::uint64_t size = kKeyCount; size > 0; --size) {
    ASSERT_TRUE(index.erase(in_shard(size)));
    ASSERT_FALSE(index.find(in_shard(size)).has_value());
    for (std::uint64_t i = 1; i < size; ++i) ASSERT_EQ(index.find(in_shard(i)), entry_of(i));
  }
  EXPECT_EQ(index.keys(), 0U);
}

TEST(IndexTest, FindManyOfAnyLengthAgreesWithFind) {
  Index index{kNoBound};
  for (std::uint64_t i = 0; i < 3'000; i += 2) ASSERT_TRUE(index.assign(spread(i), entry_of(i)));

  for (const std::size_t length : {0U, 1U, 23U, 24U, 25U, 511U, 512U, 513U, 3'000U}) {
    std::vector<Fingerprint> keys;
    keys.reserve(length);
    for (std::uint64_t i = 0; i < length; ++i) keys.push_back(spread(i));
    std::vector<IndexEntry> entries(length);
    std::vector<std::uint8_t> found(length, 9);
    index.find_many(keys, entries, found);
    for (std::size_t i = 0; i < length; ++i) {
      ASSERT_EQ(found[i], i % 2 == 0 ? 1 : 0);
      if (found[i] != 0) {
        ASSERT_EQ(entries[i], entry_of(i));
      }
    }
  }
}

TEST(IndexTest, BytesStayWithinTheirBoundAndARefusedAssignChangesNothing) {
  constexpr std::uint64_t kBytesMax = 4 << 20;
  Index index{kBytesMax};
  std::uint64_t count = 0;
  while (index.assign(spread(count), entry_of(count))) {
    ++count;
    ASSERT_LE(index.bytes(), kBytesMax);
    ASSERT_LT(count, kBytesMax / 32) << "more keys than have room";
  }

  EXPECT_GT(count, kBytesMax / kBytesPerKeyMax * 8 / 10);
  EXPECT_EQ(index.keys(), count);
  EXPECT_FALSE(index.find(spread(count)).has_value());
  for (std::uint64_t i = 0; i < count; ++i) ASSERT_EQ(index.find(spread(i)), entry_of(i));
  // A full index still replaces, and takes a key for one that went from the same shard.
  EXPECT_TRUE(index.assign(spread(0), entry_of(count)));
  const std::uint64_t shard = spread(count).low % Index::kShards;
  std::uint64_t victim = 0;
  while (spread(victim).low % Index::kShards != shard) ++victim;
  ASSERT_LT(victim, count);
  EXPECT_TRUE(index.erase(spread(victim)));
  EXPECT_TRUE(index.assign(spread(count), entry_of(count)));
  EXPECT_LE(index.bytes(), kBytesMax);
}

TEST(IndexTest, NoRoomForOnePageRefusesEveryKey) {
  Index index{4095};

  EXPECT_FALSE(index.assign(spread(1), entry_of(1)));
  EXPECT_EQ(index.keys(), 0U);
  EXPECT_EQ(index.bytes(), 0U);
}

TEST(IndexTest, ReserveMakesRoomAtOnceAndGivesBackTheRest) {
  constexpr std::uint64_t kKeyCount = 100'000;
  Index index{kNoBound};
  index.reserve(kKeyCount);
  const std::uint64_t reserved_bytes = index.bytes();
  EXPECT_GE(reserved_bytes, kKeyCount * 32);

  for (std::uint64_t i = 0; i < kKeyCount; ++i) ASSERT_TRUE(index.assign(spread(i), entry_of(i)));
  EXPECT_EQ(index.bytes(), reserved_bytes);
  for (std::uint64_t i = kKeyCount / 4; i < kKeyCount; ++i) ASSERT_TRUE(index.erase(spread(i)));
  EXPECT_EQ(index.bytes(), reserved_bytes);

  index.reserve(0);
  EXPECT_LT(index.bytes(), reserved_bytes / 2);
  for (std::uint64_t i = 0; i < kKeyCount / 4; ++i) ASSERT_EQ(index.find(spread(i)), entry_of(i));
}

TEST(IndexTest, ReserveBeyondTheBoundLeavesWhatFits) {
  constexpr std::uint64_t kBytesMax = 4 << 20;
  Index index{kBytesMax};
  index.reserve(100'000'000);

  EXPECT_LE(index.bytes(), kBytesMax);
  for (std::uint64_t i = 0; i < 20'000; ++i) ASSERT_TRUE(index.assign(spread(i), entry_of(i)));
}

TEST(IndexTest, AKeyTakesAtMost48BytesFromAMillionKeysOnGrowingAndShrinking) {
  Index index{kNoBound};
  Random random{1};
  std::vector<Fingerprint> keys(kManyKeys);
  for (auto& key : keys) key = {.low = random.next(), .high = random.next()};
  const auto check = [&] {
    if (index.keys() < kMillion || index.keys() % 1'000 != 0) return;
    // A shard that is being rebuilt exists twice.
    const std::uint64_t rebuilt_bytes = index.bytes() / Index::kShards * 5 / 4;
    ASSERT_LE(index.bytes() + rebuilt_bytes, kBytesPerKeyMax * index.keys())
        << index.keys() << " keys";
  };

  for (const Fingerprint& key : keys) {
    ASSERT_TRUE(index.assign(key, {}));
    check();
  }
  EXPECT_EQ(index.keys(), keys.size());
  for (std::uint64_t i = keys.size(); i > kMillion; --i) {
    ASSERT_TRUE(index.erase(keys[i - 1]));
    check();
  }
  EXPECT_EQ(index.keys(), kMillion);
}

TEST(IndexTest, AKeyTakesAtMost48BytesInAShardOfAnySize) {
  // A shard's size at one million keys is its smallest size here.
  constexpr std::uint64_t kFewest = kMillion / Index::kShards;
  constexpr std::uint64_t kMost = 5 * kFewest;
  Index index{kNoBound};

  for (std::uint64_t i = 0; i < kMost; ++i) {
    ASSERT_TRUE(index.assign(in_shard(i), {}));
    if (i < kFewest) continue;
    ASSERT_LE(index.bytes(), kBytesPerKeyMax * index.keys()) << index.keys() << " keys";
  }
  for (std::uint64_t i = kMost; i > kFewest; --i) {
    ASSERT_TRUE(index.erase(in_shard(i - 1)));
    ASSERT_LE(index.bytes(), kBytesPerKeyMax * index.keys()) << index.keys() << " keys";
  }
}

TEST(IndexTest, ANoteIsKeptBesideTheSizeAndChangesAlone) {
  Index index{kNoBound};
  IndexEntry entry = entry_of(1);
  entry.note = 0xFEDC'BA98;
  ASSERT_TRUE(index.assign(spread(1), entry));
  EXPECT_EQ(index.find(spread(1)), entry);
  ASSERT_TRUE(index.set_was_read(spread(1)));
  ASSERT_TRUE(index.set_note(spread(1), 0x8000'0001));
  entry.was_read = true;
  entry.note = 0x8000'0001;
  EXPECT_EQ(index.find(spread(1)), entry);
  ASSERT_TRUE(index.assign(spread(1), entry_of(2)));
  EXPECT_EQ(index.find(spread(1)), entry_of(2));
  EXPECT_FALSE(index.set_note(spread(3), 1));
}

TEST(IndexTest, AWalkTellsEveryEntryOnceARound) {
  Index index{kNoBound};
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    IndexEntry entry = entry_of(i);
    entry.note = static_cast<std::uint32_t>(i);
    ASSERT_TRUE(index.assign(spread(i), entry));
  }
  Index::Walk walk;
  std::array<IndexEntry, 64> some;
  for (std::uint64_t round = 1; round <= 2; ++round) {
    std::vector<int> seen(20'000);
    while (walk.rounds < round) {
      const std::size_t count = index.next_entries(walk, some);
      ASSERT_LE(count, some.size());
      for (std::size_t i = 0; i < count; ++i) ++seen[some[i].note];
    }
    EXPECT_EQ(std::ranges::count(seen, 1), 20'000);
  }
  Index empty{kNoBound};
  Index::Walk there;
  for (int i = 0; i < 4; ++i) EXPECT_EQ(empty.next_entries(there, some), 0U);
  EXPECT_EQ(there.rounds, 1U);
}

TEST(IndexDeathTest, ASegmentNumberThatDoesNotFitIsABug) {
  Index index{kNoBound};
  const IndexEntry entry{.location = {.segment = Index::kSegmentsMax, .grain = 0}};

  EXPECT_DEATH({ static_cast<void>(index.assign(spread(1), entry)); }, "kSegmentsMax");
}

}  // namespace
}  // namespace larder::log_store
