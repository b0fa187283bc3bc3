// Clear, delete and prefetch, as the loop carries them out (S28, E36).

#include <gtest/gtest.h>

#include "larder/server/object_key.h"
#include "larder/server/server_test_support.h"
#include "larder/wire/chunk_hash.h"

namespace larder::server {
namespace {

using Kind = AdminError::Kind;
using wire::Operation;

class CacheRequestsTest : public ServiceFixture, public PageReader {
 protected:
  CacheRequestsTest() { pages = this; }

  void ask(const cache::PageWanted& question, const ObjectFilter& filter) override {
    questions.emplace_back(question, filter);
  }
  using ServiceFixture::ask;

  /// Everything that the tier has and the filter takes.
  void answer_pages() {
    for (const auto& [question, filter] : std::exchange(questions, {})) {
      std::vector<std::string> keys;
      for (const auto& [key, bytes] : scripted[question.tier]->sizes) {
        const auto read = parse_object_name(key);
        if (read && filter.takes(*read)) keys.push_back(key);
      }
      service().on_page(question, {.keys = keys, .next = {}, .is_last = true, .error = {}});
    }
    turn();
  }
  void begin_command(AdminCommand command) {
    answer.reset();
    service().on_admin(std::move(command), [this](AdminAnswer given) {
      ASSERT_FALSE(answer);  // Once.
      answer = std::move(given);
    });
  }
  /// Sent and answered within a turn.
  AdminAnswer carry_out(AdminCommand command) {
    begin_command(std::move(command));
    turn();
    if (answer) return *answer;
    ADD_FAILURE() << "no answer";
    return AdminError{};
  }
  static std::vector<cache::ChunkHash> chunks_of(std::uint32_t prompt, std::uint32_t chunks) {
    wire::ChunkHasher hasher{kChunk};
    wire::ChunkHash before = wire::no_chunk_hash();
    std::vector<cache::ChunkHash> made;
    const auto tokens = tokens_of(prompt, chunks * kChunk);
    for (std::uint32_t chunk = 0; chunk < chunks; ++chunk) {
      std::vector<std::byte> packed;
      for (std::uint32_t i = 0; i < kChunk; ++i) {
        for (int shift = 24; shift >= 0; shift -= 8) {
          packed.push_back(static_cast<std::byte>(tokens[chunk * kChunk + i] >> shift));
        }
      }
      before = hasher.hash(before, packed);
      made.emplace_back().bytes = before;
    }
    return made;
  }
  static ObjectKey object(const cache::ChunkHash& chunk, const std::string& salt = "") {
    return {hex_text(chunk.bytes), "golden/model-1", 0x01000100, 0, salt};
  }
  static SpaceName space(std::string salt = "") { return {"golden/model-1", 1, std::move(salt)}; }
  std::size_t keys_in_tier() const { return scripted[0]->sizes.size(); }

  std::vector<std::pair<cache::PageWanted, ObjectFilter>> questions;
  std::optional<AdminAnswer> answer;
};

// ---- Clear.

TEST_F(CacheRequestsTest, AClearOfAllTiersLeavesNothing) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 64));
  turn();
  ASSERT_EQ(keys_in_tier(), 4U);
  scripted[0]->sizes["a stranger"] = 1;

  begin_command(ClearCommand{.has_all_tiers = true});
  turn();
  EXPECT_FALSE(answer);
  EXPECT_EQ(status().engine.columns, 0U);
  answer_pages();
  ASSERT_TRUE(answer && *answer);
  EXPECT_EQ((*answer)->deleted, 8U);  // In L1 and in L2.
  EXPECT_EQ(keys_in_tier(), 1U);
  EXPECT_EQ(lookup(key("s", 1, 0, 64)), 0U);
}

TEST_F(CacheRequestsTest, AClearOfOneSaltLeavesTheOthers) {
  add_tier();
  register_worker();
  for (const char* salt : {"", "a", "b"}) {
    wire::KeySample sample = key("r", 1, 0, 32);
    sample.salt = salt;
    store(sample);
  }
  turn();
  ASSERT_EQ(keys_in_tier(), 6U);
  begin_command(ClearCommand{.has_all_tiers = true, .space = space("a")});
  answer_pages();
  ASSERT_TRUE(answer && *answer);
  EXPECT_EQ(keys_in_tier(), 4U);
  EXPECT_EQ(status().engine.columns, 4U);
  EXPECT_EQ(carry_out(ClearCommand{.space = space("b")})->deleted, 2U);
  EXPECT_EQ(status().engine.columns, 2U);
  const auto unknown = carry_out(ClearCommand{.space = SpaceName{"other", 1}});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, Kind::kNotFound);
}

