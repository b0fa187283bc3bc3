#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/random.h"
#include "larder/connectors/log/index/index.h"

namespace larder::log_store {
namespace {

constexpr std::size_t kReaders = 3;
constexpr std::size_t kStableKeys = 1'000;
constexpr std::size_t kMovingKeys = 6'000;
constexpr std::uint64_t kWrites = 300'000;

/// Two shards only, so that readers and the writer meet all the time.
Fingerprint key_of(std::uint64_t number) {
  Random random{number};
  const std::uint64_t low = random.next() / Index::kShards * Index::kShards + number % 2;
  return {.low = low, .high = random.next()};
}

/// An entry that shows for which key and as one piece it was written.
IndexEntry entry_of(const Fingerprint& key, std::uint32_t version) {
  const std::uint64_t mixed = (key.low ^ version) * 0x9E3779B97F4A7C15U + key.high;
  return {.location = {.segment = static_cast<std::uint32_t>(mixed >> 40), .grain = version},
          .value_bytes = static_cast<std::uint32_t>(mixed),
          .is_packed = version % 3 == 0,
          .tag = version % 3 == 0 ? ~mixed : 0};
}

bool is_whole(const Fingerprint& key, IndexEntry entry) {
  entry.was_read = false;
  return entry == entry_of(key, entry.location.grain);
}

/// Reads until told to stop, at least one round. Returns how many answers were wrong.
std::uint64_t read_all(const Index& index, const std::vector<Fingerprint>& keys,
                       const std::atomic<bool>& is_done) {
  std::vector<IndexEntry> entries(keys.size());
  std::vector<std::uint8_t> found(keys.size());
  std::uint64_t wrong = 0;
  do {
    index.find_many(keys, entries, found);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (found[i] != 0 ? !is_whole(keys[i], entries[i]) : i < kStableKeys) ++wrong;
    }
    for (std::size_t i = 0; i < keys.size(); i += 16) {
      const auto entry = index.find(keys[i]);
      if (entry ? !is_whole(keys[i], *entry) : i < kStableKeys) ++wrong;
    }
  } while (!is_done.load(std::memory_order_relaxed));
  return wrong;
}

TEST(IndexStress, ReadersSeeWholeEntriesAndEveryKeyThatStays) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random{seed};
  std::vector<Fingerprint> keys;
  keys.reserve(kStableKeys + kMovingKeys);
  for (std::uint64_t i = 0; i < kStableKeys + kMovingKeys; ++i) keys.push_back(key_of(i));
  Index index{UINT64_MAX};
  for (std::size_t i = 0; i < kStableKeys; ++i)
    ASSERT_TRUE(index.assign(keys[i], entry_of(keys[i], 0)));
  std::atomic<bool> is_done = false;
  std::vector<std::uint64_t> wrong(kReaders);
  std::vector<std::thread> readers;
  readers.reserve(kReaders);
  for (std::size_t i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] { wrong[i] = read_all(index, keys, is_done); });
  }

  std::uint64_t sizes_seen = 0;
  std::uint64_t bytes_before = index.bytes();
  for (std::uint64_t step = 0; step < kWrites; ++step) {
    // Growth and decline in turn, so that arrays are replaced under the readers.
    const bool grows = step / 25'000 % 2 == 0;
    const Fingerprint& key = keys[kStableKeys + random.below(kMovingKeys)];
    if (random.below(8) < (grows ? 6U : 2U)) {
      EXPECT_TRUE(index.assign(key, entry_of(key, static_cast<std::uint32_t>(step))));
    } else {
      index.erase(key);
    }
    if (random.one_in(8)) index.set_was_read(key);
    if (index.bytes() != bytes_before) ++sizes_seen;
    bytes_before = index.bytes();
  }
  is_done.store(true, std::memory_order_relaxed);
  for (std::thread& reader : readers) reader.join();

  for (const std::uint64_t count : wrong) EXPECT_EQ(count, 0U);
  EXPECT_GT(sizes_seen, 10U);
  // Without readers, every replaced array goes with the next change.
  index.erase(keys[0]);
  EXPECT_LT(index.bytes(), index.keys() * 128);
}

TEST(IndexStress, AnArrayIsReplacedUnderItsReadersAndUnmappedAfterThem) {
  constexpr std::uint64_t kKeyCount = 20'000;
  constexpr int kTurns = 50;
  Index index{UINT64_MAX};
  std::vector<Fingerprint> keys;
  Random random{1};
  keys.reserve(kKeyCount);
  for (std::uint64_t i = 0; i < kKeyCount; ++i) keys.push_back({random.next(), random.next()});
  for (const Fingerprint& key : keys) ASSERT_TRUE(index.assign(key, entry_of(key, 0)));
  const std::uint64_t small_bytes = index.bytes();
  std::atomic<bool> is_done = false;
  std::atomic<std::uint64_t> missed = 0;
  std::vector<std::thread> readers;
  readers.reserve(kReaders);
  for (std::size_t reader = 0; reader < kReaders; ++reader) {
    readers.emplace_back([&] {
      std::vector<IndexEntry> entries(kKeyCount);
      std::vector<std::uint8_t> found(kKeyCount);
      do {
        index.find_many(keys, entries, found);
        for (std::size_t i = 0; i < kKeyCount; ++i) {
          if (found[i] == 0 || !is_whole(keys[i], entries[i])) ++missed;
        }
      } while (!is_done.load(std::memory_order_relaxed));
    });
  }

  // Each turn replaces every array twice.
  for (int turn = 0; turn < kTurns; ++turn) {
    index.reserve(5 * kKeyCount);
    EXPECT_GT(index.bytes(), 2 * small_bytes);
    index.reserve(0);
  }
  is_done.store(true, std::memory_order_relaxed);
  for (std::thread& reader : readers) reader.join();

  EXPECT_EQ(missed.load(), 0U);
  EXPECT_TRUE(index.assign(keys[0], entry_of(keys[0], 1)));
  EXPECT_LE(index.bytes(), small_bytes);
}

}  // namespace
}  // namespace larder::log_store
