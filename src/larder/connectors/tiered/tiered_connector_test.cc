#include "larder/connectors/tiered/tiered_connector.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "larder/connectors/tiered/tiered_test_support.h"
#include "tests/support/temporary_directory.h"

namespace larder::tiered {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

/// A tier that is not memory, so that its values are promoted.
std::string log_spec(const std::string& path) {
  return "log:" + path + "?capacity=64MiB&min_free=0&segment=1MiB&max_value=512KiB";
}

class TieredConnectorTest : public TieredFixture {
 protected:
  std::string log() { return log_spec(directory.path() + "/" + std::to_string(++stores_)); }
  std::string last_log() const {
    return log_spec(directory.path() + "/" + std::to_string(stores_));
  }
  /// Closes the connector and opens another one over the same tiers.
  void reopen() {
    TearDown();
    connector.reset();
    inner.clear();
    open(options, {last_log()});
  }

  testing::TemporaryDirectory directory;
  TieredOptions options{.l1_bytes = 8 * kMiB};

 private:
  int stores_ = 0;
};

// ---- Where values are found.

TEST_F(TieredConnectorTest, WhatWasStoredIsLoadedFromL1) {
  open(options, {log()});
  store(0, 20);

  EXPECT_EQ(hits(0, 20), 20U);

  EXPECT_EQ(counter("l1_hits_total"), 20U);
  EXPECT_EQ(counter("tier1_hits_total"), 0U);
  EXPECT_EQ(counter("tier1_stores_total"), 20U);
  EXPECT_EQ(keys_in(0), 20U);
}

TEST_F(TieredConnectorTest, PromotionMakesTheSecondLoadAnL1HitWithoutAnyL2Io) {
  open(options, {log()});
  store(0, 20);
  reopen();

  EXPECT_EQ(hits(0, 20), 20U);
  EXPECT_EQ(counter("tier1_hits_total"), 20U);
  EXPECT_EQ(counter("l1_promoted_total"), 20U);
  const std::uint64_t loads = inner[0]->report().operation(Op::kGet).total.keys();
  EXPECT_EQ(hits(0, 20), 20U);

  EXPECT_EQ(inner[0]->report().operation(Op::kGet).total.keys(), loads);
  EXPECT_EQ(counter("l1_hits_total"), 20U);
}

TEST_F(TieredConnectorTest, SecondHitPromotesWhatIsLoadedTwice) {
  options.promote = cache::Promote::kSecondHit;
  open(options, {log()});
  store(0, 5);
  reopen();

  hits(0, 5);
  EXPECT_EQ(counter("l1_promoted_total"), 0U);
  hits(0, 5);
  EXPECT_EQ(counter("l1_promoted_total"), 5U);
  hits(0, 5);

  EXPECT_EQ(counter("tier1_hits_total"), 10U);
  EXPECT_EQ(counter("l1_hits_total"), 5U);
}

TEST_F(TieredConnectorTest, AMemorySourceIsNotPromoted) {
  options.skip_l1 = true;
  open(options, {"memory:"});
  store(0, 5);

  hits(0, 5);
  hits(0, 5);

  EXPECT_EQ(counter("l1_promoted_total"), 0U);
  EXPECT_EQ(counter("tier1_hits_total"), 10U);
}

TEST_F(TieredConnectorTest, NothingBehindAHoleStaysWhereKeysAreOrdered) {
  open(options, {log()});
  store(0, 2);
  store(3, 5);
  reopen();

  EXPECT_EQ(hits(0, 5), 4U);

  EXPECT_EQ(counter("l1_promoted_total"), 2U);
}

TEST_F(TieredConnectorTest, UnorderedKeysAreEachForItself) {
  options.is_ordered = false;
  open(options, {log()});
  store(0, 2);
  store(3, 5);
  reopen();

  EXPECT_EQ(hits(0, 5), 4U);

  EXPECT_EQ(counter("l1_promoted_total"), 4U);
}

TEST_F(TieredConnectorTest, WhatTheFirstTierLacksComesFromTheSecond) {
  options.skip_l1 = true;
  options.promote = cache::Promote::kDefault;
  open(options, {"memory:?capacity=5KiB", "memory:"});  // The first one keeps few.
  store(0, 10);
  const std::uint64_t in_first = keys_in(0);
  EXPECT_LT(in_first, 6U);
  EXPECT_EQ(keys_in(1), 10U);

  EXPECT_EQ(hits(0, 12), 10U);

  EXPECT_EQ(counter("tier1_hits_total"), in_first);
  EXPECT_EQ(counter("tier2_hits_total"), 10 - in_first);
}

TEST_F(TieredConnectorTest, AProbeKnowsWhatOnlyL1HasAndWhatOnlyATierHas) {
  open(options, {"memory:?capacity=5KiB"});  // It keeps the last few.
  ASSERT_TRUE(connector->capabilities().has_probe);
  store(0, 10);
  ASSERT_LT(keys_in(0), 6U);
  Many probed{Op::kExists};
  for (std::uint64_t i = 0; i < 12; ++i) probed.add(key_of(i));
  probed.prepare();

  ASSERT_TRUE(connector->probe(probed.items));

  for (std::uint64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(probed.items[i].outcome, i < 10 ? Outcome::kHit : Outcome::kMiss) << i;
    EXPECT_EQ(probed.items[i].value_bytes, i < 10 ? 1000U : 0U);
  }
}

TEST_F(TieredConnectorTest, WithWriteBackAProbeDoesNotAnswer) {
  options.write = Write::kBack;
  open(options, {"memory:"});
  Many probed{Op::kExists};
  probed.add("key");
  probed.prepare();

  EXPECT_FALSE(connector->probe(probed.items));
  EXPECT_FALSE(connector->capabilities().has_probe);
}

// ---- When a Set is done.

TEST_F(TieredConnectorTest, WriteBackIsDoneInL1AndReachesTheTierBehind) {
  options.write = Write::kBack;
  open(options, {log()});
  EXPECT_FALSE(connector->capabilities().survives_restart);
  store(0, 50);
  wait_until_written();

  EXPECT_EQ(keys_in(0), 50U);
}

TEST_F(TieredConnectorTest, StopWritesWhatIsLeft) {
  options.write = Write::kBack;
  open(options, {log()});
  store(0, 200);
  reopen();

  EXPECT_EQ(keys_in(0), 200U);
  EXPECT_EQ(hits(0, 200), 200U);
}

TEST_F(TieredConnectorTest, BufferOnlyTakesTenTimesL1) {
  options.l1_bytes = 2 * kMiB;
  options.write = Write::kBack;
  options.skip_l1 = true;
  options.policy = "noop";
  options.promote = cache::Promote::kDefault;
  open(options, {log()});
  constexpr std::size_t kBytes = 64 << 10;
  constexpr std::uint64_t kValues = 10 * 2 * kMiB / kBytes;
  for (std::uint64_t i = 0; i < kValues; i += 8) store(i, i + 8, kBytes);
  wait_until_written();

  EXPECT_EQ(keys_in(0), kValues);
  EXPECT_EQ(counter("l1_keys"), 0U);
  for (std::uint64_t i = 0; i < kValues; i += 8) EXPECT_EQ(hits(i, i + 8, kBytes), 8U);
  EXPECT_EQ(counter("values_given_up_total"), 0U);
}

TEST_F(TieredConnectorTest, AValueThatL1HasNoRoomForGoesToTheTier) {
  options.l1_bytes = kMiB;
  for (const Write write : {Write::kThrough, Write::kBack}) {
    options.write = write;
    open(options, {"memory:"});
    store(0, 1, 3 * kMiB);
    EXPECT_EQ(hits(0, 1, 3 * kMiB), 1U);
    EXPECT_EQ(keys_in(0), 1U);
    EXPECT_EQ(counter("l1_keys"), 0U);
    TearDown();
    connector.reset();
    inner.clear();
  }
}

TEST_F(TieredConnectorTest, AValueThatNoTierMayTakeIsRefusedWithTheReason) {
  options.l1_bytes = kMiB;
  options.write = Write::kBack;
  options.tiers = {{.store = false}};
  open(options, {"memory:"});
  store(0, 1);
  Many many{Op::kSet};
  many.add("large", Bytes(3 * kMiB));

  run(many);

  EXPECT_EQ(many.items[0].outcome, Outcome::kFailed);
  EXPECT_EQ(many.items[0].error.code(), ErrorCode::kResourceExhausted);
  EXPECT_NE(many.items[0].error.what().find("store=no"), std::string_view::npos);
}

TEST_F(TieredConnectorTest, OverTiersThatAreOnlyReadL1TakesTheStores) {
  options.tiers = {{.store = false}};
  open(options, {"memory:"});
  EXPECT_FALSE(connector->capabilities().survives_restart);
  for (const SetMode mode : {SetMode::kIfAbsent, SetMode::kReplace}) {
    store(0, 5, 1000, mode);
    EXPECT_EQ(hits(0, 5), 5U);
  }
  EXPECT_EQ(keys_in(0), 0U);
}

TEST_F(TieredConnectorTest, WithMinHitsATierGetsOnlyWhatIsRead) {
  options.write = Write::kBack;
  options.tiers = {{.min_hits = 2}};
  open(options, {log()});
  store(0, 10);
  hits(0, 10);
  wait_until_written();
  EXPECT_EQ(keys_in(0), 0U);

  hits(0, 3);
  wait_until_written();

  EXPECT_EQ(keys_in(0), 3U);
}

// ---- Replacing and deleting.

TEST_F(TieredConnectorTest, NoOlderValueComesBack) {
  for (const Write write : {Write::kThrough, Write::kBack}) {
    options.write = write;
    options.l1_bytes = kMiB;
    open(options, {log(), "memory:"});
    store(0, 10);
    Many replaced{Op::kSet};
    replaced.batch.set_mode = SetMode::kReplace;
    for (std::uint64_t i = 0; i < 10; ++i) replaced.add(key_of(i), value_of(100 + i));
    run(replaced);
    store(1000, 1100, 64 << 10);  // All of L1, so that the tiers must answer.
    Many loaded{Op::kGet};
    for (std::uint64_t i = 0; i < 10; ++i) loaded.add(key_of(i), Bytes(1000));
    run(loaded);
    for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(loaded.value(i), value_of(100 + i));

    Many removed{Op::kDelete};
    for (std::uint64_t i = 0; i < 10; ++i) removed.add(key_of(i));
    run(removed);
    EXPECT_EQ(hits(0, 10), 0U);
    wait_until_written();
    EXPECT_EQ(hits(0, 10), 0U);
    TearDown();
    connector.reset();
    inner.clear();
  }
}

TEST_F(TieredConnectorTest, ADeleteReachesTiersThatAreNotStoredTo) {
  auto first = builtin_registry().open("memory:");
  ASSERT_TRUE(first);
  Many before{Op::kSet};
  before.add("old", value_of(1));
  ASSERT_TRUE((*first)->submit(before.prepare()));
  Batch* done = nullptr;
  ASSERT_EQ((*first)->reap({&done, 1}), 1U);
  options.tiers = {{.store = false}};
  std::vector<std::unique_ptr<Connector>> tiers;
  tiers.push_back(std::move(*first));
  open_with(options, std::move(tiers));

  Many removed{Op::kDelete};
  removed.add("old");
  run(removed);

  EXPECT_EQ(removed.items[0].outcome, Outcome::kDone);
  EXPECT_EQ(keys_in(0), 0U);
}

// ---- What it says.

TEST_F(TieredConnectorTest, ATierInTroubleIsNamed) {
  open(options, {"memory:", "fault:?inner=memory:&error_rate=1"});
  Many stores{Op::kSet};
  for (std::uint64_t i = 0; i < 40; ++i) stores.add(key_of(i), value_of(i));

  run(stores);

  for (const Item& item : stores.items) EXPECT_EQ(item.outcome, Outcome::kDone);
  const Report report = connector->report();
  EXPECT_EQ(report.health, Health::kDegraded);
  EXPECT_TRUE(std::ranges::any_of(report.reasons, [](const std::string& reason) {
    return reason.find("tier 2 (fault:memory) is degraded") != std::string::npos;
  }));
  EXPECT_EQ(counter("tier2_store_failures_total"), 40U);
}

TEST(TieredSpecTest, TiersAreReadByTheirOrderAndListsByTier) {
  for (
      const char* spec :
      {"tiered:?l1=2MiB&l2=memory:&l2=fault:%3Finner%3Dmemory:&store=yes,no&write=back",
       R"({"type":"tiered","l1":"2MiB","l2":[{"type":"memory"},{"type":"fault","inner":"memory:"}],)"
       R"("store":[true,false],"write":"back"})"}) {
    const auto opened = builtin_registry().open(spec);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    EXPECT_EQ((*opened)->report().where, "memory:, fault:memory");
    EXPECT_TRUE((*opened)->stop(in_ms(10'000)));
  }
}

TEST(TieredSpecTest, WhatDoesNotFitTogetherIsRefusedWithTheReason) {
  const std::pair<const char*, const char*> wrong[] = {
      {"tiered:", "'l2' is missing"},
      {"tiered:?l2=memory:&store=yes,no", "there are 1 tiers"},
      {"tiered:?l2=memory:&load=perhaps", "expected yes or no"},
      {"tiered:?l2=memory:&min_hits=2", "needs write=back"},
      {"tiered:?l2=memory:&fill=often", "expected never, second_hit or always"},
      {"tiered:?l2=memory:&skip_l1=yes&store=no", "skip_l1=yes"},
      {"tiered:?l2=memroy:", "did you mean 'memory'"},
      {"tiered:?l2=memory:&l2=memory:&l2=memory:&l2=memory:&l2=memory:",
       "unknown parameter 'l2.5'"},
  };
  for (const auto& [spec, text] : wrong) {
    const auto opened = builtin_registry().open(spec);
    ASSERT_FALSE(opened.has_value()) << spec;
    EXPECT_NE(opened.error().text.find(text), std::string::npos) << opened.error().text;
  }
}

}  // namespace
}  // namespace larder::tiered