TEST_F(CacheRequestsTest, ATierThatCannotBeReadIsAFailure) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 32));
  turn();
  begin_command(ClearCommand{.has_all_tiers = true});
  for (const auto& [question, filter] : std::exchange(questions, {})) {
    service().on_page(question, {.keys = {},
                                 .next = {},
                                 .is_last = true,
                                 .error = Error{ErrorCode::kUnavailable, "disk", "gone"}});
  }
  turn();
  ASSERT_TRUE(answer && !*answer);
  EXPECT_EQ(answer->error().kind, Kind::kFailed);
  EXPECT_NE(answer->error().text.find("not all"), std::string::npos) << answer->error().text;
}

TEST_F(CacheRequestsTest, ClearsOfAllTiersAreBounded) {
  add_tier();
  register_worker();
  for (int i = 0; i < 4; ++i) service().on_admin(ClearCommand{.has_all_tiers = true}, [](auto) {});
  const auto refused = carry_out(ClearCommand{.has_all_tiers = true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Kind::kBusy);
  answer_pages();
  begin_command(ClearCommand{.has_all_tiers = true});
  answer_pages();
  EXPECT_TRUE(answer && *answer);
}

// ---- Delete.

TEST_F(CacheRequestsTest, ADeleteIsOfTheTiersThatItNames) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 64));
  turn();
  const auto chunks = chunks_of(1, 4);
  const auto in_l2 = carry_out(DeleteCommand{.keys = {object(chunks[3])}, .tiers = 1});
  ASSERT_TRUE(in_l2);
  EXPECT_EQ(in_l2->deleted, 1U);
  EXPECT_EQ(keys_in_tier(), 3U);
  EXPECT_EQ(status().engine.columns, 4U);

  const auto in_l1 = carry_out(DeleteCommand{.keys = {object(chunks[3])}, .is_in_l1 = true});
  ASSERT_TRUE(in_l1);
  EXPECT_EQ(in_l1->deleted, 1U);
  EXPECT_EQ(lookup(key("s", 1, 0, 64)), 3U);  // Locked from here on.

  const auto locked = carry_out(
      DeleteCommand{.keys = {object(chunks[0]), object(chunks[3])}, .is_in_l1 = true, .tiers = 1});
  ASSERT_TRUE(locked);
  EXPECT_EQ(locked->deleted, 2U);  // In L2, as LMCache counts.
  EXPECT_EQ(locked->skipped, 1U);
  const auto forced =
      carry_out(DeleteCommand{.keys = {object(chunks[0])}, .is_in_l1 = true, .force = true});
  EXPECT_EQ(forced->deleted, 1U);
  EXPECT_EQ(forced->skipped, 0U);
  ask(Operation::kEndSession, {text("s")});
  EXPECT_EQ(lookup(key("t", 1, 0, 64)), 0U);
}

TEST_F(CacheRequestsTest, ADeleteKnowsObjectsOfNoWorker) {
  add_tier();
  ObjectKey stored = object(chunks_of(1, 1)[0], "salt");
  scripted[0]->sizes[stored.name()] = 1;
  const ObjectKey odd{"abcd", "m", 7, 0, ""};
  scripted[0]->sizes[odd.name()] = 1;
  const auto result = carry_out(DeleteCommand{.keys = {stored, odd}, .is_in_l1 = true, .tiers = 1});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->deleted, 2U);
  EXPECT_EQ(keys_in_tier(), 0U);
  EXPECT_EQ(carry_out(DeleteCommand{.tiers = 1})->deleted, 0U);
}

TEST_F(CacheRequestsTest, ADeleteThatATierRefusesSaysSo) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 16));
  turn();
  scripted[0]->holds = true;
  begin_command(DeleteCommand{.keys = {object(chunks_of(1, 1)[0])}, .tiers = 1});
  pass(30 * kSecond);
  ASSERT_TRUE(answer && *answer);
  EXPECT_EQ((*answer)->deleted, 0U);
  EXPECT_NE((*answer)->trouble, "");
}

TEST_F(CacheRequestsTest, AReadThatRunsOutlivesADelete) {
  register_worker();
  store(key("r", 1, 0, 16));
  const Reply slots = prepare_retrieve(key("r", 1, 0, 16));
  const auto gone = carry_out(
      DeleteCommand{.keys = {object(chunks_of(1, 1)[0])}, .is_in_l1 = true, .force = true});
  EXPECT_EQ(gone->deleted, 1U);
  EXPECT_NE(status().engine.orphan_bytes, 0U);  // E2.
  store(key("q", 2, 0, 16));                    // Elsewhere.
  EXPECT_EQ(commit_retrieve(key("r", 1, 0, 16)).hex(), kTrue);
  EXPECT_EQ(status().engine.orphan_bytes, 0U);
  EXPECT_TRUE(slots.payload);
}

