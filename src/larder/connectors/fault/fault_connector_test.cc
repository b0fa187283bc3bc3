#include "larder/connectors/fault/fault_connector.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/metrics.h"
#include "larder/connectors/memory/memory_connector.h"

namespace larder::fault {
namespace {

using Bytes = std::vector<std::byte>;

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

Bytes value_of(std::uint64_t seed, std::size_t bytes = 1000) {
  Bytes value(bytes);
  Random{seed}.fill(value);
  return value;
}

/// A batch of one key with its memory.
struct One {
  One(Op op, std::string key_text, std::size_t bytes = 0) : key(std::move(key_text)), value(bytes) {
    slice = {value.data(), value.size()};
    item.key = std::as_bytes(std::span{key});
    if (op == Op::kGet || op == Op::kSet) item.value = {&slice, 1};
    batch.items = {&item, 1};
    batch.op = op;
  }
  std::string key;
  Bytes value;
  Slice slice;
  Item item;
  Batch batch;
};

class FaultConnectorTest : public testing::Test {
 protected:
  /// `faults` as in a spec, after the inner one.
  void open(const std::string& faults) {
    registry.add(memory::connector_type());
    registry.add(connector_type());
    auto opened = registry.open("fault:?inner=memory:" + faults);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    connector = std::move(opened).value();
    client.emplace(*connector);
  }
  void TearDown() override {
    if (!connector) return;
    EXPECT_TRUE(connector->stop(now_ns() + 30'000'000'000).has_value());
    Batch* done = nullptr;
    EXPECT_EQ(connector->reap({&done, 1}), 0U);
  }
  void set(const std::string& key, const Bytes& value) {
    const auto stored = client->set(key, value);
    ASSERT_TRUE(stored.has_value()) << stored.error().to_string();
  }
  std::uint64_t counter(std::string_view name) const {
    const auto value = metric_value(connector->report(), name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }
  /// Waits until the event fd says that something is back, and takes it.
  void wait_for(const Batch& batch) {
    pollfd waited{connector->event_fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&waited, 1, 30'000), 1) << "it never came back";
    Batch* done = nullptr;
    ASSERT_EQ(connector->reap({&done, 1}), 1U);
    ASSERT_EQ(done, &batch);
  }

  Registry registry;
  std::unique_ptr<Connector> connector;
  std::optional<BlockingClient> client;
};

TEST_F(FaultConnectorTest, AnErrorFailsExactlyTheNumberedItems) {
  open("&error_rate=1&pattern=exists:2;get:3");
  set("key", value_of(1));
  EXPECT_TRUE(client->exists("key").value().has_value());

  const auto failed = client->exists("key");

  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code(), ErrorCode::kIo);
  EXPECT_NE(failed.error().sys_errno(), 0);
  EXPECT_TRUE(client->exists("key").value().has_value());
  EXPECT_EQ(counter("faults_error_total"), 1U);
}

TEST_F(FaultConnectorTest, AnErrorInABatchIsThatItemsAlone) {
  open("&error_rate=1&pattern=exists:2");
  set("a", value_of(1));
  One a{Op::kExists, "a"};
  std::vector<Item> items(3, a.item);
  a.batch.items = items;

  ASSERT_TRUE(client->run(a.batch).has_value());

  EXPECT_EQ(items[0].outcome, Outcome::kHit);
  EXPECT_EQ(items[1].outcome, Outcome::kFailed);
  EXPECT_EQ(items[2].outcome, Outcome::kHit);
}

/// Which of a batch's loads failed.
std::vector<std::size_t> gaps_in(BlockingClient& client, std::size_t count) {
  std::vector<std::string> keys;
  std::vector<Item> items(count);
  Bytes memory(count * 10);
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < count; ++i) {
    keys.push_back("key-" + std::to_string(1000 + i));
    slices.push_back({memory.data() + 10 * i, 10});
  }
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_TRUE(client.set(keys[i], value_of(i, 10)).has_value());
    items[i].key = std::as_bytes(std::span{keys[i]});
    items[i].value = {&slices[i], 1};
  }
  Batch batch;
  batch.items = items;
  batch.op = Op::kGet;
  EXPECT_TRUE(client.run(batch).has_value());
  std::vector<std::size_t> gaps;
  for (std::size_t i = 0; i < count; ++i) {
    if (items[i].outcome == Outcome::kFailed) gaps.push_back(i);
  }
  return gaps;
}

using Gaps = std::vector<std::size_t>;

TEST_F(FaultConnectorTest, GapsAreCountedFromTheTailAndFromTheHead) {
  open("&gap_tail_ratios=0,0.5&gap_indices=1");
  // round(0.5 x 10) and round(0.5 x 8); a half goes to the even neighbour: round(0.5 x 3).
  EXPECT_EQ(gaps_in(*client, 11), (Gaps{1, 5, 10}));
  EXPECT_EQ(gaps_in(*client, 9), (Gaps{1, 4, 8}));
  EXPECT_EQ(gaps_in(*client, 4), (Gaps{1, 2, 3}));
  EXPECT_EQ(gaps_in(*client, 1), (Gaps{0}));
}

TEST_F(FaultConnectorTest, LmcachesFaultInjectOpensAndTheSameKeysAlwaysFail) {
  Gaps first;
  for (int round = 0; round < 2; ++round) {
    registry = Registry{};
    registry.add(memory::connector_type());
    registry.add(inject_connector_type());
    auto opened = registry.open(R"({"type": "fault_inject", "inner": {"type": "memory"},
        "rate": 0.25, "seed": 3, "gap_indices": [7, 2], "gap_tail_ratios": [1.0]})");
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    if (connector) {
      EXPECT_TRUE(connector->stop(kNever).has_value());
    }
    connector = std::move(opened).value();
    client.emplace(*connector);
    const Gaps gaps = gaps_in(*client, 200);
    for (const std::size_t place : {0U, 2U, 7U}) {
      EXPECT_EQ(std::ranges::count(gaps, place), 1) << place;
    }
    EXPECT_GT(gaps.size(), 25U);
    EXPECT_LT(gaps.size(), 90U);
    if (round == 0) first = gaps;
    EXPECT_EQ(gaps, first);
    EXPECT_FALSE(connector->report().reasons.empty());
    // Lookups and stores are not disturbed, but a failed load is a miss from then on (C6).
    EXPECT_FALSE(client->exists("key-1000")->has_value());
  }
}

TEST_F(FaultConnectorTest, AKeyWhoseGetFailedIsAMissUntilItIsStoredAgain) {
  open("&error_rate=1&pattern=get:1");
  set("key", value_of(1));
  ASSERT_EQ(client->get("key").error().code(), ErrorCode::kIo);

  EXPECT_FALSE(client->exists("key").value().has_value());
  EXPECT_FALSE(client->get("key").value().has_value());
  EXPECT_FALSE(client->touch("key").value());
  One probe{Op::kExists, "key"};
  ASSERT_TRUE(connector->probe({&probe.item, 1}));
  EXPECT_EQ(probe.item.outcome, Outcome::kMiss);
  EXPECT_TRUE(connector->scan({}, 10).value().entries.empty());

  // The inner connector still has it; the Set must write all the same.
  EXPECT_FALSE(client->set("key", value_of(2), SetMode::kIfAbsent).value().existed);
  EXPECT_EQ(client->get("key").value(), value_of(2));
  EXPECT_TRUE(client->set("key", value_of(3), SetMode::kIfAbsent).value().existed);
}

TEST_F(FaultConnectorTest, AFailedSetStoresNothing) {
  open("&error_rate=1&pattern=set:1");
  EXPECT_EQ(client->set("key", value_of(1)).error().code(), ErrorCode::kIo);
  EXPECT_FALSE(client->exists("key").value().has_value());
}

TEST_F(FaultConnectorTest, ADroppedSetIsDoneAndNotThere) {
  open("&drop_rate=1&pattern=set:1");
  set("key", value_of(1));
  EXPECT_FALSE(client->exists("key").value().has_value());
  set("key", value_of(2));
  EXPECT_EQ(client->get("key").value(), value_of(2));
  EXPECT_EQ(counter("faults_drop_total"), 1U);
}

TEST_F(FaultConnectorTest, ADroppedGetIsAMissOnce) {
  open("&drop_rate=1&pattern=get:1");
  set("key", value_of(1));
  EXPECT_FALSE(client->get("key").value().has_value());
  EXPECT_EQ(client->get("key").value(), value_of(1));
  EXPECT_EQ(counter("faults_drop_total"), 1U);
}

TEST_F(FaultConnectorTest, ACorruptedGetIsAHitWithOneBitFlipped) {
  open("&corrupt_rate=1&pattern=get:1");
  set("key", value_of(1));

  const Bytes found = client->get("key").value().value();

  int bits = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    bits += std::popcount(std::to_integer<unsigned>(found[i] ^ value_of(1)[i]));
  }
  EXPECT_EQ(bits, 1);
  EXPECT_EQ(client->get("key").value(), value_of(1));
  EXPECT_EQ(counter("faults_corrupt_total"), 1U);
  EXPECT_EQ(connector->capabilities().integrity, Integrity::kNone);
  EXPECT_EQ(connector->report().integrity, Integrity::kNone);
}

TEST_F(FaultConnectorTest, AMissAndAnEmptyValueAreNotCorrupted) {
  open("&corrupt_rate=1");
  set("empty", {});
  EXPECT_FALSE(client->get("absent").value().has_value());
  EXPECT_EQ(client->get("empty").value(), Bytes{});
  EXPECT_EQ(counter("faults_corrupt_total"), 0U);
}

TEST_F(FaultConnectorTest, ADelayedBatchIsCarriedOutAndComesBackLater) {
  open("&delay_rate=1&delay=20ms");
  const std::uint64_t begin_ns = now_ns();
  set("key", value_of(1));
  EXPECT_GE(now_ns() - begin_ns, 20'000'000U);
  EXPECT_EQ(client->get("key").value(), value_of(1));
  EXPECT_EQ(counter("faults_delay_total"), 3U);
}

TEST_F(FaultConnectorTest, ADelayBeyondTheDeadlineEndsAtTheDeadline) {
  open("&delay_rate=1&delay=1h&pattern=get:1");
  set("key", value_of(1));
  One get{Op::kGet, "key", 1000};
  get.batch.deadline_ns = now_ns() + 10'000'000;
  ASSERT_TRUE(connector->submit(get.batch).has_value());

  wait_for(get.batch);

  EXPECT_GE(now_ns(), get.batch.deadline_ns);
  EXPECT_EQ(get.item.outcome, Outcome::kFailed);
  EXPECT_EQ(get.item.error.code(), ErrorCode::kDeadlineExceeded);
  EXPECT_FALSE(client->get("key").value().has_value());
}

TEST_F(FaultConnectorTest, AStalledBatchFailsAtItsDeadline) {
  open("&stall_rate=1&stall=1h&pattern=get:1");
  set("key", value_of(1));
  One get{Op::kGet, "key", 1000};
  get.batch.deadline_ns = now_ns() + 10'000'000;
  ASSERT_TRUE(connector->submit(get.batch).has_value());
  wait_for(get.batch);
  EXPECT_EQ(get.item.error.code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(get.value, Bytes(1000)) << "a stalled batch is not carried out";
  EXPECT_FALSE(client->exists("key").value().has_value());
  EXPECT_EQ(counter("faults_stall_total"), 1U);
}

TEST_F(FaultConnectorTest, AStalledBatchFailsAsUnavailableWhenTheStallEnds) {
  open("&stall_rate=1&stall=10ms&pattern=set:1");
  EXPECT_EQ(client->set("key", value_of(1)).error().code(), ErrorCode::kUnavailable);
  EXPECT_FALSE(client->exists("key").value().has_value());
}

TEST_F(FaultConnectorTest, AStalledBatchEndsWhenItIsCancelled) {
  open("&stall_rate=1&stall=1h&pattern=exists:1");
  One exists{Op::kExists, "key"};
  ASSERT_TRUE(connector->submit(exists.batch).has_value());
  connector->cancel(exists.batch);
  wait_for(exists.batch);
  EXPECT_EQ(exists.item.error.code(), ErrorCode::kCancelled);
}

TEST_F(FaultConnectorTest, StopEndsWhatIsStalledAndWhatIsDelayed) {
  open("&stall_rate=1&stall=1h&delay_rate=1&delay=1h&pattern=exists:1;get:1");
  One stalled{Op::kExists, "key"};
  One delayed{Op::kGet, "key", 10};
  ASSERT_TRUE(connector->submit(stalled.batch).has_value());
  ASSERT_TRUE(connector->submit(delayed.batch).has_value());

  EXPECT_TRUE(connector->stop(now_ns() + 30'000'000'000).has_value());

  Batch* done[3] = {};
  EXPECT_EQ(connector->reap(done), 2U);
  EXPECT_EQ(stalled.item.error.code(), ErrorCode::kCancelled);
  EXPECT_EQ(delayed.item.error.code(), ErrorCode::kCancelled);
}

TEST_F(FaultConnectorTest, AnIllegalKeyIsInvalidWhateverIsInjected) {
  open("&error_rate=1");
  EXPECT_EQ(client->exists("").error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(client->exists("key").error().code(), ErrorCode::kIo);
}

TEST_F(FaultConnectorTest, ASeedReplays) {
  std::vector<bool> first;
  for (int round = 0; round < 2; ++round) {
    registry = Registry{};
    open("&error_rate=50%25&seed=42");
    std::vector<bool> failed;
    failed.reserve(100);
    for (int i = 0; i < 100; ++i) failed.push_back(!client->exists("key").has_value());
    if (round == 0) first = failed;
    EXPECT_EQ(failed, first);
    EXPECT_TRUE(connector->stop(now_ns() + 30'000'000'000).has_value());
  }
  EXPECT_GT(std::ranges::count(first, true), 20);
  EXPECT_LT(std::ranges::count(first, true), 80);
}

TEST_F(FaultConnectorTest, TheReportSaysThatFaultsAreOnPurposeAndShowsTheInnerOne) {
  open("&error_rate=1&pattern=touch:1");
  set("key", value_of(1));
  const Report report = connector->report();
  EXPECT_EQ(report.type, "fault");
  EXPECT_EQ(report.where, "memory");
  EXPECT_EQ(report.keys, 1U);
  EXPECT_FALSE(report.reasons.empty());
  EXPECT_EQ(counter("inner_sets_total"), 1U);
}

TEST_F(FaultConnectorTest, AfterStopABatchIsRefusedUntouched) {
  open("");
  ASSERT_TRUE(connector->stop(kNever).has_value());
  One exists{Op::kExists, "key"};
  EXPECT_EQ(connector->submit(exists.batch).error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(exists.item.outcome, Outcome::kPending);
}

TEST(FaultTypeTest, AWrongListNamesItselfAndWhatItMustBe) {
  for (const auto& [ratios, indices, wrong] :
       {std::array{"0.5,1.5", "", "1.5"}, std::array{"x", "", "'x'"}, std::array{"", "1,,2", "''"},
        std::array{"", "-1", "-1"}}) {
    const auto parsed = LoadGaps::parse(ratios, indices);
    ASSERT_FALSE(parsed.has_value()) << wrong;
    EXPECT_NE(parsed.error().text.find(wrong), std::string::npos) << parsed.error().text;
  }
}

TEST(FaultTypeTest, AnUnknownInnerTypeOrAWrongPatternIsAnError) {
  Registry registry;
  registry.add(memory::connector_type());
  registry.add(connector_type());
  const auto unknown = registry.open("fault:?inner=memry:");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().text.find("memory"), std::string::npos) << unknown.error().text;
  EXPECT_FALSE(registry.open("fault:?inner=memory:&pattern=put:1").has_value());
  EXPECT_FALSE(registry.open("fault:").has_value());
}

}  // namespace
}  // namespace larder::fault
