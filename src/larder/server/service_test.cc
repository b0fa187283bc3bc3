#include "larder/server/service.h"

#include <gtest/gtest.h>

#include "larder/server/server_test_support.h"

namespace larder::server {
namespace {

using wire::Operation;

class ServiceTest : public ServiceFixture {
 protected:
  /// Request s of connection 1 waits for a load of this tier.
  cache::ScriptedTier& begin_load() {
    cache::ScriptedTier& tier = add_tier();
    register_worker();
    store(key("r", 1, 0, 32));
    turn();
    ask(Operation::kClear, {encoded([](wire::MsgpackWriter& w) { w.boolean(true); })});
    tier.holds_loads_only = true;
    tier.holds = true;
    EXPECT_EQ(lookup(key("s", 1, 0, 32)), std::nullopt);
    replies.clear();
    return tier;
  }
};

// ---- Every request is answered (S1, S2).

TEST_F(ServiceTest, UidAndOperationGoBackAsTheyCame) {
  // A uid and an operation in wider forms than needed.
  const std::vector<wire::Bytes> frames{wire::from_hex("cd0000"), wire::from_hex("cd0018")};
  service().on_message(ConnectionId{1}, std::make_unique<OwnedMessage>(frames));
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(wire::hex(replies[0].uid), "cd0000");
  EXPECT_EQ(wire::hex(replies[0].operation), "cd0018");
  EXPECT_EQ(replies[0].hex(), "a24f4b");
}

TEST_F(ServiceTest, WhatCannotBeReadIsDroppedAndCounted) {
  for (const std::vector<wire::Bytes>& frames : std::vector<std::vector<wire::Bytes>>{
           {number(0)}, {number(0), {}}, {number(0), wire::from_hex("c1")}}) {
    service().on_message(ConnectionId{1}, std::make_unique<OwnedMessage>(frames));
  }
  EXPECT_TRUE(replies.empty());
  EXPECT_EQ(status().totals.dropped, 3U);
}

TEST_F(ServiceTest, AnUnknownOperationIsAnErrorThatNamesTheNearest) {
  service().on_message(ConnectionId{1}, std::make_unique<OwnedMessage>(
                                            std::vector<wire::Bytes>{number(0), text("pong")}));
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_NE(replies[0].error().find("\"ping\""), std::string::npos) << replies[0].error();
  EXPECT_EQ(status().totals.unknown_operations, 1U);
}

TEST_F(ServiceTest, EachFailureHasTheFormThatTheClientTakesForTheMildest) {
  const wire::Bytes wrong = text("no key");
  EXPECT_EQ(ask(Operation::kLookup, {wrong, number(1)}).hex(), "none");
  EXPECT_EQ(ask(Operation::kFreeLookupLocks, {wrong, number(1)}).hex(), "none");
  EXPECT_EQ(ask(Operation::kPrepareStore, {wrong, number(7)}).hex(), kNoContext);
  EXPECT_EQ(ask(Operation::kCommitStore, {wrong, number(7), binary("")}).hex(), kFalse);
  EXPECT_EQ(ask(Operation::kPrepareRetrieve, {wrong, number(7)}).hex(),
            "83a773756363657373c2a464617461c400a7636f6e7465787480");
  EXPECT_EQ(ask(Operation::kCommitRetrieve, {wrong, number(7)}).hex(), kFalse);
  EXPECT_EQ(ask(Operation::kQueryPrefetchStatus, {number(3)}).hex(), "00");
  EXPECT_EQ(ask(Operation::kWaitPrefetchStatus, {number(3), number(1)}).hex(), "00");
  EXPECT_NE(ask(Operation::kRegisterEngineDriven, {wrong}).error(), "");
  EXPECT_NE(ask(Operation::kPing, {text("x")}).error(), "");
  const ServiceTotals totals = status().totals;
  EXPECT_EQ(totals.failures[static_cast<std::size_t>(Operation::kLookup)], 1U);
  EXPECT_EQ(totals.failures[static_cast<std::size_t>(Operation::kPing)], 1U);
}

TEST_F(ServiceTest, WhatThisServerDoesNotServeSaysSo) {
  const auto arguments = [](std::size_t count) { return std::vector<wire::Bytes>(count, nil()); };
  EXPECT_NE(ask(Operation::kRegisterKvCache, arguments(7)).error(), "");
  // ["", false]: the instance is not registered.
  const wire::Bytes no_blocks{std::byte{0x90}};
  const wire::Bytes no_event{std::byte{0xC4}, std::byte{0}};
  const wire::Bytes of_prompt = make_key(key("r", 1, 0, 16));
  EXPECT_EQ(ask(Operation::kStore, {of_prompt, number(1), no_blocks, no_event}).hex(), "92c400c2");
  EXPECT_EQ(ask(Operation::kRetrieve, {of_prompt, number(1), no_blocks, no_event, number(0)}).hex(),
            "92c400c2");
  EXPECT_EQ(ask(Operation::kUnregisterKvCache, {number(1)}).hex(), "none");
  EXPECT_EQ(ask(Operation::kGetExperimental, {}).hex(), "91af6b765f6576656e745f73747265616d");
}

// ---- The size of a chunk.

TEST_F(ServiceTest, TheFirstClientSettlesTheSizeOfAChunk) {
  EXPECT_EQ(ask(Operation::kNegotiateChunkSize, {number(24)}).hex(), "18");
  EXPECT_EQ(ask(Operation::kNegotiateChunkSize, {number(16)}).hex(), "18");
  EXPECT_EQ(ask(Operation::kGetChunkSize, {}).hex(), "18");
  EXPECT_EQ(status().chunk_tokens, 24U);
}

TEST_F(ServiceTest, AClientThatDoesNotNegotiateSettlesItToo) {
  EXPECT_EQ(ask(Operation::kGetChunkSize, {}).hex(), "10");
  EXPECT_EQ(ask(Operation::kNegotiateChunkSize, {number(24)}).hex(), "10");
}

TEST_F(ServiceTest, AnAlignmentBeyondTheLongestChunkIsRefused) {
  options.chunk_tokens = 40'000;
  EXPECT_NE(ask(Operation::kNegotiateChunkSize, {number(39'999)}).error(), "");
  EXPECT_EQ(ask(Operation::kGetChunkSize, {}).hex(), "cd9c40");
}

// ---- PING (S4).

TEST_F(ServiceTest, AFreshClientIsAlwaysAnsweredTrue) {
  EXPECT_TRUE(ping(1));
  EXPECT_TRUE(ping(1, 7));
}

TEST_F(ServiceTest, AClientThatComesFromAnotherServerIsToldSoOnce) {
  set_next_uid(1, 5);
  EXPECT_EQ(query("request"), 0U);  // Its first request need not be the PING.
  EXPECT_FALSE(ping(1));
  EXPECT_TRUE(ping(1));
  EXPECT_EQ(status().totals.register_again, 1U);
}

TEST_F(ServiceTest, AWorkerWhoseTransferWasRefusedIsToldToRegisterAgain) {
  EXPECT_EQ(prepare_store(key("r", 1, 0, 32)).hex(), kNoContext);
  EXPECT_FALSE(ping(2, 7));
  EXPECT_TRUE(ping(2, 7));
  EXPECT_TRUE(ping(2, 8));
}

TEST_F(ServiceTest, ARegistrationPaysWhatAPingOwed) {
  prepare_store(key("r", 1, 0, 32));
  register_worker();
  EXPECT_TRUE(ping(2, 7));
}

TEST_F(ServiceTest, AWorkerIsToldSoHoweverOftenItWasBefore) {
  for (int i = 0; i < 10'000; ++i) {
    prepare_store(key("r", 1, 0, 32));
    ASSERT_FALSE(ping(2, 7)) << i;
  }
}

TEST_F(ServiceTest, AWorkerThatIsSilentIsReapedAndToldSo) {
  options.worker_reap_ns = 30 * kSecond;
  register_worker();
  ping(2, 7);
  pass(29 * kSecond);
  EXPECT_EQ(status().instances.size(), 1U);
  pass(3 * kSecond);
  EXPECT_TRUE(status().instances.empty());
  EXPECT_EQ(status().totals.instances_reaped, 1U);
  EXPECT_FALSE(ping(2, 7));
  EXPECT_TRUE(ping(2, 7));
}

TEST_F(ServiceTest, AWorkerThatNeverPingedHasTheLongerGrace) {
  options.worker_reap_ns = 30 * kSecond;
  options.worker_grace_ns = 60 * kSecond;
  register_worker();
  pass(50 * kSecond);
  EXPECT_EQ(status().instances.size(), 1U);
  pass(12 * kSecond);
  EXPECT_TRUE(status().instances.empty());
}

TEST_F(ServiceTest, AWorkerWhoseConnectionClosedIsReapedUnlessAnotherGoesOn) {
  register_worker({.instance = 7}, 2);
  register_worker({.instance = 8}, 3);
  service().on_closed(ConnectionId{2});
  service().on_closed(ConnectionId{3});
  ping(4, 8);
  pass(12 * kSecond);
  ASSERT_EQ(status().instances.size(), 1U);
  EXPECT_EQ(status().instances[0].id, "8");
  EXPECT_EQ(status().instances[0].connection, 4U);
}

// ---- Registration (S17, E4).

TEST_F(ServiceTest, ARegistrationTellsThePool) {
  const Reply reply = register_worker();
  const std::string name = "larder_test_" + std::to_string(::getpid());
  wire::MsgpackReader reader{*reply.payload};
  ASSERT_EQ(reader.next()->count, 3U);
  reader.next();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(reader.next()->bytes.data()), name.size()),
            name);
  reader.next();
  EXPECT_EQ(reader.next()->integer.bits, capacity_bytes);
  const auto instances = status().instances;
  ASSERT_EQ(instances.size(), 1U);
  EXPECT_EQ(instances[0].model, "golden/model-1");
  EXPECT_EQ(instances[0].chunk_bytes, 1024U);
}

TEST_F(ServiceTest, WithoutAPoolARegistrationIsRefused) {
  has_pool = false;
  EXPECT_NE(register_worker().error().find("--shm-name"), std::string::npos);
}

TEST_F(ServiceTest, AnotherLayoutOfAModelIsRefusedWhileTheFirstLives) {
  register_worker({.instance = 7});
  const std::string error = register_worker({.instance = 8, .num_layers = 3}, 3).error();
  EXPECT_NE(error.find("golden/model-1"), std::string::npos) << error;
  EXPECT_EQ(status().instances.size(), 1U);
  ask(Operation::kUnregisterEngineDriven, {number(7)}, 2);
  EXPECT_EQ(register_worker({.instance = 8, .num_layers = 3}, 3).error(), "");
}

TEST_F(ServiceTest, AWorkerMayRegisterAgainWithAnotherLayout) {
  register_worker({.num_layers = 2});
  store(key("r", 1, 0, 32));
  EXPECT_EQ(register_worker({.num_layers = 3}).error(), "");
  EXPECT_EQ(status().instances[0].chunk_bytes, 1536U);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 0U);  // The cells of the first are misses (E4).
}

TEST_F(ServiceTest, ARefusedChangeOfLayoutLeavesTheWorkerAsItWas) {
  register_worker({.instance = 7});
  register_worker({.instance = 8}, 3);
  EXPECT_NE(register_worker({.instance = 7, .num_layers = 3}).error(), "");
  store(key("r", 1, 0, 32));
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 2U);
}

TEST_F(ServiceTest, AnInstanceIdThatIsInUseElsewhereIsRefused) {
  register_worker({}, 2);
  EXPECT_NE(register_worker({}, 3).error().find("in use"), std::string::npos);
  service().on_closed(ConnectionId{2});
  EXPECT_EQ(register_worker({}, 3).error(), "");
}

TEST_F(ServiceTest, AChunkLargerThanAValueMayBeIsRefused) {
  EXPECT_NE(register_worker({.num_layers = 1000, .hidden = 1'000'000}).error().find("--chunk-size"),
            std::string::npos);
}

TEST_F(ServiceTest, ALayoutOfTooManyCellsIsRefusedWithTheReason) {
  const std::string error =
      register_worker({.world_size = 255, .groups = std::vector<GroupSample>(17)}).error();
  EXPECT_NE(error.find("4096"), std::string::npos) << error;
  EXPECT_EQ(error.find("another KV layout"), std::string::npos) << error;
}

TEST_F(ServiceTest, UnregisterIsAnsweredForAnyId) {
  register_worker();
  EXPECT_EQ(ask(Operation::kUnregisterEngineDriven, {number(7)}, 2).hex(), "none");
  EXPECT_EQ(ask(Operation::kUnregisterEngineDriven, {number(7)}, 2).hex(), "none");
  EXPECT_TRUE(status().instances.empty());
}

// ---- QUERY and WAIT (E29).

TEST_F(ServiceTest, AWaitIsAnsweredByTheLoadOrAtItsDeadline) {
  cache::ScriptedTier& tier = begin_load();
  send(Operation::kWaitPrefetchStatus, {text("s"), number(1)});
  EXPECT_TRUE(replies.empty());
  EXPECT_TRUE(ping(3));  // F12: nothing else waits.
  replies.clear();
  turn(2 * kSecond);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(replies[0].hex(), "none");
  replies.clear();
  send(Operation::kWaitPrefetchStatus, {text("s"), number(300)});
  tier.holds = false;
  tier.finish_all();
  turn();
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(replies[0].hex(), "02");
}

TEST_F(ServiceTest, AWaitForAnUnknownRequestIsZero) {
  EXPECT_EQ(ask(Operation::kWaitPrefetchStatus, {text("none"), number(5)}).hex(), "00");
}

TEST_F(ServiceTest, WaitsOfOneConnectionAreBounded) {
  begin_load();
  for (int i = 0; i < 1024; ++i) send(Operation::kWaitPrefetchStatus, {text("s"), number(9)});
  EXPECT_TRUE(replies.empty());
  EXPECT_TRUE(ping(1));  // F12: nothing waits behind them.
  replies.clear();
  send(Operation::kWaitPrefetchStatus, {text("s"), number(9)});
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(replies[0].hex(), "00");
}

// ---- Commands of the admin HTTP (S28).

TEST_F(ServiceTest, AClearKeepsWhatIsLockedUnlessItIsForced) {
  register_worker();
  store(key("r", 1, 0, 32));
  store(key("r", 2, 0, 32));
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 2U);  // Locked from here on.
  int answers = 0;
  const auto clear = [&](bool force) {
    service().on_admin(ClearCommand{.force = force}, [&](const AdminAnswer& answer) {
      EXPECT_TRUE(answer);
      ++answers;
    });
    turn();
  };
  clear(false);
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(status().engine.columns, 2U);
  clear(true);
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(status().engine.columns, 0U);
}

// ---- Stalls (S15).

TEST_F(ServiceTest, TransfersThatWaitedDuringAStallAreRefused) {
  register_worker();
  store(key("r", 1, 0, 32));
  turn();
  service().begin_turn(now_ns += 6 * kSecond);  // It did not run for so long.
  replies.clear();
  send(Operation::kPrepareStore, {make_key(key("s", 2, 0, 32)), number(7)}, 2);
  send(Operation::kPrepareRetrieve, {make_key(key("t", 1, 0, 32)), number(7)}, 2);
  send(Operation::kNoop, {}, 2);
  service().on_sockets_empty();
  while (service().end_turn() == 0) {
  }
  ASSERT_EQ(replies.size(), 3U);
  EXPECT_EQ(replies[0].hex(), kNoContext);
  EXPECT_EQ(replies[1].hex(), "83a773756363657373c2a464617461c400a7636f6e7465787480");
  EXPECT_EQ(status().totals.stalls, 1U);
  EXPECT_EQ(status().totals.transfers_stale, 2U);
  turn(200'000'000);
  EXPECT_NE(prepare_store(key("u", 3, 0, 32)).hex(), kNoContext);
}

TEST_F(ServiceTest, AStallMakesNobodyLookSilent) {
  options.worker_reap_ns = 30 * kSecond;
  register_worker();
  ping(2, 7);
  turn();
  service().begin_turn(now_ns += 100 * kSecond);
  service().on_sockets_empty();
  service().end_turn();
  turn(200'000'000);
  EXPECT_EQ(status().instances.size(), 1U);
}

TEST_F(ServiceTest, AnIdleServerWithoutWorkersDoesNotStall) {
  ask(Operation::kNoop, {});
  turn(60 * kSecond);
  EXPECT_EQ(status().totals.stalls, 0U);
}

TEST_F(ServiceTest, AShorterHeartbeatMakesTheGuardQuicker) {
  register_worker();
  for (int i = 0; i < 3; ++i) {
    ping(2, 7);
    pass(kSecond);
  }
  turn();
  service().begin_turn(now_ns += kSecond);
  EXPECT_EQ(status().totals.stalls, 1U);
}

TEST_F(ServiceTest, WorkersOnOneConnectionHaveHeartbeatsOfTheirOwn) {
  register_worker({.instance = 7});
  register_worker({.instance = 8});
  for (int i = 0; i < 3; ++i) {
    ping(2, 7);
    pass(kSecond);
    ping(2, 8);
    pass(9 * kSecond);
  }
  turn();
  service().begin_turn(now_ns += 2 * kSecond);
  EXPECT_EQ(status().totals.stalls, 0U);
}

TEST_F(ServiceTest, AShortHeartbeatMakesAShortStallCountUntilItsClientHasGone) {
  register_worker();
  ping(5);
  pass(kSecond);
  ping(5);
  turn(kSecond);
  EXPECT_EQ(status().totals.stalls, 1U);
  service().on_closed(ConnectionId{5});
  pass(2 * kSecond);
  turn(kSecond);
  EXPECT_EQ(status().totals.stalls, 1U);
}

TEST_F(ServiceTest, AStallEndsThoughTheSocketsNeverRunDry) {
  register_worker();
  turn();
  service().begin_turn(now_ns += 6 * kSecond);
  for (int i = 0; i < 60; ++i) {
    service().end_turn();
    service().begin_turn(now_ns += kSecond / 10);
  }
  EXPECT_EQ(status().totals.stalls, 1U);
  replies.clear();
  send(Operation::kPrepareStore, {make_key(key("s", 2, 0, 32)), number(7)}, 2);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_NE(replies[0].hex(), kNoContext);
}

// ---- Connections.

TEST_F(ServiceTest, AClosedConnectionEndsItsSessionAndItsWait) {
  begin_load();
  send(Operation::kWaitPrefetchStatus, {text("s"), number(300)});
  service().on_closed(ConnectionId{1});
  EXPECT_TRUE(replies.empty());
  pass(6 * kSecond);
  EXPECT_EQ(status().engine.sessions, 0U);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(replies[0].hex(), "00");
}

TEST_F(ServiceTest, AConnectionThatNeverSaidAnythingMayClose) {
  service().on_closed(ConnectionId{9});
  EXPECT_TRUE(ping(1));
}

// ---- The end (S32).

TEST_F(ServiceTest, AtTheEndNewWorkIsRefusedAndOpenStoresMayCommit) {
  cache::ScriptedTier& tier = add_tier();
  register_worker();
  const wire::KeySample open = key("r", 1, 0, 32);
  prepare_store(open);
  EXPECT_FALSE(service().drain(now_ns + 10 * kSecond));
  EXPECT_EQ(prepare_store(key("s", 2, 0, 32)).hex(), kNoContext);
  EXPECT_NE(register_worker({.instance = 9}, 3).error(), "");
  EXPECT_EQ(lookup(key("t", 1, 0, 32)), 0U);
  EXPECT_EQ(commit_store(open).hex(), kTrue);
  turn();
  EXPECT_TRUE(service().drain(now_ns + 10 * kSecond));
  EXPECT_EQ(tier.sizes.size(), 2U);
  EXPECT_EQ(status().totals.requests_refused, 3U);
}

TEST_F(ServiceTest, TheEndDoesNotWaitLongForAWorkerThatNeverCommits) {
  register_worker();
  prepare_store(key("r", 1, 0, 32));
  EXPECT_FALSE(service().drain(now_ns + 10 * kSecond));
  pass(kSecond);
  EXPECT_TRUE(service().drain(now_ns + 9 * kSecond));
}

}  // namespace
}  // namespace larder::server
