#include "larder/connector/worker_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/worker_pool_test_support.h"

namespace larder {
namespace {

using testing::eventually;
using testing_support::keys;
using testing_support::kPatience;
using testing_support::now_ns;
using testing_support::ScriptedBackend;
using testing_support::TestBatch;
using testing_support::WorkerPoolTest;

constexpr int kWorkers = 4;

// ---- Outcomes -----------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, EveryOperationHasItsOutcomes) {
  make_pool();
  TestBatch set{Op::kSet, {"a", "b"}};
  set.value(0) = "AAAA";
  run(set);
  EXPECT_EQ(set.outcome(0), Outcome::kDone);
  EXPECT_FALSE(set.item(0).existed);

  TestBatch again{Op::kSet, {"a"}};
  run(again);
  EXPECT_EQ(again.outcome(), Outcome::kDone);
  EXPECT_TRUE(again.item(0).existed);

  TestBatch get{Op::kGet, {"a", "c"}};
  run(get);
  EXPECT_EQ(get.outcome(0), Outcome::kHit);
  EXPECT_EQ(get.value(0), "AAAA");
  EXPECT_EQ(get.item(0).value_bytes, 4U);
  EXPECT_EQ(get.outcome(1), Outcome::kMiss);
  EXPECT_EQ(get.value(1), "....");

  TestBatch exists{Op::kExists, {"a", "c"}};
  run(exists);
  EXPECT_EQ(exists.outcome(0), Outcome::kHit);
  EXPECT_EQ(exists.item(0).value_bytes, 4U);
  EXPECT_EQ(exists.outcome(1), Outcome::kMiss);

  TestBatch touch{Op::kTouch, {"a", "c"}};
  run(touch);
  EXPECT_EQ(touch.outcome(0), Outcome::kDone);
  EXPECT_EQ(touch.outcome(1), Outcome::kMiss);

