#include "larder/wire/hash_memo.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

constexpr std::uint32_t kChunkTokens = 4;

Bytes encoded(std::string_view text) {
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

ChunkHash hash_named(std::uint8_t number) {
  ChunkHash hash{};
  hash[0] = std::byte{number};
  return hash;
}

HashMemo::Options options(std::size_t bytes_max = 100'000) {
  return {.bytes_max = bytes_max, .chunk_tokens = kChunkTokens, .seed = 3};
}

TEST(HashMemoTest, FindsAChunkByItsBytesBelowTheOneBefore) {
  HashMemo memo{options()};
  const auto root = memo.root(TokenForm::kIds);
  EXPECT_FALSE(memo.find(root, encoded("abcde")));
  const auto first = memo.remember(root, encoded("abcde"), hash_named(1));
  const auto second = memo.remember(first, encoded("fghi"), hash_named(2));
  memo.check_invariants();

  const auto found = memo.find(root, encoded("abcdefghi and what follows"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->hash, hash_named(1));
  EXPECT_EQ(found->bytes, 5U);
  const auto next = memo.find(found->position, encoded("fghi"));
  ASSERT_TRUE(next);
  EXPECT_EQ(next->hash, hash_named(2));

  EXPECT_FALSE(memo.find(root, encoded("fghi")));     // Not below the root.
  EXPECT_FALSE(memo.find(root, encoded("abcdX")));    // One byte differs.
  EXPECT_FALSE(memo.find(root, encoded("abcd")));     // One byte is missing.
  EXPECT_FALSE(memo.find(root, encoded("abc")));      // No chunk can be that short.
  EXPECT_FALSE(memo.find(second, encoded("abcde")));  // Nothing follows.
  EXPECT_FALSE(memo.find(HashMemo::Position{}, encoded("abcde")));
  EXPECT_FALSE(memo.find(memo.root(TokenForm::kBytes), encoded("abcde")));  // The other form.
}

TEST(HashMemoTest, RemembersAChunkOnce) {
  HashMemo memo{options()};
  const auto root = memo.root(TokenForm::kIds);
  const auto once = memo.remember(root, encoded("abcd"), hash_named(1));
  const auto again = memo.remember(root, encoded("abcd"), hash_named(1));
  EXPECT_EQ(memo.statistics().chunks, 1U);
  memo.remember(once, encoded("efgh"), hash_named(2));
  EXPECT_TRUE(memo.find(again, encoded("efgh")));
}

TEST(HashMemoTest, FindsEachOfManyThatBeginAlike) {
  HashMemo memo{options()};
  const auto root = memo.root(TokenForm::kIds);
  // The first bytes, which the index looks at, are the same in all.
  for (std::uint8_t i = 0; i < 20; ++i) {
    memo.remember(root, encoded(std::string("same") + static_cast<char>('a' + i)), hash_named(i));
  }
  for (std::uint8_t i = 0; i < 20; ++i) {
    const auto found = memo.find(root, encoded(std::string("same") + static_cast<char>('a' + i)));
    ASSERT_TRUE(found) << i;
    EXPECT_EQ(found->hash, hash_named(i));
  }
}

TEST(HashMemoTest, EvictsTheLeastRecentlyUsedLeafAndNeverAnInnerChunk) {
  HashMemo small{options(4000)};
  const auto root = small.root(TokenForm::kIds);
  const auto prefix = small.remember(root, encoded("head"), hash_named(0));
  small.remember(prefix, encoded("old."), hash_named(1));
  const auto used = small.remember(prefix, encoded("used"), hash_named(2));
  for (std::uint8_t i = 3; small.statistics().evicted_total == 0; ++i) {
    ASSERT_LT(i, 100);
    small.touch(used);
    small.remember(root, encoded("new" + std::string(1, static_cast<char>(i))), hash_named(i));
    small.check_invariants();
  }
  EXPECT_FALSE(small.find(prefix, encoded("old.")));
  EXPECT_TRUE(small.find(prefix, encoded("used")));
  EXPECT_TRUE(small.find(root, encoded("head")));
  EXPECT_LE(small.statistics().bytes, 4000U);
}

TEST(HashMemoTest, KeepsAPrefixThatLostItsLastChildByItsOwnUse) {
  HashMemo memo{options(4000)};
  const auto root = memo.root(TokenForm::kIds);
  const auto prefix = memo.remember(root, encoded("head"), hash_named(0));
  memo.remember(prefix, encoded("tail"), hash_named(1));
  const auto other = memo.remember(root, encoded("else"), hash_named(2));
  memo.touch(prefix);  // Ends here; the tail is now the oldest, the other chunk the next.
  std::uint8_t i = 3;
  const auto until_evicted = [&](std::uint64_t count) {
    while (memo.statistics().evicted_total < count) {
      ASSERT_LT(i, 200);
      memo.remember(root, encoded("new" + std::string(1, static_cast<char>(i))), hash_named(i));
      ++i;
    }
  };
  until_evicted(1);
  EXPECT_FALSE(memo.find(prefix, encoded("tail")));
  until_evicted(2);
  EXPECT_FALSE(memo.find(root, encoded("else")));
  EXPECT_TRUE(memo.find(root, encoded("head")));
  static_cast<void>(other);
}

TEST(HashMemoTest, ForgetsAPositionWhoseChunkIsGone) {
  HashMemo memo{options(3000)};
  const auto root = memo.root(TokenForm::kIds);
  const auto gone = memo.remember(root, encoded("gone"), hash_named(1));
  std::uint8_t i = 2;
  while (memo.find(root, encoded("gone"))) {
    ASSERT_LT(i, 200);
    memo.remember(root, encoded("new" + std::string(1, static_cast<char>(i))), hash_named(i));
    ++i;
  }
  EXPECT_FALSE(memo.find(gone, encoded("efgh")));
  const auto chunks = memo.statistics().chunks;
  memo.remember(gone, encoded("efgh"), hash_named(2));
  memo.touch(gone);
  EXPECT_EQ(memo.statistics().chunks, chunks);
  memo.check_invariants();
}

TEST(HashMemoTest, RefusesWhatHasNoRoom) {
  HashMemo off{options(0)};
  const auto root = off.root(TokenForm::kIds);
  const auto position = off.remember(root, encoded("abcd"), hash_named(1));
  off.remember(position, encoded("efgh"), hash_named(1));
  EXPECT_EQ(off.statistics().chunks, 0U);
  EXPECT_EQ(off.statistics().refused_total, 1U);

  // A chain longer than the memo does not evict its own beginning.
  HashMemo small{options(3000)};
  auto end = small.root(TokenForm::kIds);
  for (int i = 0; i < 100; ++i) end = small.remember(end, encoded("next"), hash_named(1));
  small.check_invariants();
  EXPECT_GT(small.statistics().chunks, 3U);
  EXPECT_EQ(small.statistics().evicted_total, 0U);
  EXPECT_TRUE(small.find(small.root(TokenForm::kIds), encoded("next")));
}

/// Against a map of whole prefixes. Everything that the memo finds was remembered; everything that
/// it has room for is found.
TEST(HashMemoTest, AgreesWithAMapOverRandomHistories) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random{seed};
    const bool is_small = random.one_in(2);
    HashMemo memo{options(is_small ? 2000 + random.below(20'000) : 10'000'000)};
    std::map<std::string, std::uint8_t> model;
    for (int i = 0; i < 2000; ++i) {
      const auto form = random.one_in(4) ? TokenForm::kBytes : TokenForm::kIds;
      auto position = memo.root(form);
      std::string prefix = form == TokenForm::kBytes ? "B" : "I";
      const std::uint64_t depth = random.below(8);
      for (std::uint64_t k = 0; k < depth; ++k) {
        // Few different chunks, of different lengths, none the beginning of another.
        const std::uint64_t which = random.below(5);
        const std::string chunk = std::string(3 + which, 'x') + static_cast<char>('0' + which);
        const auto step = memo.find(position, encoded(chunk + "rest"));
        prefix += chunk;
        const auto known = model.find(prefix);
        if (step) {
          ASSERT_NE(known, model.end()) << prefix;
          ASSERT_EQ(step->hash, hash_named(known->second));
          ASSERT_EQ(step->bytes, chunk.size());
          position = step->position;
          continue;
        }
        ASSERT_TRUE(is_small || known == model.end()) << prefix;
        const auto name = static_cast<std::uint8_t>(random.next());
        model[prefix] = name;
        position = memo.remember(position, encoded(chunk), hash_named(name));
      }
      memo.touch(position);
      if (i % 50 == 0) memo.check_invariants();
    }
    memo.check_invariants();
    if (!is_small) {
      EXPECT_EQ(memo.statistics().chunks, model.size());
    }
  }
}

}  // namespace
}  // namespace larder::wire