// ---- Prefetches.

TEST_F(CacheRequestsTest, APrefetchLoadsWithoutLocksAndTellsOnce) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 64));
  turn();
  ASSERT_TRUE(carry_out(ClearCommand{}));
  ASSERT_EQ(status().engine.columns, 0U);

  const PrefetchCommand command{
      .space = space(), .chunk_tokens = kChunk, .chunks = chunks_of(1, 5)};
  const auto begun = carry_out(command);
  ASSERT_TRUE(begun);
  EXPECT_EQ(begun->prefetch.size(), 32U);
  const auto through = carry_out(PrefetchQuery{begun->prefetch});
  ASSERT_TRUE(through);
  EXPECT_EQ(through->found, 4U);
  EXPECT_EQ(through->asked, 5U);
  EXPECT_EQ(status().engine.sessions, 0U);
  EXPECT_EQ(status().engine.locked_bytes, 0U);
  EXPECT_EQ(status().engine.columns, 4U);
  const auto again = carry_out(PrefetchQuery{begun->prefetch});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, Kind::kNotFound);
}

TEST_F(CacheRequestsTest, APrefetchIsPendingUntilItsLoadsHaveEnded) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 32));
  turn();
  ASSERT_TRUE(carry_out(ClearCommand{}));
  scripted[0]->holds = true;
  const auto begun = carry_out(
      PrefetchCommand{.space = space(), .chunk_tokens = kChunk, .chunks = chunks_of(1, 2)});
  EXPECT_FALSE(carry_out(PrefetchQuery{begun->prefetch})->found);
  scripted[0]->holds = false;
  scripted[0]->finish_all();
  turn();
  EXPECT_EQ(carry_out(PrefetchQuery{begun->prefetch})->found, 2U);
}

TEST_F(CacheRequestsTest, APrefetchThatCannotBeMadeSaysWhy) {
  const auto unknown =
      carry_out(PrefetchCommand{.space = space(), .chunk_tokens = kChunk, .chunks = {}});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, Kind::kBusy);
  EXPECT_NE(unknown.error().text.find("no layout registered for model_name='golden/model-1'"),
            std::string::npos);
  register_worker();
  const auto other =
      carry_out(PrefetchCommand{.space = space(), .chunk_tokens = 7, .chunks = chunks_of(1, 1)});
  ASSERT_FALSE(other);
  const auto nothing =
      carry_out(PrefetchCommand{.space = space(), .chunk_tokens = kChunk, .chunks = {}});
  EXPECT_TRUE(nothing);
}

TEST_F(CacheRequestsTest, PrefetchesThatNobodyAsksAboutAreForgotten) {
  add_tier();
  register_worker();
  const auto begin = [&] {
    return carry_out(
        PrefetchCommand{.space = space(), .chunk_tokens = kChunk, .chunks = chunks_of(1, 1)});
  };
  const auto first = begin();
  for (int i = 1; i < 1024; ++i) ASSERT_TRUE(begin());
  // The oldest that has ended makes room.
  const auto last = begin();
  ASSERT_TRUE(last);
  EXPECT_FALSE(carry_out(PrefetchQuery{first->prefetch}));
  now_ns += 601 * kSecond;
  turn();
  EXPECT_FALSE(carry_out(PrefetchQuery{last->prefetch}));
}

TEST_F(CacheRequestsTest, PrefetchesThatRunAreBoundedAndEmptyOnesTakeNoPlace) {
  add_tier();
  register_worker();
  store(key("r", 1, 0, 16));
  turn();
  ASSERT_TRUE(carry_out(ClearCommand{}));
  scripted[0]->holds = true;
  const auto begin = [&](std::uint32_t chunks) {
    return carry_out(
        PrefetchCommand{.space = space(), .chunk_tokens = kChunk, .chunks = chunks_of(1, chunks)});
  };
  for (int i = 0; i < 1024; ++i) {
    ASSERT_TRUE(begin(0));
    ASSERT_TRUE(begin(1));
  }
  const auto one_more = begin(1);
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().kind, Kind::kBusy);
  EXPECT_TRUE(begin(0));
  scripted[0]->holds = false;
  scripted[0]->finish_all();
  turn();
}

}  // namespace
}  // namespace larder::server
