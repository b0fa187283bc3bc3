#include "larder/doors/session.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <deque>
#include <string>
#include <thread>

#include "larder/connector/metrics.h"
#include "larder/connectors/builtin.h"

namespace larder::doors {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::uint64_t in(std::uint64_t ns) {
  return RealClock::instance().now_ns() + ns;
}

bool is_readable(int fd, int timeout_ms) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, timeout_ms) == 1;
}

/// Keys k0, k1, ... with a value of `bytes` each.
struct TestOperation : Operation {
  TestOperation(Op op, std::size_t keys, std::size_t bytes)
      : values(keys, std::string(bytes, 'v')) {
    for (std::size_t i = 0; i < keys; ++i) names.push_back("k" + std::to_string(i));
    slices.resize(keys);
    items.resize(keys);
    for (std::size_t i = 0; i < keys; ++i) {
      items[i].key = std::as_bytes(std::span{names[i]});
      if (op != Op::kGet && op != Op::kSet) continue;
      slices[i] = {reinterpret_cast<std::byte*>(values[i].data()), bytes};
      items[i].value = {&slices[i], 1};
    }
    batch.op = op;
  }

  std::deque<std::string> names;
  std::deque<std::string> values;
};

class SessionTest : public testing::Test {
 protected:
  SessionTest() = default;
  SessionTest(const SessionTest&) = delete;
  SessionTest& operator=(const SessionTest&) = delete;
  ~SessionTest() override {
    if (session_ == nullptr) return;
    EXPECT_TRUE(session_->close(0, in(30 * kSecond)));
  }

  void open(const std::string& spec, bool has_thread = false, bool misses_wrong_sizes = false) {
    auto session = Session::open(builtin_registry(), Spec::parse(spec).value(),
                                 {.has_thread = has_thread,
                                  .misses_wrong_sizes = misses_wrong_sizes,
                                  .is_announced = is_announced_});
    ASSERT_TRUE(session) << session.error().text;
    session_ = std::move(*session);
  }
  std::uint64_t counter(const std::string& name) const {
    const auto value = metric_value(session_->connector().report(), name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }
  void run(Operation& operation) {
    ASSERT_TRUE(session_->submit(operation));
    ASSERT_TRUE(session_->wait(operation, in(30 * kSecond)));
  }
  Operation* take_within(int timeout_ms) {
    const std::uint64_t until = in(static_cast<std::uint64_t>(timeout_ms) * 1'000'000);
    while (RealClock::instance().now_ns() < until) {
      if (Operation* const operation = session_->take()) return operation;
      is_readable(session_->event_fd(), 100);
    }
    return nullptr;
  }

  std::unique_ptr<Session> session_;
  bool is_announced_ = false;
};

/// The output of an opening and a closing on stderr, in its own process, because the level is read
/// once.
class SessionLogTest : public SessionTest {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  void TearDown() override { ::unsetenv("LARDER_LOG"); }

