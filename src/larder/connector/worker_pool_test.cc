#include "larder/connector/worker_pool.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <set>
#include <stdexcept>

#include "larder/connector/scripted_backend.h"

namespace larder {
namespace {

constexpr int kWorkers = 4;
constexpr int kThreads = 3;
constexpr int kBatchesEach = 400;

using testing_support::Gate;
using testing_support::Script;
using testing_support::ScriptedBackend;
using testing_support::TestBatch;
using Pool = WorkerPool<ScriptedBackend>;

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kPatience = 20'000 * kMillisecond;
constexpr Error kGone{ErrorCode::kUnavailable, "script", "the peer is gone"};

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

std::vector<std::string> keys(int count) {
  std::vector<std::string> result;
  for (int i = 0; i < count; ++i) result.push_back("key" + std::to_string(100 + i));
  return result;
}

class WorkerPoolTest : public testing::Test {
 protected:
  WorkerPoolTest() {
    options_.scheduler.workers = {1, 1, 1};
    options_.reconnect = {.initial_ns = kMillisecond, .max_ns = 4 * kMillisecond};
  }
  ~WorkerPoolTest() override {
    gate_.open();
    pool_.reset();
    EXPECT_EQ(script_->connections_alive, 0);
    EXPECT_EQ(script_->foreign_thread_uses, 0);
  }

