#include <gtest/gtest.h>

#include "larder/server/connections.h"
#include "larder/server/server_test_support.h"

namespace larder::server {
namespace {

using wire::Operation;

/// Requests that need a key: lookups, locks, stores and retrieves.
using KeyRequestsTest = ServiceFixture;

// ---- Stores.

TEST_F(KeyRequestsTest, AStoreIsThereWhenItIsAcknowledged) {
  register_worker();
  EXPECT_EQ(lookup(key("a", 1, 0, 40)), 0U);
  prepare_store(key("a", 1, 0, 32));
  EXPECT_EQ(lookup(key("b", 1, 0, 40)), 0U);
  EXPECT_EQ(commit_store(key("a", 1, 0, 32)).hex(), kTrue);
  EXPECT_EQ(lookup(key("c", 1, 0, 40)), 2U);
}

TEST_F(KeyRequestsTest, SlotsAreThoseOfLmcache) {
  register_worker();
  // Of capture 02, record 20.
  EXPECT_EQ(
      prepare_store(key("a", 1, 0, 32)).hex(),
      "81a7636f6e7465787482a5736c6f74739284a66f666673657400a66c656e677468cd0400a57368617065940202"
      "1008a56474797065a7666c6f6174313684a66f6666736574cd1000a66c656e677468cd0400a573686170659402"
      "021008a56474797065a7666c6f61743136ad6368756e6b5f696e6469636573920001");
}

TEST_F(KeyRequestsTest, OnlyWhatIsMissingGetsSlotsCountedFromTheStart) {
  register_worker();
  store(key("a", 1, 0, 48));
  const std::string reply = prepare_store(key("b", 1, 32, 64)).hex();
  EXPECT_TRUE(reply.ends_with("ad6368756e6b5f696e64696365739101")) << reply;
  EXPECT_EQ(commit_store(key("b", 1, 32, 64)).hex(), kTrue);
  EXPECT_EQ(prepare_store(key("c", 1, 0, 64)).hex(), kNoSlots);
}

TEST_F(KeyRequestsTest, ACommitWithoutAnOpenStoreIsFalse) {
  register_worker();
  EXPECT_EQ(commit_store(key("a", 1, 0, 32)).hex(), kFalse);
  store(key("a", 1, 0, 32));
  EXPECT_EQ(commit_store(key("a", 1, 0, 32)).hex(), kFalse);
}

TEST_F(KeyRequestsTest, AStoreIsFoundByItsTokensNotByItsRequest) {
  register_worker();
  prepare_store(key("a", 1, 0, 32));
  EXPECT_EQ(commit_store(key("other", 1, 0, 32)).hex(), kTrue);
}

TEST_F(KeyRequestsTest, OfTwoWorkersOneStoresAChunk) {
  register_worker({.instance = 7});
  register_worker({.instance = 8}, 3);
  prepare_store(key("a", 1, 0, 32), 7, 2);
  EXPECT_EQ(prepare_store(key("b", 1, 0, 32), 8, 3).hex(), kNoSlots);
  EXPECT_EQ(commit_store(key("b", 1, 0, 32), 8, 3).hex(), kFalse);
  EXPECT_EQ(commit_store(key("a", 1, 0, 32), 7, 2).hex(), kTrue);
}

TEST_F(KeyRequestsTest, InlineDataIsRefusedAndPublishesNothing) {
  register_worker();
  prepare_store(key("a", 1, 0, 32));
  EXPECT_EQ(expected_bytes[2], 2U * 1024 * 9 / 8);  // S13: the size that the worker may send now.
  EXPECT_EQ(commit_store(key("a", 1, 0, 32), 7, 2, "\x80\x04\x95 a pickle").hex(), kFalse);
  EXPECT_EQ(lookup(key("b", 1, 0, 32)), 0U);
  store(key("a", 1, 0, 32));  // The range is free again.
}

TEST_F(KeyRequestsTest, AnOpenStoreOfAWorkerThatGoesIsNeverPublished) {
  register_worker();
  prepare_store(key("a", 1, 0, 32));
  ask(Operation::kUnregisterEngineDriven, {number(7)}, 2);
  register_worker();
  EXPECT_EQ(lookup(key("b", 1, 0, 32)), 0U);
  EXPECT_EQ(commit_store(key("a", 1, 0, 32)).hex(), kFalse);
}

TEST_F(KeyRequestsTest, WhereRoomIsShortTheHeadIsStored) {
  capacity_bytes = 8 * 4096;  // F17: nine chunks, eight slots.
  options.engine.lock_share = 1;
  register_worker();
  prepare_store(key("a", 1, 0, 9 * kChunk));
  EXPECT_EQ(commit_store(key("a", 1, 0, 9 * kChunk)).hex(), kTrue);
  EXPECT_EQ(lookup(key("b", 1, 0, 9 * kChunk)), 8U);
}

TEST_F(KeyRequestsTest, ATransferIsOfTheModelOfItsWorker) {
  register_worker();
  register_worker({.instance = 8, .model = "other"}, 3);
  wire::KeySample sample = key("a", 1, 0, 32);
  sample.model = "other";
  EXPECT_EQ(prepare_store(sample, 7, 2).hex(), kNoContext);
  EXPECT_NE(prepare_store(sample, 8, 3).hex(), kNoContext);
}

TEST_F(KeyRequestsTest, WhatDoesNotLieOnChunksIsRefused) {
  register_worker();
  EXPECT_EQ(prepare_store(key("a", 1, 0, 30)).hex(), kNoContext);
  EXPECT_EQ(prepare_store(key("a", 1, 8, 32)).hex(), kNoContext);
  wire::KeySample beyond = key("a", 1, 0, 32);
  beyond.end = 64;
  EXPECT_EQ(prepare_store(beyond).hex(), kNoContext);
  EXPECT_EQ(prepare_store(key("a", 1, 0, 32, -1)).hex(), kNoContext);
}

TEST_F(KeyRequestsTest, AnEmptyRangeHasNothingToStoreOrRetrieve) {
  register_worker();
  const wire::KeySample empty = key("a", 1, 32, 32);
  EXPECT_EQ(prepare_store(empty).hex(), kNoSlots);
  EXPECT_EQ(commit_store(empty).hex(), kFalse);
  EXPECT_TRUE(prepare_retrieve(empty).hex().starts_with("83a773756363657373c2"));
  EXPECT_EQ(commit_retrieve(empty).hex(), kTrue);
}

TEST_F(KeyRequestsTest, ATransferThatWaitedTooLongIsRefused) {
  options.transfer_start_ns = 0;
  register_worker();
  replies.clear();
  send(Operation::kLookup, {make_key(key("long", 5, 0, 200'000, -1)), number(1)}, 2);
  send(Operation::kPrepareStore, {make_key(key("a", 1, 0, 32)), number(7)}, 2);
  turn();
  ASSERT_EQ(replies.size(), 2U);
  EXPECT_EQ(replies[1].hex(), kNoContext);
  EXPECT_EQ(status().totals.transfers_stale, 1U);
}

// ---- Retrieves.

TEST_F(KeyRequestsTest, ARetrieveGetsTheSlotsThatWereStored) {
  register_worker();
  store(key("a", 1, 0, 32));
  EXPECT_EQ(lookup(key("b", 1, 0, 32)), 2U);
  const std::string reply = prepare_retrieve(key("b", 1, 0, 32)).hex();
  // Of capture 02, record 33.
  EXPECT_EQ(
      reply,
      "83a773756363657373c3a464617461c400a7636f6e7465787481a5736c6f74739284a66f666673657400a66c65"
      "6e677468cd0400a573686170659402021008a56474797065a7666c6f6174313684a66f6666736574cd1000a66c"
      "656e677468cd0400a573686170659402021008a56474797065a7666c6f61743136");
  EXPECT_EQ(prepare_retrieve(key("b", 1, 0, 32)).hex(), reply);
  EXPECT_EQ(status().engine.reads_open, 1U);
  EXPECT_EQ(commit_retrieve(key("b", 1, 0, 32)).hex(), kTrue);
  EXPECT_EQ(commit_retrieve(key("b", 1, 0, 32)).hex(), kTrue);
  EXPECT_EQ(status().engine.reads_open, 0U);
}

TEST_F(KeyRequestsTest, ARetrieveWithoutALookupSucceedsWhileEverythingIsThere) {
  register_worker();
  store(key("a", 1, 0, 32));
  EXPECT_TRUE(prepare_retrieve(key("b", 1, 0, 32)).hex().starts_with("83a773756363657373c3"));
  EXPECT_TRUE(prepare_retrieve(key("b", 1, 0, 48)).hex().starts_with("83a773756363657373c2"));
}

TEST_F(KeyRequestsTest, ARetrieveThatWaitedLongerThanItsLockStillSucceeds) {  // F9
  options.engine.read_ttl_ns = 300 * kSecond;
  options.worker_reap_ns = 0;
  register_worker();
  store(key("a", 1, 0, 32));
  EXPECT_EQ(lookup(key("b", 1, 0, 32)), 2U);
  pass(400 * kSecond);
  EXPECT_EQ(status().engine.locked_bytes, 0U);
  EXPECT_TRUE(prepare_retrieve(key("b", 1, 0, 32)).hex().starts_with("83a773756363657373c3"));
}

TEST_F(KeyRequestsTest, TenTimesL1InMixedSizesAllGetSlots) {  // F10
  register_worker({.instance = 7}, 2);
  // Fifty layers: 25 KiB a chunk, seven grains instead of one.
  register_worker({.instance = 8, .model = "large", .num_layers = 50}, 3);
  for (std::uint32_t i = 0; i < 160; ++i) {
    const bool is_large = i % 2 == 1;
    wire::KeySample sample = key("r", 10 + i, 0, 16);
    if (is_large) sample.model = "large";
    const std::uint64_t instance = is_large ? 8 : 7;
    EXPECT_NE(prepare_store(sample, instance, instance - 5).hex(), kNoSlots) << i;
    EXPECT_EQ(commit_store(sample, instance, instance - 5).hex(), kTrue) << i;
  }
  const cache::EngineStats stats = status().engine;
  EXPECT_EQ(stats.totals.cells_stored, 160U);
  EXPECT_GE(static_cast<double>(stats.resident_bytes),
            0.95 * static_cast<double>(stats.capacity_bytes) - 7 * 4096);
}

TEST_F(KeyRequestsTest, AWorkersReadsEndWithItsRegistration) {
  options.engine.write_ttl_ns = 20 * kSecond;
  register_worker();
  store(key("a", 1, 0, 32));
  prepare_retrieve(key("b", 1, 0, 32));
  EXPECT_EQ(status().engine.reads_open, 1U);
  register_worker();  // As after an outage; the worker may still be copying.
  pass(11 * kSecond);
  EXPECT_EQ(status().engine.reads_open, 1U);
  pass(10 * kSecond);
  EXPECT_EQ(status().engine.reads_open, 0U);
}

TEST_F(KeyRequestsTest, APrefixCountsWhenEveryRankHasIt) {
  register_worker({.instance = 7, .world_size = 2}, 2);
  register_worker({.instance = 8, .world_size = 2}, 3);
  wire::KeySample sample = key("a", 1, 0, 32, 0);
  sample.world_size = 2;
  prepare_store(sample, 7, 2);
  commit_store(sample, 7, 2);
  wire::KeySample asked = key("b", 1, 0, 32);
  asked.world_size = 2;
  EXPECT_EQ(lookup(asked), 0U);
  sample.worker = 1;
  prepare_store(sample, 8, 3);
  commit_store(sample, 8, 3);
  asked.request_id = "c";
  EXPECT_EQ(lookup(asked), 2U);
}

// ---- Lookups.

TEST_F(KeyRequestsTest, ALookupIsFlooredAndClamped) {
  register_worker();
  store(key("a", 1, 0, 32));
  wire::KeySample sample = key("b", 1, 0, 40);
  for (const auto& [end, hit] : {std::pair{30, 1}, {1000, 2}, {16, 1}, {32, 2}, {40, 2}, {0, 0}}) {
    sample.request_id = std::to_string(end);
    sample.end = static_cast<std::uint64_t>(end);
    EXPECT_EQ(lookup(sample), static_cast<std::uint64_t>(hit)) << end;
  }
}

TEST_F(KeyRequestsTest, ALookupBeginsBehindWhatTheEngineHas) {  // Capture 62 of 0.5.7.
  register_worker();
  store(key("0", 1, 0, 48));
  EXPECT_EQ(lookup(key("a", 1, 16, 64)), 3U);
  EXPECT_EQ(status().engine.locked_bytes, 2 * 4096U);
  ask(Operation::kFreeLookupLocks, {make_key(key("a", 1, 0, 20, -1)), number(1)});
  EXPECT_EQ(status().engine.locked_bytes, 2 * 4096U);
  prepare_retrieve(key("a", 1, 16, 48));
  commit_retrieve(key("a", 1, 16, 48));
  EXPECT_EQ(status().engine.locked_bytes, 0U);
  EXPECT_EQ(lookup(key("b", 1, 64, 64)), 4U);
  EXPECT_EQ(lookup(key("c", 1, 48, 64)), 3U);
  EXPECT_EQ(lookup(key("f", 1, 20, 64)), 3U);
  EXPECT_EQ(status().engine.locked_bytes, 2 * 4096U);
}

TEST_F(KeyRequestsTest, ALaterLookupOfTheRequestEndsTheFirst) {
  register_worker();
  store(key("0", 1, 0, 48));
  EXPECT_EQ(lookup(key("d", 1, 32, 64)), 3U);
  EXPECT_EQ(lookup(key("d", 1, 0, 64)), 3U);
  // The blocks that 0.5.7's scheduler frees of the first must not be freed of the second.
  const wire::Bytes ranges = wire::from_hex("91922030");
  ask(Operation::kFreeLookupLocks, {make_key(key("d", 1, 0, 0, -1)), number(1), ranges});
  EXPECT_EQ(status().engine.locked_bytes, 3 * 4096U);
}

TEST_F(KeyRequestsTest, SaltsDoNotShare) {
  register_worker();
  wire::KeySample sample = key("a", 1, 0, 32);
  sample.salt = "tenant-a";
  store(sample);
  sample.request_id = "b";
  EXPECT_EQ(lookup(sample), 2U);
  EXPECT_EQ(lookup(key("c", 1, 0, 32)), 0U);
}

TEST_F(KeyRequestsTest, AModelThatNobodyHasRegisteredIsAMiss) {
  EXPECT_EQ(lookup(key("a", 1, 0, 32)), 0U);
  register_worker();
  store(key("a", 1, 0, 32));
  ask(Operation::kUnregisterEngineDriven, {number(7)}, 2);
  EXPECT_EQ(lookup(key("b", 1, 0, 32)), 0U);
  register_worker();
  EXPECT_EQ(lookup(key("c", 1, 0, 32)), 2U);
}

TEST_F(KeyRequestsTest, AResultIsGivenOnce) {
  register_worker();
  store(key("a", 1, 0, 32));
  EXPECT_EQ(lookup(key("b", 1, 0, 32)), 2U);
  EXPECT_EQ(query("b"), 0U);
}

TEST_F(KeyRequestsTest, AReusedRequestIdHasNothingOfTheOldTokens) {  // F1
  register_worker();
  EXPECT_EQ(lookup(key("same", 1, 0, 32)), 0U);
  store(key("same", 2, 0, 32));
  EXPECT_EQ(lookup(key("same", 1, 0, 32)), 0U);
  EXPECT_EQ(lookup(key("same", 2, 0, 32)), 2U);
}

TEST_F(KeyRequestsTest, ASkippedLoadIsAMissThatLocksNothing) {
  register_worker();
  store(key("a", 1, 0, 32));
  wire::KeySample sample = key("b", 1, 0, 32);
  sample.configs = encoded([](wire::MsgpackWriter& writer) {
    writer.map(1);
    writer.text("lmcache.skip_load");
    writer.boolean(true);
  });
  EXPECT_EQ(lookup(sample), 0U);
  EXPECT_EQ(status().engine.locked_bytes, 0U);
}

TEST_F(KeyRequestsTest, BothFormsOfTokensNameTheSameChunks) {
  register_worker();
  store(key("a", 1, 0, 32));
  wire::KeySample sample = key("b", 1, 0, 32);
  sample.form = wire::TokenForm::kBytes;
  EXPECT_EQ(lookup(sample), 2U);
}

// ---- Locks.

TEST_F(KeyRequestsTest, ASecondFreeTakesNothingFromOthers) {  // F2
  capacity_bytes = 4 * 4096;
  register_worker();
  store(key("a", 1, 0, 32));
  lookup(key("h", 1, 0, 32));
  lookup(key("i", 1, 0, 32));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ask(Operation::kFreeLookupLocks, {make_key(key("h", 1, 0, 32, -1)), number(1)}).hex(),
              "none");
  }
  EXPECT_EQ(status().engine.locked_bytes, 2 * 4096U);
  EXPECT_TRUE(prepare_retrieve(key("i", 1, 0, 32)).hex().starts_with("83a773756363657373c3"));
}

TEST_F(KeyRequestsTest, FreeIsFlooredToChunks) {
  register_worker();
  store(key("a", 1, 0, 48));
  lookup(key("b", 1, 0, 48));
  ask(Operation::kFreeLookupLocks, {make_key(key("b", 1, 0, 20, -1)), number(1)});
  EXPECT_EQ(status().engine.locked_bytes, 2 * 4096U);
}

TEST_F(KeyRequestsTest, EndGivesEverythingBack) {
  register_worker();
  store(key("a", 1, 0, 48));
  lookup(key("b", 1, 0, 48));
  EXPECT_EQ(status().engine.locked_bytes, 3 * 4096U);
  EXPECT_EQ(ask(Operation::kEndSession, {text("b")}).hex(), "none");
  EXPECT_EQ(status().engine.locked_bytes, 0U);
  EXPECT_EQ(ask(Operation::kEndSession, {text("b")}).hex(), "none");
}

TEST_F(KeyRequestsTest, AClearLeavesLockedChunksUnlessItIsForced) {
  register_worker();
  store(key("a", 1, 0, 32));
  lookup(key("b", 1, 0, 32));
  ask(Operation::kClear, {encoded([](wire::MsgpackWriter& writer) { writer.boolean(false); })});
  EXPECT_EQ(lookup(key("c", 1, 0, 32)), 2U);
  ask(Operation::kClear, {encoded([](wire::MsgpackWriter& writer) { writer.boolean(true); })});
  EXPECT_EQ(lookup(key("d", 1, 0, 32)), 0U);
}

TEST_F(KeyRequestsTest, AWorkerOfOneGroupGetsASlotForEveryChunk) {
  register_worker({.groups = {{.window_chunks = 1}}});
  store(key("a", 1, 0, 48));
  ASSERT_EQ(lookup(key("b", 1, 0, 48)), 3U);
  // LMCache's client of one group counts them.
  const std::string reply = prepare_retrieve(key("b", 1, 0, 48)).hex();
  EXPECT_NE(reply.find(wire::hex(text("slots")) + "93"), std::string::npos) << reply;
}

// ---- Keys that take more than one turn (S11).

TEST_F(KeyRequestsTest, AShortRequestIsAnsweredBetweenThePiecesOfALongOne) {
  register_worker();
  replies.clear();
  send(Operation::kLookup, {make_key(key("long", 5, 0, 1'000'000, -1)), number(1)}, 1);
  EXPECT_TRUE(replies.empty());
  EXPECT_EQ(status().keys_waiting, 1U);
  EXPECT_TRUE(ping(3));
  EXPECT_EQ(replies.size(), 1U);
  // The lookup in question may be the one being hashed.
  replies.clear();
  send(Operation::kQueryPrefetchStatus, {text("long")}, 1);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(replies[0].hex(), "none");
  replies.clear();
  turn();
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(query("long"), 0U);
}

TEST_F(KeyRequestsTest, RequestsOfOneConnectionKeepTheirOrder) {
  register_worker({}, 1);
  replies.clear();
  send(Operation::kLookup, {make_key(key("r", 5, 0, 300'000, -1)), number(1)}, 1);
  send(Operation::kPrepareStore, {make_key(key("r", 1, 0, 32)), number(7)}, 1);
  send(Operation::kCommitStore, {make_key(key("r", 1, 0, 32)), number(7), binary("")}, 1);
  send(Operation::kWaitPrefetchStatus, {text("r"), number(5)}, 1);
  turn();
  ASSERT_EQ(replies.size(), 4U);
  EXPECT_EQ(replies[2].hex(), kTrue);
  EXPECT_EQ(replies[3].hex(), "00");
}

TEST_F(KeyRequestsTest, AnEndThatComesWhileItsLookupIsHashedLeavesNoLock) {
  register_worker();
  store(key("a", 5, 0, 32));
  replies.clear();
  send(Operation::kLookup, {make_key(key("r", 5, 0, 300'000, -1)), number(1)}, 1);
  send(Operation::kEndSession, {text("r")}, 1);
  EXPECT_EQ(replies.size(), 1U);  // The end is answered at once.
  turn();
  EXPECT_EQ(replies.size(), 2U);
  EXPECT_EQ(status().engine.locked_bytes, 0U);
  EXPECT_EQ(status().engine.sessions, 0U);
}

TEST_F(KeyRequestsTest, RequestsThatWaitAreBounded) {
  register_worker();
  replies.clear();
  send(Operation::kLookup, {make_key(key("long", 5, 0, 1'000'000, -1)), number(1)}, 1);
  for (std::size_t i = 0; i < Connections::kRequestsMax + 2; ++i) {
    send(Operation::kFreeLookupLocks, {make_key(key("r", 1, 0, 16, -1)), number(1)}, 1);
  }
  EXPECT_EQ(replies.size(), 3U);
  turn();
  EXPECT_EQ(replies.size(), Connections::kRequestsMax + 3);
}

// ---- L2.

TEST_F(KeyRequestsTest, CellsHaveLmcachesNamesInL2) {
  cache::ScriptedTier& tier = add_tier();
  register_worker({.world_size = 2});
  wire::KeySample sample = key("a", 1, 0, 16, 1);
  sample.world_size = 2;
  sample.salt = "tenant";
  store(sample);
  turn();
  ASSERT_EQ(tier.sizes.size(), 1U);
  const std::string& name = tier.sizes.begin()->first;
  EXPECT_TRUE(name.starts_with("golden/model-1@02010201@0@")) << name;
  EXPECT_TRUE(name.ends_with("@tenant")) << name;
  EXPECT_EQ(name.size(), std::string{"golden/model-1@02010201@0@@tenant"}.size() + 64);
}

TEST_F(KeyRequestsTest, WhatOnlyL2HasIsLoaded) {
  cache::ScriptedTier& tier = add_tier();
  register_worker();
  store(key("a", 1, 0, 32));
  turn();
  ask(Operation::kClear, {});
  EXPECT_EQ(tier.sizes.size(), 2U);
  EXPECT_EQ(lookup(key("b", 1, 0, 32)), std::nullopt);
  turn();
  EXPECT_EQ(query("b"), 2U);
}

}  // namespace
}  // namespace larder::server