  [[noreturn]] void open_and_close(bool is_announced) {
    is_announced_ = is_announced;
    open("memory:?capacity=64MiB");
    TestOperation set{Op::kSet, 3, 1000};
    run(set);
    const bool is_closed = session_->close(0, in(30 * kSecond)).has_value();
    std::exit(is_closed ? 0 : 1);
  }
};

constexpr const char* kBothLines =
    "^[^\n]* I \\[memory\\] memory: opened in [^\n]* by larder [0-9.]+: healthy, 0 keys, 0 B of 64 "
    "MiB[^\n]*\n[^\n]* I \\[memory\\] memory: closed: 3 keys, [^\n]* of 64 MiB\n$";

TEST_F(SessionLogTest, OpeningAndClosingAreALineEachAtLevelInfo) {
  EXPECT_EXIT(open_and_close(false), testing::ExitedWithCode(0), "^$");
  ::setenv("LARDER_LOG", "info", 1);
  EXPECT_EXIT(open_and_close(false), testing::ExitedWithCode(0), kBothLines);
}

TEST_F(SessionLogTest, TheCacheTierOfAServiceShowsThemByDefault) {
  EXPECT_EXIT(open_and_close(true), testing::ExitedWithCode(0), kBothLines);
  ::setenv("LARDER_LOG", "warning", 1);
  EXPECT_EXIT(open_and_close(true), testing::ExitedWithCode(0), "^$");
}

TEST_F(SessionTest, WaitingCallersGetTheirOwnOperationBack) {
  open("fault:?inner=memory:&delay_rate=1&delay=1ms");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 50; ++i) {
        TestOperation set{Op::kSet, 3, 100};
        run(set);
        for (const Item& item : set.items) EXPECT_EQ(item.outcome, Outcome::kDone);
        TestOperation get{Op::kGet, 3, 100};
        run(get);
        for (const Item& item : get.items) EXPECT_EQ(item.outcome, Outcome::kHit);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(SessionTest, LoadsWaitForRoomInOrderAndStoresAreRefused) {
  open("fault:?inner=memory:&delay_rate=1&delay=5ms&in_flight=1", true);
  TestOperation first{Op::kSet, 2, 1000};
  run(first);

  std::deque<TestOperation> loads;
  for (int i = 0; i < 10; ++i) {
    loads.emplace_back(Op::kGet, 2, 1000);
    loads.back().is_taken = true;
    ASSERT_TRUE(session_->submit(loads.back()));
  }
  EXPECT_GT(counter("batches_waited_for_room_total"), 0U);
  for (const TestOperation& load : loads) {
    EXPECT_EQ(take_within(30'000), &load);
    for (const Item& item : load.items) EXPECT_EQ(item.outcome, Outcome::kHit);
  }

  TestOperation busy{Op::kSet, 1, 1000};
  TestOperation refused{Op::kSet, 1, 1000};
  refused.batch.waits_for_room = false;
  ASSERT_TRUE(session_->submit(busy));
  const Status status = session_->submit(refused);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(session_->report().refused_by_door, 1U);
  EXPECT_TRUE(session_->wait(busy, in(30 * kSecond)));
}

TEST_F(SessionTest, AnOperationWithoutRoomFailsAtItsDeadlineAndItsKeysAreMisses) {
  open("fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*&in_flight=1", true);
  TestOperation set{Op::kSet, 1, 10};
  run(set);
  TestOperation stalled{Op::kGet, 1, 10};
  ASSERT_TRUE(session_->submit(stalled));
  TestOperation late{Op::kGet, 1, 10};
  late.batch.deadline_ns = in(20'000'000);
  ASSERT_TRUE(session_->submit(late));
  ASSERT_TRUE(session_->wait(late, in(30 * kSecond)));
  EXPECT_EQ(late.items[0].outcome, Outcome::kFailed);
  EXPECT_EQ(late.items[0].error.code(), ErrorCode::kDeadlineExceeded);

  TestOperation exists{Op::kExists, 1, 0};
  exists.batch.items = exists.items;
  if (session_->probe(exists.items)) {
    EXPECT_EQ(exists.items[0].outcome, Outcome::kMiss);
  }
  TestOperation asked{Op::kExists, 1, 0};
  run(asked);
  EXPECT_EQ(asked.items[0].outcome, Outcome::kMiss) << "a failed load is a miss (C6)";
  TestOperation again{Op::kSet, 1, 10};
  again.batch.set_mode = SetMode::kReplace;
  run(again);
  TestOperation found{Op::kExists, 1, 0};
  run(found);
  EXPECT_EQ(found.items[0].outcome, Outcome::kHit) << "until it is stored again";

  session_->cancel(stalled);
  EXPECT_TRUE(session_->wait(stalled, in(30 * kSecond)));
}

TEST_F(SessionTest, AWrongSizeIsAMissForEnginesUntilItIsStoredAgain) {
  open("memory:", false, true);
  TestOperation set{Op::kSet, 2, 100};
  run(set);
  TestOperation wrong{Op::kGet, 1, 50};
  run(wrong);
  EXPECT_EQ(wrong.items[0].error.code(), ErrorCode::kSizeMismatch);
  EXPECT_EQ(wrong.items[0].value_bytes, 100U);

  TestOperation exists{Op::kExists, 2, 0};
  run(exists);
  EXPECT_EQ(exists.items[0].outcome, Outcome::kMiss);
  EXPECT_EQ(exists.items[1].outcome, Outcome::kHit) << "the key beside it";
  TestOperation probed{Op::kExists, 2, 0};
  ASSERT_TRUE(session_->probe(probed.items));
  EXPECT_EQ(probed.items[0].outcome, Outcome::kMiss);
  EXPECT_EQ(probed.items[1].outcome, Outcome::kHit);

  TestOperation again{Op::kSet, 1, 50};
  ASSERT_EQ(again.batch.set_mode, SetMode::kIfAbsent);
  run(again);
  EXPECT_FALSE(again.items[0].existed);
  TestOperation right{Op::kGet, 1, 50};
  run(right);
  EXPECT_EQ(right.items[0].outcome, Outcome::kHit);
  TestOperation found{Op::kExists, 1, 0};
  run(found);
  EXPECT_EQ(found.items[0].outcome, Outcome::kHit);
}

TEST_F(SessionTest, AWrongSizeLeavesTheValueToOthers) {
  open("memory:");
  TestOperation set{Op::kSet, 1, 100};
  run(set);
  TestOperation wrong{Op::kGet, 1, 50};
  run(wrong);
  EXPECT_EQ(wrong.items[0].error.code(), ErrorCode::kSizeMismatch);
  TestOperation exists{Op::kExists, 1, 0};
  run(exists);
  EXPECT_EQ(exists.items[0].outcome, Outcome::kHit);
  TestOperation again{Op::kSet, 1, 50};
  run(again);
  EXPECT_TRUE(again.items[0].existed);
}

TEST_F(SessionTest, CloseCancelsWhatIsStuckAndWakesPollers) {
  open("fault:?inner=memory:&stall_rate=1&stall=1h&in_flight=1", true);
  std::deque<TestOperation> loads;
  for (int i = 0; i < 3; ++i) {
    loads.emplace_back(Op::kGet, 1, 10);
    loads.back().is_taken = true;
    ASSERT_TRUE(session_->submit(loads.back()));
  }
  EXPECT_EQ(session_->stuck(), "3 loads of 3 keys and 30");
  EXPECT_FALSE(is_readable(session_->event_fd(), 0));
  ASSERT_TRUE(session_->close(0, in(30 * kSecond)));
  EXPECT_EQ(session_->stuck(), "");
  int taken = 0;
  while (session_->take() != nullptr) ++taken;
  EXPECT_EQ(taken, 3);
  ASSERT_TRUE(session_->close(0, in(kSecond))) << "again is fine";
  TestOperation refused{Op::kGet, 1, 10};
  EXPECT_EQ(session_->submit(refused).error().code(), ErrorCode::kCancelled);
}

TEST_F(SessionTest, ThePollersFdIsReadableAfterClose) {
  open("memory:", true);
  EXPECT_FALSE(is_readable(session_->event_fd(), 0));
  ASSERT_TRUE(session_->close(in(kSecond), in(kSecond)));
  EXPECT_TRUE(is_readable(session_->event_fd(), 0));
}

TEST_F(SessionTest, CloseLetsWorkFinishWithinItsGrace) {
  open("fault:?inner=memory:&delay_rate=1&delay=10ms", true);
  std::deque<TestOperation> stores;
  for (int i = 0; i < 20; ++i) {
    stores.emplace_back(Op::kSet, 2, 100);
    stores.back().is_taken = true;
    ASSERT_TRUE(session_->submit(stores.back()));
  }
  ASSERT_TRUE(session_->close(in(30 * kSecond), in(60 * kSecond)));
  for (const TestOperation& store : stores) {
    for (const Item& item : store.items) EXPECT_EQ(item.outcome, Outcome::kDone);
  }
}

TEST_F(SessionTest, AnOperationThatItsCallerLeftIsTakenLater) {
  open("fault:?inner=memory:&stall_rate=1&stall=1h");
  TestOperation load{Op::kGet, 1, 10};
  ASSERT_TRUE(session_->submit(load));
  EXPECT_FALSE(session_->wait(load, in(1'000'000)));
  EXPECT_TRUE(session_->leave(load));
  EXPECT_EQ(session_->take(), nullptr);
  session_->cancel(load);
  EXPECT_EQ(take_within(30'000), &load);
}

TEST_F(SessionTest, AnIllegalKeyFailsAlone) {
  open("memory:");
  TestOperation set{Op::kSet, 2, 10};
  run(set);
  TestOperation probe{Op::kExists, 3, 0};
  probe.items[1].key = {};
  ASSERT_FALSE(session_->probe(probe.items)) << "a batch tells which one";
  run(probe);
  EXPECT_EQ(probe.items[0].outcome, Outcome::kHit);
  EXPECT_EQ(probe.items[1].outcome, Outcome::kFailed);
  EXPECT_EQ(probe.items[2].outcome, Outcome::kMiss);
}

}  // namespace
}  // namespace larder::doors