  void make_pool() {
    auto pool = Pool::create(ScriptedBackend{script_}, options_);
    ASSERT_TRUE(pool) << pool.error().text;
    pool_ = std::move(*pool);
  }
  /// Calls with this operation wait at gate_.
  void block(Op blocked) {
    script_->on_call = [this, blocked](Op op, const std::string&) {
      if (op == blocked) gate_.wait();
      return Status{};
    };
  }
  void store(const std::vector<std::string>& stored) {
    const MutexLock lock{script_->mutex};
    for (const auto& key : stored) script_->values[key] = "1234";
  }
  void submit(TestBatch& batch) { ASSERT_TRUE(pool_->submit(batch.batch)); }
  /// The next batch that comes back, or nullptr after kPatience.
  Batch* reap() {
    std::array<Batch*, 1> done{};
    while (pool_->reap(done) == 0) {
      pollfd entry{pool_->event_fd(), POLLIN, 0};
      if (::poll(&entry, 1, static_cast<int>(kPatience / kMillisecond)) != 1) return nullptr;
    }
    return done[0];
  }
  void run(TestBatch& batch) {
    submit(batch);
    ASSERT_EQ(reap(), &batch.batch);
  }
  bool has_nothing_to_reap() {
    std::array<Batch*, 1> done{};
    return pool_->reap(done) == 0;
  }
  Report report() const {
    Report result;
    pool_->append_report(result);
    return result;
  }
  std::uint64_t counter(std::string_view name) const {
    for (const Counter& counter : report().counters) {
      if (counter.name == name) return counter.value;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }
  template <class Condition>
  static bool wait_until(Condition condition) {
    const std::uint64_t deadline_ns = now_ns() + kPatience;
    while (!condition()) {
      if (now_ns() > deadline_ns) return false;
      std::this_thread::yield();
    }
    return true;
  }

  WorkerPoolOptions options_;
  std::shared_ptr<Script> script_ = std::make_shared<Script>();
  Gate gate_;
  std::unique_ptr<Pool> pool_;
};

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
    ASSERT_TRUE(wait_until([&] { return (*pool)->reap(done) == 1; }));
    EXPECT_EQ(batch.outcome(), Outcome::kFailed);
    EXPECT_EQ(batch.code(), ErrorCode::kInternal);
  }
}

TEST_F(WorkerPoolTest, ARefusedBatchIsUntouched) {
  options_.scheduler.limits = {.batches_max = 1, .bytes_max = 8};
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

  gate_.open();
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
    script_ = std::make_shared<Script>();
    Gate gate;
    // Every worker is held in its first call until all tiles are taken.
    script_->on_call = [&gate](Op, const std::string&) {
      gate.wait();
      return Status{};
    };
    make_pool();
    TestBatch get{Op::kGet, keys(count)};
    submit(get);
    ASSERT_TRUE(gate.wait_for_arrivals(tiles));
    EXPECT_EQ(script_->calls().size(), static_cast<std::size_t>(tiles));
    gate.open();
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
    pool_.reset();
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
  ASSERT_TRUE(gate_.wait_for_arrivals(1));

  TestBatch exists{Op::kExists, {"a"}};
  run(exists);
  EXPECT_EQ(exists.outcome(), Outcome::kHit);
  TestBatch set{Op::kSet, {"b"}};
  run(set);
  EXPECT_EQ(set.outcome(), Outcome::kDone);

  gate_.open();
  EXPECT_EQ(reap(), &get.batch);
}

TEST_F(WorkerPoolTest, UrgencyIsWeightedAndNobodyStarves) {
  block(Op::kGet);
  make_pool();
  TestBatch first{Op::kGet, {"first"}};
  submit(first);
  ASSERT_TRUE(gate_.wait_for_arrivals(1));
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
  gate_.open();
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

// ---- Deadlines, cancel, stop --------------------------------------------------------------------

TEST_F(WorkerPoolTest, QueuedItemsComeBackAtTheDeadlineWhileEveryWorkerIsBlocked) {
  options_.scheduler.workers = {1, 2, 1};
  block(Op::kGet);
  make_pool();
  store({"late"});
  TestBatch blocking{Op::kGet, keys(2)};
  submit(blocking);
  ASSERT_TRUE(gate_.wait_for_arrivals(2));

  TestBatch patient{Op::kGet, {"patient"}};
  TestBatch later{Op::kGet, keys(5)};
  later.batch.deadline_ns = now_ns() + 30 * kMillisecond;
  TestBatch sooner{Op::kGet, {"late"}};
  sooner.batch.deadline_ns = now_ns() + 10 * kMillisecond;
  submit(patient);
  submit(later);
  submit(sooner);

  EXPECT_EQ((std::set{reap(), reap()}), (std::set{&sooner.batch, &later.batch}));
  EXPECT_GE(now_ns(), later.batch.deadline_ns);
  EXPECT_EQ(sooner.code(), ErrorCode::kDeadlineExceeded);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(later.code(i), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(script_->calls().size(), 2U) << "the backend never saw them";

  TestBatch exists{Op::kExists, {"late"}};
  run(exists);
  EXPECT_EQ(exists.outcome(), Outcome::kMiss) << "a late key is a miss for a while";

  gate_.open();
  EXPECT_EQ((std::set{reap(), reap()}), (std::set{&blocking.batch, &patient.batch}));
}

TEST_F(WorkerPoolTest, ItemsOfARunningTileThatHaveNotBegunFailAfterTheDeadline) {
  block(Op::kExists);
  make_pool();
  store(keys(3));
  TestBatch exists{Op::kExists, keys(3)};
  exists.batch.deadline_ns = now_ns() + 1000 * kMillisecond;
  submit(exists);
  ASSERT_TRUE(gate_.wait_for_arrivals(1));
  ASSERT_TRUE(wait_until([&] { return now_ns() > exists.batch.deadline_ns; }));
  EXPECT_TRUE(has_nothing_to_reap()) << "the first item is still in its call";

  gate_.open();
  ASSERT_EQ(reap(), &exists.batch);
  EXPECT_EQ(exists.outcome(0), Outcome::kHit) << "what had begun ends as it ends";
  EXPECT_EQ(exists.code(1), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(exists.code(2), ErrorCode::kDeadlineExceeded);
}

TEST_F(WorkerPoolTest, ABatchThatIsLateAlreadyFailsWithoutACall) {
  make_pool();
  TestBatch exists{Op::kExists, {"a"}};
  exists.batch.deadline_ns = 1;
  run(exists);
  EXPECT_EQ(exists.code(), ErrorCode::kDeadlineExceeded);
  EXPECT_TRUE(script_->calls().empty());
}

TEST_F(WorkerPoolTest, CancelGivesAQueuedBatchBackAtOnceAndEndsARunningOneEarly) {
  block(Op::kGet);
  make_pool();
  TestBatch running{Op::kGet, keys(3)};
  TestBatch queued{Op::kGet, keys(3)};
  TestBatch behind{Op::kGet, keys(1)};
  submit(running);
  ASSERT_TRUE(gate_.wait_for_arrivals(1));
  submit(queued);
  submit(behind);

  pool_->cancel(queued.batch);
  pool_->cancel(queued.batch);  // Finished, not reaped: nothing happens.
  ASSERT_EQ(reap(), &queued.batch);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(queued.code(i), ErrorCode::kCancelled);

  pool_->cancel(running.batch);
  EXPECT_TRUE(has_nothing_to_reap());
  gate_.open();
  ASSERT_EQ(reap(), &running.batch);
  EXPECT_EQ(running.outcome(0), Outcome::kMiss);
  EXPECT_EQ(running.code(1), ErrorCode::kCancelled);
  EXPECT_EQ(running.code(2), ErrorCode::kCancelled);
  ASSERT_EQ(reap(), &behind.batch);
  EXPECT_EQ(behind.outcome(), Outcome::kMiss) << "a cancelled key is not a failed one";
}

TEST_F(WorkerPoolTest, CancelOfAHalfTakenBatchGivesOneCompletion) {
  options_.scheduler.workers = {1, 2, 1};
  script_->on_call = [this](Op, const std::string& key) {
    if (key == "blocks" || key == "key100") gate_.wait();
    return Status{};
  };
  make_pool();
  TestBatch blocking{Op::kGet, {"blocks"}};
  submit(blocking);
  ASSERT_TRUE(gate_.wait_for_arrivals(1));
  TestBatch half{Op::kGet, keys(4)};  // Two tiles, and one worker left.
  submit(half);
  ASSERT_TRUE(gate_.wait_for_arrivals(2));

  pool_->cancel(half.batch);
  EXPECT_TRUE(has_nothing_to_reap());
  EXPECT_EQ(counter("batches_queued_load"), 0U);
  gate_.open();
  ASSERT_NE(reap(), nullptr);
  ASSERT_NE(reap(), nullptr);
  EXPECT_TRUE(has_nothing_to_reap());
  EXPECT_EQ(half.outcome(0), Outcome::kMiss);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(half.code(i), ErrorCode::kCancelled);
}

TEST_F(WorkerPoolTest, StopFailsWhatIsQueuedAndNamesWhatIsStuck) {
  block(Op::kSet);
  make_pool();
  TestBatch running{Op::kSet, keys(2)};
  TestBatch queued{Op::kSet, keys(2)};
  submit(running);
  ASSERT_TRUE(gate_.wait_for_arrivals(1));
  submit(queued);

  EXPECT_EQ(pool_->stop(now_ns() + kMillisecond).error().code(), ErrorCode::kUnavailable);
  ASSERT_EQ(reap(), &queued.batch);
  EXPECT_EQ(queued.code(0), ErrorCode::kCancelled);
  EXPECT_EQ(queued.code(1), ErrorCode::kCancelled);
  const auto reasons = report().reasons;
  EXPECT_TRUE(std::ranges::any_of(reasons, [](const std::string& reason) {
    return reason.find("still in a call") != std::string::npos;
  }));
  TestBatch refused{Op::kExists, {"a"}};
  EXPECT_EQ(pool_->submit(refused.batch).error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(counter("batches_in_flight_lookup"), 0U);

  gate_.open();
  EXPECT_TRUE(pool_->stop(now_ns() + kPatience));
  EXPECT_TRUE(pool_->stop(0));
  ASSERT_EQ(reap(), &running.batch) << "reap() works after stop()";
  EXPECT_EQ(running.outcome(0), Outcome::kDone);
  EXPECT_EQ(running.code(1), ErrorCode::kCancelled);
  EXPECT_EQ(script_->connections_alive, 0);
}

// ---- Connections --------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, AFailureToConnectFailsTheItemsAndRecoveryNeedsNoTraffic) {
  std::atomic<bool> is_up = false;
  script_->on_connect = [&](int number) -> Status {
    if (number % 3 == 0) throw std::runtime_error("while connecting");
    return is_up ? Status{} : Status{Error::from_errno(ECONNREFUSED, "script", "connect")};
  };
  make_pool();
  store({"a"});
  for (int i = 0; i < 3; ++i) {
    TestBatch get{Op::kGet, {"a", "b"}};
    run(get);
    if (i > 0) continue;  // From now on they are failed keys, which are misses.
    EXPECT_EQ(get.code(0), ErrorCode::kUnavailable);
    EXPECT_EQ(get.code(1), ErrorCode::kUnavailable);
  }
  EXPECT_EQ(report().health, Health::kDown);
  EXPECT_GE(counter("connect_failures_total"), 1U);

  is_up = true;
  ASSERT_TRUE(wait_until([&] { return report().health == Health::kHealthy; }));
  EXPECT_EQ(counter("connections"), 1U);
  TestBatch get{Op::kGet, {"c"}};
  run(get);
  EXPECT_EQ(get.outcome(), Outcome::kMiss);
}

TEST_F(WorkerPoolTest, DuringTheBackOffItemsFailWithoutAnotherAttempt) {
  options_.reconnect = {.initial_ns = kPatience, .max_ns = kPatience};
  script_->on_connect = [](int) -> Status { return kGone; };
  make_pool();
  for (int i = 0; i < 3; ++i) {
    TestBatch exists{Op::kExists, keys(20)};
    run(exists);
    for (std::size_t k = 0; k < 20; ++k) EXPECT_EQ(exists.code(k), ErrorCode::kUnavailable);
  }
  EXPECT_EQ(script_->connects, 1);
}

TEST_F(WorkerPoolTest, ALostConnectionThatHadWorkedIsReplacedAtOnce) {
  options_.reconnect = {.initial_ns = kPatience, .max_ns = kPatience};
  script_->on_call = [](Op, const std::string& key) -> Status {
    if (key == "lost") return kGone;
    if (key == "slow") return Error{ErrorCode::kDeadlineExceeded, "script", "slow"};
    if (key == "throws") throw 42;  // NOLINT: not every exception is a std::exception.
    return {};
  };
  make_pool();
  store({"a"});
  TestBatch exists{Op::kExists, {"a", "lost", "a", "slow", "throws", "a"}};
  run(exists);
  EXPECT_EQ(exists.outcome(0), Outcome::kHit);
  EXPECT_EQ(exists.code(1), ErrorCode::kUnavailable);
  EXPECT_EQ(exists.outcome(2), Outcome::kHit);
  EXPECT_EQ(exists.code(3), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(exists.code(4), ErrorCode::kInternal);
  EXPECT_EQ(exists.outcome(5), Outcome::kHit);
  EXPECT_EQ(script_->connects, 4);
  EXPECT_EQ(report().health, Health::kHealthy);
}

TEST_F(WorkerPoolTest, AConnectionThatNeverWorkedIsAsBadAsNone) {
  options_.reconnect = {.initial_ns = kPatience, .max_ns = kPatience};
  script_->on_call = [](Op, const std::string&) -> Status { return kGone; };
  make_pool();
  TestBatch exists{Op::kExists, keys(10)};
  run(exists);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(exists.code(i), ErrorCode::kUnavailable);
  EXPECT_EQ(script_->connects, 1) << "one connection for each item would storm the peer";
  EXPECT_EQ(report().health, Health::kDown);
}

TEST_F(WorkerPoolTest, AWorkerWithoutPeerLeavesTilesToThoseThatHaveOne) {
  options_.scheduler.workers = {2, 1, 1};
  options_.reconnect = {.initial_ns = kPatience, .max_ns = kPatience};
  std::atomic<bool> has_failed = false;
  script_->on_connect = [&](int number) -> Status {
    if (number == 1) return {};
    has_failed = true;
    return kGone;
  };
  block(Op::kExists);
  make_pool();
  store({"a", "b"});
  TestBatch first{Op::kExists, {"a", "b"}};
  submit(first);
  ASSERT_TRUE(gate_.wait_for_arrivals(1));
  ASSERT_TRUE(wait_until([&] { return has_failed.load(); }));
  gate_.open();
  ASSERT_EQ(reap(), &first.batch);
  EXPECT_EQ(report().health, Health::kDegraded);

  for (int i = 0; i < 100; ++i) {
    TestBatch exists{Op::kExists, {"a", "b"}};
    run(exists);
    ASSERT_EQ(exists.outcome(0), Outcome::kHit);
    ASSERT_EQ(exists.outcome(1), Outcome::kHit);
  }
}

// ---- Failed keys --------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, AKeyWhoseGetFailedIsAMissUntilItIsStoredAgain) {
  std::atomic<bool> is_corrupt = true;
  script_->on_call = [&](Op op, const std::string& key) -> Status {
    if (op == Op::kGet && key == "bad" && is_corrupt) {
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
  is_corrupt = false;
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

// ---- Options, stress ----------------------------------------------------------------------------

TEST_F(WorkerPoolTest, OptionsOutOfBoundsAreRefused) {
  const auto is_refused = [&](auto change) {
    WorkerPoolOptions options = options_;
    change(options);
    const auto pool = Pool::create(ScriptedBackend{script_}, options);
    return !pool && pool.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.workers[1] = 0; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.workers[2] = 1025; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.limits.batches_max = 0; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.failed_keys_max = 0; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.reconnect.initial_ns = 0; }));
}

TEST_F(WorkerPoolTest, UnderRandomLoadEveryBatchComesBackOnceWithEveryItemDecided) {
  options_.scheduler.workers = {2, 3, 2};
  options_.scheduler.limits.batches_max = 64;
  std::atomic<std::uint64_t> calls = 0;
  script_->on_call = [&calls](Op, const std::string&) -> Status {
    const std::uint64_t call = ++calls;
    if (call % 97 == 0) throw std::runtime_error("now and then");
    if (call % 31 == 0) return kGone;
    if (call % 13 == 0) return Error{ErrorCode::kIo, "script", "read"};
    return {};
  };
  script_->on_connect = [](int number) { return number % 5 == 0 ? Status{kGone} : Status{}; };
  make_pool();

  std::array<std::vector<std::unique_ptr<TestBatch>>, kThreads> batches;
  std::atomic<int> accepted = 0;
  std::atomic<int> threads_running = kThreads;
  std::vector<std::jthread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random{static_cast<std::uint64_t>(t)};
      for (int i = 0; i < kBatchesEach; ++i) {
        auto& batch = *batches[static_cast<std::size_t>(t)].emplace_back(
            std::make_unique<TestBatch>(static_cast<Op>(1 + random.below(5)),
                                        keys(static_cast<int>(1 + random.below(12)))));
        batch.batch.urgency = static_cast<Urgency>(random.below(kUrgencyCount));
        if (random.one_in(3)) batch.batch.deadline_ns = now_ns() + random.below(2 * kMillisecond);
        while (!pool_->submit(batch.batch)) std::this_thread::yield();
        ++accepted;
      }
      --threads_running;
    });
  }

  std::set<Batch*> seen;
  std::array<Batch*, 5> done{};
  const std::uint64_t deadline_ns = now_ns() + 3 * kPatience;
  while (threads_running > 0 || seen.size() < static_cast<std::size_t>(accepted)) {
    ASSERT_LT(now_ns(), deadline_ns) << seen.size() << " of " << accepted;
    pollfd entry{pool_->event_fd(), POLLIN, 0};
    ::poll(&entry, 1, 10);
    const std::size_t count = pool_->reap(done);
    for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(seen.insert(done[i]).second);
  }
  threads.clear();
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(kThreads * kBatchesEach));
  for (const Batch* batch : seen) {
    for (const Item& item : batch->items) {
      ASSERT_NE(item.outcome, Outcome::kPending);
      ASSERT_EQ(item.outcome == Outcome::kFailed, item.error.code() != ErrorCode::kNone);
    }
  }
  EXPECT_TRUE(pool_->stop(now_ns() + kPatience));
  for (const char* name : {"batches_in_flight_lookup", "batches_in_flight_load",
                           "batches_in_flight_store", "bytes_in_flight_load"}) {
    EXPECT_EQ(counter(name), 0U) << name;
  }
}

TEST_F(WorkerPoolTest, CancelAndStopRaceWithWorkersWithoutLosingABatch) {
  options_.scheduler.workers = {1, 3, 1};
  for (int round = 0; round < 30; ++round) {
    script_ = std::make_shared<Script>();
    make_pool();
    std::vector<std::unique_ptr<TestBatch>> batches;
    for (int i = 0; i < 20; ++i) {
      batches.push_back(std::make_unique<TestBatch>(Op::kGet, keys(7)));
      batches.back()->batch.deadline_ns = now_ns() + kPatience;
      submit(*batches.back());
    }
    {
      const std::jthread canceller{[&] {
        for (auto& batch : batches) pool_->cancel(batch->batch);
      }};
      EXPECT_TRUE(pool_->stop(now_ns() + kPatience));
    }
    std::set<Batch*> seen;
    std::array<Batch*, 4> done{};
    while (const std::size_t count = pool_->reap(done))
      seen.insert(done.begin(), done.begin() + static_cast<std::ptrdiff_t>(count));
    ASSERT_EQ(seen.size(), batches.size());
    pool_.reset();
  }
}

}  // namespace
}  // namespace larder
