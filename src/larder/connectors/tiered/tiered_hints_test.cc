// Prefetch, pin, retain, release, and how long a load would take.
#include <gtest/gtest.h>

#include "larder/connectors/tiered/tiered_test_support.h"
#include "tests/support/temporary_directory.h"

namespace larder::tiered {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kHour = 3'600'000'000'000;

class TieredHintsTest : public TieredFixture {
 protected:
  std::vector<Item> hint(Hint hint, std::uint64_t from, std::uint64_t to,
                         std::uint64_t hold_ns = kHour) {
    Many many{Op::kTouch};
    many.batch.hint = hint;
    many.batch.hold_ns = is_held(hint) ? hold_ns : 0;
    for (std::uint64_t i = from; i < to; ++i) many.add(key_of(i));
    run(many);
    return many.items;
  }
  static std::size_t count(const std::vector<Item>& items, Outcome outcome) {
    return static_cast<std::size_t>(std::ranges::count(items, outcome, &Item::outcome));
  }
  std::uint64_t loads_of_tier() const {
    return inner[0]->report().operation(Op::kGet).total.keys();
  }
  void wait_until_log_has_room() {
    const auto value = [&](std::string_view name) {
      return metric_value(inner[0]->report(), name).value_or(0);
    };
    const std::uint64_t give_up_ns = in_ms(30'000);
    while (value("segments_free") < 5 || value("segments_reclaiming") > 0) {
      ASSERT_LT(now_ns(), give_up_ns) << "the log does not make room";
    }
  }

  testing::TemporaryDirectory directory;
  /// Stores go to the tiers and not into L1.
  TieredOptions options{.l1_bytes = 4 * kMiB, .promote = cache::Promote::kDefault, .skip_l1 = true};
};

TEST_F(TieredHintsTest, APrefetchBringsValuesIntoL1) {
  open(options, {"memory:"});
  store(0, 10);
  EXPECT_EQ(counter("l1_keys"), 0U);

  const auto items = hint(Hint::kPrefetch, 0, 12);

  EXPECT_EQ(count(items, Outcome::kDone), 10U);
  EXPECT_EQ(count(items, Outcome::kMiss), 2U);
  EXPECT_EQ(counter("l1_prefetched_total"), 10U);
  const std::uint64_t loads = loads_of_tier();
  EXPECT_EQ(loads, 10U);
  EXPECT_EQ(hits(0, 10), 10U);
  EXPECT_EQ(loads_of_tier(), loads) << "all of them came from L1";
  EXPECT_EQ(counter("l1_hits_total"), 10U);
  EXPECT_EQ(count(hint(Hint::kPrefetch, 0, 10), Outcome::kDone), 10U);
  EXPECT_EQ(loads_of_tier(), loads) << "what is there is not loaded again";
}

TEST_F(TieredHintsTest, APrefetchAsksTiersThatHaveNoProbe) {
  open(options, {"fs:" + directory.path()});
  store(0, 5, 3000);
  EXPECT_EQ(count(hint(Hint::kPrefetch, 0, 6), Outcome::kDone), 5U);
  EXPECT_EQ(hits(0, 5, 3000), 5U);
  EXPECT_EQ(counter("l1_hits_total"), 5U);
}

TEST_F(TieredHintsTest, WhatHasNoRoomInL1IsRefused) {
  open(options, {"memory:"});
  store(0, 12, 512 * 1024);
  const auto items = hint(Hint::kPrefetch, 0, 12);
  EXPECT_GE(count(items, Outcome::kDone), 6U);
  EXPECT_GE(count(items, Outcome::kFailed), 4U);
  EXPECT_EQ(items[11].error.code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(connector->report().health, Health::kHealthy);
}

TEST_F(TieredHintsTest, APrefetchOfManyEvictsWhatIsColder) {
  options.skip_l1 = false;
  open(options, {"memory:"});
  store(0, 2000, 2000);  // L1 has the last thousand.
  EXPECT_EQ(count(hint(Hint::kPrefetch, 0, 900), Outcome::kDone), 900U);
  const std::uint64_t loads = loads_of_tier();
  EXPECT_EQ(hits(0, 900, 2000), 900U);
  EXPECT_EQ(loads_of_tier(), loads);
}

TEST_F(TieredHintsTest, WhatIsPinnedStaysInL1) {
  open(options, {"memory:"});
  store(0, 4000);
  ASSERT_EQ(count(hint(Hint::kPin, 0, 10), Outcome::kDone), 10U);
  EXPECT_EQ(counter("l1_pinned_keys"), 10U);
  EXPECT_EQ(counter("l1_pinned_bytes"), 10U * 4096);

  for (std::uint64_t i = 10; i < 4000; i += 500)
    hint(Hint::kPrefetch, i, std::min(i + 500, std::uint64_t{4000}));

  const std::uint64_t loads = loads_of_tier();
  EXPECT_EQ(hits(0, 10), 10U);
  EXPECT_EQ(loads_of_tier(), loads);

  EXPECT_EQ(count(hint(Hint::kRelease, 0, 10), Outcome::kDone), 10U);
  EXPECT_EQ(count(hint(Hint::kRelease, 0, 10), Outcome::kMiss), 10U);
  EXPECT_EQ(counter("l1_pinned_bytes"), 0U);
  for (std::uint64_t i = 10; i < 4000; i += 500)
    hint(Hint::kPrefetch, i, std::min(i + 500, std::uint64_t{4000}));
  const std::uint64_t before = loads_of_tier();
  EXPECT_EQ(hits(0, 10), 10U);
  EXPECT_EQ(loads_of_tier(), before + 10) << "they had left";
}

TEST_F(TieredHintsTest, APinEndsWithItsTime) {
  open(options, {"memory:"});
  store(0, 10);
  ASSERT_EQ(count(hint(Hint::kPin, 0, 10, 1), Outcome::kDone), 10U);
  hint(Hint::kPin, 0, 1);  // This one lasts.
  // A nanosecond is over soon, and the next batch's turn notices.
  for (int i = 0; i < 1000 && counter("l1_pinned_keys") > 1; ++i) hint(Hint::kPin, 0, 1);
  EXPECT_EQ(counter("l1_pinned_keys"), 1U);
  EXPECT_EQ(count(hint(Hint::kRelease, 0, 10), Outcome::kDone), 1U);
}

TEST_F(TieredHintsTest, APinBeyondTheBudgetIsRefusedAndReported) {
  options.pins_share = 0.25;
  open(options, {"memory:"});
  store(0, 16, 256 * 1024);
  const auto items = hint(Hint::kPin, 0, 8);
  EXPECT_EQ(count(items, Outcome::kDone), 4U);
  ASSERT_EQ(count(items, Outcome::kFailed), 4U);
  for (const Item& item : items) {
    if (item.outcome != Outcome::kFailed) continue;
    EXPECT_EQ(item.error.code(), ErrorCode::kResourceExhausted);
    EXPECT_NE(item.error.to_string().find("pins="), std::string::npos);
  }
  EXPECT_EQ(counter("l1_pins_refused_total"), 4U);
  EXPECT_EQ(connector->report().health, Health::kHealthy);
  EXPECT_EQ(hits(0, 16, 256 * 1024), 16U);
}

TEST_F(TieredHintsTest, RetainGoesToTheTiersThatCanAndIsRefusedWithoutOne) {
  open(options, {"memory:?capacity=64KiB", "fs:" + directory.path()});
  EXPECT_NE(connector->capabilities().hints & bit_of(Hint::kRetain), 0);
  store(0, 4);
  EXPECT_EQ(count(hint(Hint::kRetain, 0, 5), Outcome::kDone), 4U);
  EXPECT_EQ(metric_value(inner[0]->report(), "pinned_keys"), 4U);
  EXPECT_EQ(count(hint(Hint::kRelease, 0, 4), Outcome::kDone), 4U);
  EXPECT_EQ(metric_value(inner[0]->report(), "pinned_keys"), 0U);
}

TEST_F(TieredHintsTest, WhatTheLogRetainsOutlivesWhatWasOnlyUsed) {
  open(options, {"log:" + directory.path() +
                 "/kv?capacity=32MiB&min_free=0&segment=1MiB&max_value=64KiB&eviction=oldest"});
  constexpr std::size_t kBytes = 60'000;
  store(0, 40, kBytes);
  ASSERT_EQ(count(hint(Hint::kRetain, 0, 20), Outcome::kDone), 20U);
  hint(Hint::kNone, 20, 40);
  EXPECT_EQ(metric_value(inner[0]->report(), "retained_keys"), 20U);

  // A record without room for the reclaimer goes, whatever it is (L10): it may go along.
  for (std::uint64_t i = 1000; i < 2500; i += 5) {
    store(i, i + 5, kBytes);
    wait_until_log_has_room();
  }

  EXPECT_EQ(hits(0, 20, kBytes), 20U);
  EXPECT_EQ(hits(20, 40, kBytes), 0U) << "a use carries a value over once";
  EXPECT_EQ(metric_value(inner[0]->report(), "retentions_lost_total"), 0U);
  // Every value of 60,000 bytes counts: a quarter of 32 MiB is full with 139 of them.
  for (std::uint64_t i = 5000; i < 5200; i += 5) {
    store(i, i + 5, kBytes);
    wait_until_log_has_room();
  }
  const auto many = hint(Hint::kRetain, 5000, 5200);
  EXPECT_EQ(count(many, Outcome::kDone), 139U - 20U);
  EXPECT_EQ(metric_value(inner[0]->report(), "retentions_refused_total"), 81U);
}

TEST_F(TieredHintsTest, WhatTheLogRetainsOutlivesWhatIsWorthMore) {
  open(options, {"log:" + directory.path() +
                 "/kv?capacity=32MiB&min_free=0&segment=1MiB&max_value=64KiB&eviction=worth"});
  constexpr std::size_t kBytes = 60'000;
  store(0, 40, kBytes);
  ASSERT_EQ(count(hint(Hint::kRetain, 0, 20), Outcome::kDone), 20U);

  // All others are used again, so that the retained ones are worth least.
  for (std::uint64_t i = 1000; i < 4000; i += 5) {
    store(i, i + 5, kBytes);
    hint(Hint::kNone, i, i + 5);
    wait_until_log_has_room();
  }

  EXPECT_GT(metric_value(inner[0]->report(), "segments_reclaimed_early_total"), 0U);
  EXPECT_EQ(metric_value(inner[0]->report(), "retentions_lost_total"), 0U);
  EXPECT_EQ(hits(0, 20, kBytes), 20U);
  EXPECT_EQ(count(hint(Hint::kRelease, 0, 20), Outcome::kDone), 20U);
  EXPECT_EQ(metric_value(inner[0]->report(), "retained_keys"), 0U);
}

TEST_F(TieredHintsTest, WithoutATierThatCanRetainItIsRefused) {
  open(options, {"fs:" + directory.path()});
  store(0, 1);
  const auto items = hint(Hint::kRetain, 0, 1);
  EXPECT_EQ(items[0].outcome, Outcome::kFailed);
  EXPECT_EQ(items[0].error.code(), ErrorCode::kUnimplemented);
}

TEST_F(TieredHintsTest, ASecondPinWhileTheFirstLoadsWaitsForItAndLoadsNothing) {
  open(options, {"fault:?inner=memory:&delay_rate=1&delay=50ms&pattern=get:*"});
  store(0, 20);
  Many first{Op::kTouch};
  Many second{Op::kTouch};
  for (Many* const many : {&first, &second}) {
    many->batch.hint = Hint::kPin;
    many->batch.hold_ns = kHour;
    for (std::uint64_t i = 0; i < 20; ++i) many->add(key_of(i));
    ASSERT_TRUE(connector->submit(many->prepare()).has_value());
  }
  ASSERT_NO_FATAL_FAILURE(wait_for_batches(2));
  EXPECT_EQ(count(first.items, Outcome::kDone), 20U);
  EXPECT_EQ(count(second.items, Outcome::kDone), 20U);
  EXPECT_EQ(counter("l1_prefetched_total"), 20U);
  EXPECT_EQ(counter("l1_pinned_keys"), 20U);
}

TEST_F(TieredHintsTest, APinAndALoadOfTheSameKeysGetAlong) {
  options.promote = cache::Promote::kRetain;
  open(options, {"fs:" + directory.path()});
  store(0, 50);
  Many load{Op::kGet};
  Many pin{Op::kTouch};
  pin.batch.hint = Hint::kPin;
  pin.batch.hold_ns = kHour;
  for (std::uint64_t i = 0; i < 50; ++i) {
    load.add(key_of(i), Bytes(1000));
    pin.add(key_of(i));
  }
  ASSERT_TRUE(connector->submit(load.prepare()).has_value());
  ASSERT_TRUE(connector->submit(pin.prepare()).has_value());
  ASSERT_NO_FATAL_FAILURE(wait_for_batches(2));
  EXPECT_EQ(count(load.items, Outcome::kHit), 50U);
  EXPECT_EQ(count(pin.items, Outcome::kDone), 50U);
  for (std::uint64_t i = 0; i < 50; ++i) EXPECT_EQ(load.value(i), value_of(i));
  EXPECT_EQ(counter("l1_pinned_keys"), 50U);
}

TEST_F(TieredHintsTest, ALookupTellsWhereAValueWouldComeFromAndHowLongThatTakes) {
  options.skip_l1 = false;
  open(options, {"memory:?capacity=64MiB", "memory:?capacity=64MiB"});
  store(0, 10);
  Many exists{Op::kExists};
  for (std::uint64_t i = 0; i < 10; ++i) exists.add(key_of(i));
  exists.batch.wants_places = true;
  run(exists);
  for (const Item& item : exists.items) EXPECT_EQ(item.place, 0U) << "all are in L1";
  EXPECT_EQ(load_ns_of(*connector, exists.items), kNever) << "nothing was loaded yet";
  EXPECT_EQ(hits(0, 10), 10U);
  EXPECT_NE(load_ns_of(*connector, exists.items), kNever);

  const LoadSize of_tier{.place = 1, .values = 1, .bytes = 1000};
  EXPECT_EQ(connector->load_ns({&of_tier, 1}), kNever) << "nothing came from the tier";
  const LoadSize of_nowhere{.place = 7, .values = 1, .bytes = 1000};
  EXPECT_EQ(connector->load_ns({&of_nowhere, 1}), kNever);
}

}  // namespace
}  // namespace larder::tiered
