#include "larder/server/kv_event_log.h"

#include <gtest/gtest.h>

namespace larder::server {
namespace {

wire::ChunkHash hash_of(unsigned number) {
  wire::ChunkHash hash{};
  hash[0] = std::byte{static_cast<unsigned char>(number)};
  hash[1] = std::byte{static_cast<unsigned char>(number >> 8U)};
  return hash;
}

std::vector<std::uint64_t> sequences(const KvEventLog::Reading& reading) {
  std::vector<std::uint64_t> out;
  for (const wire::KvEvent& event : reading.events) out.push_back(event.sequence);
  return out;
}

using Sequences = std::vector<std::uint64_t>;

TEST(KvEventLogTest, TellsWhatCameAfterTheCursor) {
  KvEventLog log{8};
  const wire::ChunkHash before = hash_of(1);
  log.add_stored("m", hash_of(1), nullptr, {1, 2});
  log.add_stored("m", hash_of(2), &before, {3, 4});
  const auto all = log.read("m", 0, 10);
  ASSERT_EQ(sequences(all), (Sequences{1, 2}));
  EXPECT_EQ(all.next_cursor, 2U);
  EXPECT_FALSE(all.is_lost);
  EXPECT_TRUE(all.events[0].is_stored);
  EXPECT_EQ(all.events[0].parent, nullptr);
  EXPECT_EQ(*all.events[1].parent, before);
  EXPECT_EQ(all.events[1].hashes[0], hash_of(2));
  EXPECT_EQ(all.events[1].token_ids[0], 3U);
  EXPECT_EQ(sequences(log.read("m", 1, 10)), Sequences{2});
  EXPECT_EQ(sequences(log.read("m", 0, 1)), Sequences{1});
  EXPECT_EQ(log.read("m", 2, 10).next_cursor, 2U);
}

TEST(KvEventLogTest, PassesOverOtherModels) {
  KvEventLog log{8};
  log.add_stored("a", hash_of(1), nullptr, {});
  log.add_stored("b", hash_of(2), nullptr, {});
  log.add_stored("a", hash_of(3), nullptr, {});
  const auto seen = log.read("b", 0, 10);
  EXPECT_EQ(sequences(seen), Sequences{2});
  EXPECT_EQ(seen.next_cursor, 3U);
  // The rest belongs to others, but only as far as it was read.
  EXPECT_EQ(log.read("a", 0, 1).next_cursor, 1U);
}

TEST(KvEventLogTest, SaysWhatItHasForgotten) {
  KvEventLog log{2};
  for (unsigned i = 1; i <= 4; ++i) log.add_stored("m", hash_of(i), nullptr, {});
  EXPECT_EQ(log.size(), 2U);
  const auto lost = log.read("m", 1, 10);
  EXPECT_TRUE(lost.is_lost);
  EXPECT_EQ(sequences(lost), (Sequences{3, 4}));
  EXPECT_FALSE(log.read("m", 2, 10).is_lost);
  // A cursor of another incarnation.
  const auto ahead = log.read("m", 9, 10);
  EXPECT_TRUE(ahead.is_lost);
  EXPECT_EQ(ahead.next_cursor, 4U);
  EXPECT_EQ(ahead.events.size(), 0U);
}

TEST(KvEventLogTest, AnEmptyLogHasLostNothing) {
  KvEventLog log{2};
  EXPECT_FALSE(log.read("m", 0, 1).is_lost);
  EXPECT_TRUE(log.read("m", 1, 1).is_lost);
}

TEST(KvEventLogTest, OneRemovalTellsOfManyChunksUntilItWasRead) {
  KvEventLog log{8};
  log.add_removed("m", hash_of(1));
  log.add_removed("m", hash_of(2));
  ASSERT_EQ(log.last(), 1U);
  EXPECT_EQ(log.read("m", 0, 10).events[0].hashes.size(), 2U);
  log.add_removed("m", hash_of(3));
  EXPECT_EQ(log.last(), 2U);
  log.add_removed("n", hash_of(4));
  log.add_removed("m", hash_of(5));
  EXPECT_EQ(log.last(), 4U);
}

TEST(KvEventLogTest, AReadingIsBoundedInBytes) {
  KvEventLog log{8};
  const std::vector<std::uint32_t> many(KvEventLog::kReadingBytesMax / 8);
  for (unsigned i = 1; i <= 4; ++i) log.add_stored("m", hash_of(i), nullptr, many);
  const auto first = log.read("m", 0, 10);
  EXPECT_EQ(sequences(first), Sequences{1});
  EXPECT_EQ(first.next_cursor, 1U);
  EXPECT_EQ(sequences(log.read("m", 1, 10)), Sequences{2});
}

TEST(KvEventLogTest, TheLogIsBoundedInBytes) {
  KvEventLog log{1000};
  const std::vector<std::uint32_t> many(KvEventLog::kBytesMax / 16);
  for (unsigned i = 1; i <= 6; ++i) log.add_stored("m", hash_of(i), nullptr, many);
  EXPECT_EQ(log.size(), 3U);
  EXPECT_TRUE(log.read("m", 0, 10).is_lost);
}

TEST(KvEventLogTest, ARemovalIsBounded) {
  KvEventLog log{8};
  for (unsigned i = 0; i < KvEventLog::kHashesMax + 1; ++i) log.add_removed("m", hash_of(i));
  EXPECT_EQ(log.last(), 2U);
  EXPECT_EQ(log.read("m", 1, 10).events[0].hashes.size(), 1U);
}

}  // namespace
}  // namespace larder::server