  TestBatch remove{Op::kDelete, {"a", "c"}};
  run(remove);
  EXPECT_EQ(remove.outcome(0), Outcome::kDone);
  EXPECT_EQ(remove.outcome(1), Outcome::kMiss);
}

TEST_F(WorkerPoolTest, AnItemThatIsNotLegalFailsAlone) {
  make_pool();
  store({"a"});
  TestBatch get{Op::kGet, {"a", "", std::string(2000, 'x'), "a"}};
  run(get);
  EXPECT_EQ(get.outcome(0), Outcome::kHit);
  EXPECT_EQ(get.code(1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(get.code(2), ErrorCode::kInvalidArgument);
  EXPECT_EQ(get.outcome(3), Outcome::kHit);
}

TEST_F(WorkerPoolTest, AnOutcomeThatTheOperationDoesNotHaveIsTheBackendsFault) {
  struct LazyBackend : ScriptedBackend {
    using ScriptedBackend::ScriptedBackend;
    static Status exists(Connection&, Item&, const CallOptions&) { return {}; }
    static Status set(Connection&, Item& item, const CallOptions&) {
      item.outcome = Outcome::kHit;
      return {};
    }
  };
  auto pool = WorkerPool<LazyBackend>::create(LazyBackend{script_}, options_);
  ASSERT_TRUE(pool);
  for (const Op op : {Op::kExists, Op::kSet}) {
    TestBatch batch{op, {"a"}};
    ASSERT_TRUE((*pool)->submit(batch.batch));
    std::array<Batch*, 1> done{};
    ASSERT_TRUE(eventually([&] { return (*pool)->reap(done) == 1; }));
    EXPECT_EQ(batch.outcome(), Outcome::kFailed);
    EXPECT_EQ(batch.code(), ErrorCode::kInternal);
  }
}

TEST_F(WorkerPoolTest, ARefusedBatchIsUntouched) {
  options_.scheduler.intake.limits = {.batches_max = 1, .bytes_max = 8};
  block(Op::kGet);
  make_pool();
  TestBatch first{Op::kGet, keys(8)};  // Beyond the limit, but the class is idle.
  TestBatch second{Op::kGet, {"a"}};
  second.item(0).outcome = Outcome::kHit;
  submit(first);

  EXPECT_EQ(pool_->submit(second.batch).error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(second.outcome(), Outcome::kHit);
  EXPECT_EQ(counter("batches_refused_load_total"), 1U);
  TestBatch lookup{Op::kExists, {"a"}};
  run(lookup);

  gate_->open();
  EXPECT_EQ(reap(), &first.batch);
  run(second);
  EXPECT_EQ(counter("batches_in_flight_load"), 0U);
  Batch empty;
  EXPECT_EQ(pool_->submit(empty).error().code(), ErrorCode::kInvalidArgument);
}

// ---- Tiles --------------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, ABatchIsCutIntoBalancedTilesOneForEachWorker) {
  options_.scheduler.workers = {1, kWorkers, 1};
  for (const int count : {1, 2, 3, 4, 5, 7, 10, 17}) {
    const int tiles = std::min(count, kWorkers);
    reset();
    // Every worker is blocked in its first call until all tiles are taken.
    block(Op::kGet);
    make_pool();
    TestBatch get{Op::kGet, keys(count)};
    submit(get);
    ASSERT_TRUE(gate_->wait_for_arrivals(tiles));
    EXPECT_EQ(script_->calls().size(), static_cast<std::size_t>(tiles));
    gate_->open();
    ASSERT_EQ(reap(), &get.batch);
    EXPECT_TRUE(has_nothing_to_reap());

    std::map<int, std::vector<std::string>> by_connection;
    for (const auto& call : script_->calls()) by_connection[call.connection].push_back(call.key);
    ASSERT_EQ(by_connection.size(), static_cast<std::size_t>(tiles));
    std::vector<std::string> all;
    for (const auto& [connection, tile] : by_connection) {
      EXPECT_GE(tile.size(), static_cast<std::size_t>(count / tiles));
      EXPECT_LE(tile.size(), static_cast<std::size_t>((count + tiles - 1) / tiles));
      EXPECT_TRUE(std::ranges::is_sorted(tile)) << "a tile is one run of items";
      all.insert(all.end(), tile.begin(), tile.end());
    }
    std::ranges::sort(all);
    EXPECT_EQ(all, keys(count));
  }
}

TEST_F(WorkerPoolTest, ABatchIsNotCutIntoTilesOfFewerItemsThanTheLeast) {
  options_.scheduler.workers = {1, kWorkers, 1};
  options_.scheduler.tile_items_min = {1, 4, 1};
  for (const auto& [count, tiles] :
       {std::pair{1, 1}, {7, 1}, {8, 2}, {4 * kWorkers + 3, kWorkers}}) {
    reset();
    block(Op::kGet);
    make_pool();
    TestBatch get{Op::kGet, keys(count)};
    submit(get);
    ASSERT_TRUE(gate_->wait_for_arrivals(tiles));
    EXPECT_EQ(script_->calls().size(), static_cast<std::size_t>(tiles));
    gate_->open();
    ASSERT_EQ(reap(), &get.batch);
    std::set<int> connections;
    for (const auto& call : script_->calls()) connections.insert(call.connection);
    EXPECT_EQ(connections.size(), static_cast<std::size_t>(tiles)) << count;
    EXPECT_EQ(script_->calls().size(), static_cast<std::size_t>(count));
  }
}

TEST_F(WorkerPoolTest, FailuresInSeveralTilesGiveOneCompletionAndEachKeyItsOwnError) {
  options_.scheduler.workers = {1, 4, 1};
  script_->on_call = [](Op, const std::string& key) -> Status {
    if (key.back() == '3') return Error{ErrorCode::kIo, "script", "read"};
    if (key.back() == '7') return Error{ErrorCode::kCorruption, "script", "checksum"};
    if (key.back() == '9') throw std::runtime_error("unexpected");
    return {};
  };
  make_pool();
  store(keys(40));
  TestBatch get{Op::kGet, keys(40)};
  run(get);
  for (std::size_t i = 0; i < 40; ++i) {
    const bool is_bad = i % 10 == 3 || i % 10 == 7 || i % 10 == 9;
    EXPECT_EQ(get.outcome(i), is_bad ? Outcome::kFailed : Outcome::kHit) << i;
    if (i % 10 == 3) {
      EXPECT_EQ(get.code(i), ErrorCode::kIo);
    }
    if (i % 10 == 7) {
      EXPECT_EQ(get.code(i), ErrorCode::kCorruption);
    }
    if (i % 10 == 9) {
      EXPECT_EQ(get.code(i), ErrorCode::kInternal);
    }
  }
  EXPECT_TRUE(pool_->stop(now_ns() + kPatience));
  EXPECT_TRUE(has_nothing_to_reap()) << "it came back twice";
}

TEST_F(WorkerPoolTest, ALookupDoesNotWaitBehindLoads) {
  block(Op::kGet);
  make_pool();
  store({"a"});
  TestBatch get{Op::kGet, keys(100)};
  submit(get);
  ASSERT_TRUE(gate_->wait_for_arrivals(1));

  TestBatch exists{Op::kExists, {"a"}};
  run(exists);
  EXPECT_EQ(exists.outcome(), Outcome::kHit);
  TestBatch set{Op::kSet, {"b"}};
  run(set);
  EXPECT_EQ(set.outcome(), Outcome::kDone);

  gate_->open();
  EXPECT_EQ(reap(), &get.batch);
}

TEST_F(WorkerPoolTest, UrgencyIsWeightedAndNobodyStarves) {
  block(Op::kGet);
  make_pool();
  TestBatch first{Op::kGet, {"first"}};
  submit(first);
  ASSERT_TRUE(gate_->wait_for_arrivals(1));
  std::vector<std::unique_ptr<TestBatch>> batches;
  const auto queue = [&](Urgency urgency, const std::string& name, int count) {
    for (int i = 0; i < count; ++i) {
      batches.push_back(std::make_unique<TestBatch>(Op::kGet, std::vector{name}));
      batches.back()->batch.urgency = urgency;
      submit(*batches.back());
    }
  };
  queue(Urgency::kBackground, "background", 40);
  queue(Urgency::kStore, "store", 40);
  queue(Urgency::kPrefetch, "prefetch", 40);
  queue(Urgency::kDemand, "demand", 40);
  gate_->open();
  for (std::size_t i = 0; i < batches.size() + 1; ++i) ASSERT_NE(reap(), nullptr);

  std::map<std::string, int> early;
  for (const auto& call : script_->calls()) {
    if (call.key == "first") continue;
    if (++early[call.key] == 40) break;
  }
  EXPECT_EQ(early["demand"], 40) << "demand is through first";
  EXPECT_NEAR(early["prefetch"], 20, 4);
  EXPECT_NEAR(early["store"], 10, 2);
  EXPECT_NEAR(early["background"], 5, 1);
}

// ---- Failed keys --------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, AKeyWhoseGetFailedIsAMissUntilItIsStoredAgain) {
  flag_ = true;  // The value is corrupt.
  script_->on_call = [this](Op op, const std::string& key) -> Status {
    if (op == Op::kGet && key == "bad" && flag_) {
      return Error{ErrorCode::kCorruption, "script", "checksum"};
    }
    return {};
  };
  make_pool();
  store({"bad", "good"});
  TestBatch get{Op::kGet, {"bad", "good"}};
  run(get);
  EXPECT_EQ(get.code(0), ErrorCode::kCorruption);
  EXPECT_EQ(get.outcome(1), Outcome::kHit);

  TestBatch exists{Op::kExists, {"bad", "good"}};
  run(exists);
  EXPECT_EQ(exists.outcome(0), Outcome::kMiss);
  EXPECT_EQ(exists.outcome(1), Outcome::kHit);
  run(get);
  EXPECT_EQ(get.outcome(0), Outcome::kMiss);
  EXPECT_EQ(counter("keys_failed"), 1U);
  EXPECT_TRUE(pool_->probe({&exists.item(0), 1}));
  exists.item(1).outcome = Outcome::kHit;
  EXPECT_FALSE(pool_->probe(exists.batch.items));
  EXPECT_EQ(exists.outcome(1), Outcome::kHit) << "nothing is touched";

  // kIfAbsent would find the value that cannot be read and leave it.
  flag_ = false;
  TestBatch set{Op::kSet, {"bad", "good"}};
  set.value(0) = "NEW!";
  run(set);
  EXPECT_FALSE(set.item(0).existed);
  EXPECT_TRUE(set.item(1).existed);
  run(get);
  EXPECT_EQ(get.outcome(0), Outcome::kHit);
  EXPECT_EQ(get.value(0), "NEW!");
  EXPECT_FALSE(pool_->probe({&exists.item(0), 1}));
}

TEST_F(WorkerPoolTest, ASetThatFailsLeavesTheKeyAMiss) {
  script_->on_call = [](Op op, const std::string&) -> Status {
    if (op == Op::kGet) return Error{ErrorCode::kIo, "script", "read"};
    if (op == Op::kSet) return Error{ErrorCode::kResourceExhausted, "script", "full"};
    return {};
  };
  make_pool();
  store({"a"});
  TestBatch get{Op::kGet, {"a"}};
  run(get);
  TestBatch set{Op::kSet, {"a"}};
  run(set);
  EXPECT_EQ(set.code(), ErrorCode::kResourceExhausted);
  TestBatch exists{Op::kExists, {"a"}};
  run(exists);
  EXPECT_EQ(exists.outcome(), Outcome::kMiss);
}

TEST_F(WorkerPoolTest, AWrongSizeTellsTheStoredOneAndAShorterValueMayBeAHit) {
  make_pool();
  store({"a", "b"});
  TestBatch shorter{Op::kGet, {"a"}, 10};
  shorter.batch.allow_shorter = true;
  run(shorter);
  EXPECT_EQ(shorter.outcome(), Outcome::kHit);
  EXPECT_EQ(shorter.value(), "1234......");
  TestBatch wrong{Op::kGet, {"a"}, 10};
  run(wrong);
  EXPECT_EQ(wrong.code(), ErrorCode::kSizeMismatch);
  EXPECT_EQ(wrong.item(0).value_bytes, 4U);
}

}  // namespace
}  // namespace larder
