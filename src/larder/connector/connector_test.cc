#include "larder/connector/connector.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>

#include "larder/connector/batch_limits.h"

namespace larder {
namespace {

/// An enum as C and Python may pass it.
template <class Enum>
Enum from_outside(std::uint8_t number) {
  Enum value{};
  std::memcpy(&value, &number, sizeof value);
  return value;
}

class CheckTest : public testing::Test {
 protected:
  CheckTest() {
    item_.key = std::span{key_}.first(1);
    item_.value = slices_;
    batch_.items = {&item_, 1};
  }
  Status check() const { return check_item(batch_, item_, 100, 2); }

  std::array<std::byte, kKeyBytesMax + 1> key_{};
  std::array<std::byte, 128> memory_{};
  std::array<Slice, 2> slices_ = {Slice{memory_.data(), 60}, Slice{memory_.data(), 40}};
  Item item_;
  Batch batch_;
};

TEST_F(CheckTest, ARightBatchAndItemPass) {
  EXPECT_TRUE(check_batch(batch_));
  EXPECT_TRUE(check());
  item_.key = std::span{key_}.first(kKeyBytesMax);
  item_.value = {};
  EXPECT_TRUE(check());
}

TEST_F(CheckTest, ABatchHasOneToItemsMaxItemsAndNamedEnums) {
  const Batch empty;
  EXPECT_EQ(check_batch(empty).error().code(), ErrorCode::kInvalidArgument);
  std::vector<Item> items(kItemsMax + 1);
  batch_.items = items;
  EXPECT_EQ(check_batch(batch_).error().code(), ErrorCode::kInvalidArgument);
  batch_.items = std::span{items}.first(kItemsMax);
  EXPECT_TRUE(check_batch(batch_));

  batch_.op = from_outside<Op>(0);
  EXPECT_FALSE(check_batch(batch_));
  batch_.op = from_outside<Op>(6);
  EXPECT_FALSE(check_batch(batch_));
  batch_.op = Op::kTouch;
  EXPECT_TRUE(check_batch(batch_));
  batch_.urgency = from_outside<Urgency>(4);
  EXPECT_FALSE(check_batch(batch_));
  batch_.urgency = Urgency::kBackground;
  batch_.set_mode = from_outside<SetMode>(2);
  EXPECT_FALSE(check_batch(batch_));
}

TEST_F(CheckTest, AKeyHas1To1024Bytes) {
  item_.key = {};
  EXPECT_EQ(check().error().code(), ErrorCode::kInvalidArgument);
  item_.key = key_;
  EXPECT_EQ(check().error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(CheckTest, AValueIsBoundedInBytesAndSlices) {
  batch_.op = Op::kSet;
  slices_[1].bytes = 41;
  EXPECT_EQ(check().error().code(), ErrorCode::kInvalidArgument);
  // Sums that wrap around are too large too.
  slices_[1].bytes = std::numeric_limits<std::size_t>::max() - 59;
  EXPECT_FALSE(check());
  slices_[1] = Slice{nullptr, 1};
  EXPECT_FALSE(check());
  slices_[1] = Slice{nullptr, 0};
  EXPECT_TRUE(check());
  EXPECT_FALSE(check_item(batch_, item_, 100, 1));
}

TEST_F(CheckTest, AGetMayBeLargerThanWhatIsLetIn) {
  batch_.op = Op::kGet;
  slices_[1].bytes = 41;
  EXPECT_TRUE(check()) << "it may have been stored under a larger bound";
  slices_[1].bytes = kValueBytesMax;
  EXPECT_EQ(check().error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(CheckTest, OnlyGetAndSetHaveAValue) {
  batch_.op = Op::kSet;
  EXPECT_TRUE(check());
  for (const Op op : {Op::kExists, Op::kDelete, Op::kTouch}) {
    batch_.op = op;
    item_.value = slices_;
    EXPECT_EQ(check().error().code(), ErrorCode::kInvalidArgument);
    item_.value = {};
    EXPECT_TRUE(check());
  }
}

TEST(NameTest, ReportEnumsHaveNames) {
  EXPECT_EQ(name_of(Integrity::kNone), "none");
  EXPECT_EQ(name_of(Integrity::kChecked), "checked");
  EXPECT_EQ(name_of(Locality::kMemory), "memory");
  EXPECT_EQ(name_of(Locality::kLocalDisk), "local_disk");
  EXPECT_EQ(name_of(Locality::kSharedFiles), "shared_files");
  EXPECT_EQ(name_of(Locality::kRemote), "remote");
  EXPECT_EQ(name_of(Locality::kOtherProcess), "other_process");
  EXPECT_EQ(name_of(Health::kHealthy), "healthy");
  EXPECT_EQ(name_of(Health::kDegraded), "degraded");
  EXPECT_EQ(name_of(Health::kDown), "down");
}

// ---- BatchLimits --------------------------------------------------------------------------------

TEST(BatchLimitsTest, EveryOperationHasItsClass) {
  EXPECT_EQ(class_of(Op::kExists), BatchClass::kLookup);
  EXPECT_EQ(class_of(Op::kTouch), BatchClass::kLookup);
  EXPECT_EQ(class_of(Op::kGet), BatchClass::kLoad);
  EXPECT_EQ(class_of(Op::kSet), BatchClass::kStore);
  EXPECT_EQ(class_of(Op::kDelete), BatchClass::kStore);
}

TEST(BatchLimitsTest, BytesAndBatchesAreBoundedPerClass) {
  BatchLimits limits{{.batches_max = 2, .bytes_max = 100}};
  ASSERT_TRUE(limits.admit(BatchClass::kStore, 60));
  EXPECT_EQ(limits.admit(BatchClass::kStore, 41).error().code(), ErrorCode::kResourceExhausted);
  ASSERT_TRUE(limits.admit(BatchClass::kStore, 40));
  EXPECT_EQ(limits.admit(BatchClass::kStore, 0).error().code(), ErrorCode::kResourceExhausted);

  EXPECT_TRUE(limits.admit(BatchClass::kLoad, 100)) << "stores used up the share of loads";

  limits.release(BatchClass::kStore, 40);
  EXPECT_TRUE(limits.admit(BatchClass::kStore, 40));
  const auto store = limits.usage()[static_cast<std::size_t>(BatchClass::kStore)];
  EXPECT_EQ(store.batches, 2U);
  EXPECT_EQ(store.bytes, 100U);
  EXPECT_EQ(store.refused_total, 2U);
}

TEST(BatchLimitsTest, ABatchBeyondTheLimitIsAdmittedWhenItsClassIsIdle) {
  BatchLimits limits{{.batches_max = 2, .bytes_max = 100}};
  ASSERT_TRUE(limits.admit(BatchClass::kLoad, 1000));
  EXPECT_FALSE(limits.admit(BatchClass::kLoad, 1));
  limits.release(BatchClass::kLoad, 1000);
  ASSERT_TRUE(limits.admit(BatchClass::kLoad, 1));
  EXPECT_FALSE(limits.admit(BatchClass::kLoad, std::numeric_limits<std::uint64_t>::max()));
}

TEST(BatchLimitsTest, TheReportCarriesTheNumbers) {
  BatchLimits limits{{.batches_max = 1, .bytes_max = 100}};
  ASSERT_TRUE(limits.admit(BatchClass::kLookup, 7));
  EXPECT_FALSE(limits.admit(BatchClass::kLookup, 7));

  Report report;
  limits.append_report(report);
  const ClassReport& lookups = report.of_class(BatchClass::kLookup);
  EXPECT_EQ(lookups.batches_in_flight, 1U);
  EXPECT_EQ(lookups.bytes_in_flight, 7U);
  EXPECT_EQ(lookups.batches_refused, 1U);
  EXPECT_EQ(report.of_class(BatchClass::kStore).batches_in_flight, 0U);
}

TEST(BatchLimitsDeathTest, ReleasingWhatWasNotAdmittedIsABug) {
  BatchLimits limits{{}};
  EXPECT_DEATH(limits.release(BatchClass::kLoad, 0), "LARDER_CHECK failed");
}

TEST(BatchLimitsTest, BytesOfABatchAreItsSlices) {
  std::array<std::byte, 8> memory{};
  const std::array slices = {Slice{memory.data(), 3}, Slice{memory.data(), 5}};
  std::array<Item, 2> items;
  items[0].value = slices;
  items[1].value = std::span{slices}.first(1);
  Batch batch;
  batch.items = items;
  EXPECT_EQ(BatchLimits::bytes_of_batch(batch), 11U);
}

TEST(HintTest, OnlyATouchCarriesOneAndOnlyPinsAndRetentionsLast) {
  Item item;
  Batch batch;
  batch.items = {&item, 1};
  const auto is_legal = [&](Op op, Hint hint, std::uint64_t hold_ns) {
    batch.op = op;
    batch.hint = hint;
    batch.hold_ns = hold_ns;
    return check_batch(batch).has_value();
  };
  EXPECT_TRUE(is_legal(Op::kTouch, Hint::kNone, 0));
  EXPECT_TRUE(is_legal(Op::kTouch, Hint::kPrefetch, 0));
  EXPECT_TRUE(is_legal(Op::kTouch, Hint::kRelease, 0));
  for (const Hint hint : {Hint::kPin, Hint::kRetain}) {
    EXPECT_FALSE(is_legal(Op::kTouch, hint, 0));
    EXPECT_TRUE(is_legal(Op::kTouch, hint, 1));
    EXPECT_TRUE(is_legal(Op::kTouch, hint, kHoldNsMax));
    EXPECT_FALSE(is_legal(Op::kTouch, hint, kHoldNsMax + 1));
    EXPECT_FALSE(is_legal(Op::kGet, hint, 1));
  }
  EXPECT_FALSE(is_legal(Op::kTouch, Hint::kPrefetch, 1));
  EXPECT_FALSE(is_legal(Op::kSet, Hint::kRelease, 0));
  EXPECT_FALSE(is_legal(Op::kTouch, static_cast<Hint>(kHintCount), 0));
}

/// Answers with the request.
class Estimator final : public Connector {
 public:
  Status submit(Batch& /*batch*/) noexcept override { return {}; }
  std::size_t reap(std::span<Batch*> /*done*/) noexcept override { return 0; }
  int event_fd() const noexcept override { return -1; }
  void cancel(Batch& /*batch*/) noexcept override {}
  bool probe(std::span<Item> /*items*/) const noexcept override { return false; }
  Capabilities capabilities() const noexcept override { return {}; }
  Report report() const override { return {}; }
  Result<ScanPage> scan(ScanCursor /*from*/, std::size_t /*keys_max*/) override {
    return ScanPage{};
  }
  Status stop(std::uint64_t /*deadline_ns*/) noexcept override { return {}; }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    asked.assign(sizes.begin(), sizes.end());
    return 77;
  }

  mutable std::vector<LoadSize> asked;
};

TEST(LoadNsTest, HitsAreSummedUpByTheirPlace) {
  const Estimator connector;
  std::vector<Item> items(5);
  EXPECT_EQ(load_ns_of(connector, items), 0U) << "nothing is there to load";
  EXPECT_TRUE(connector.asked.empty());
  const std::uint8_t places[] = {2, 0, 2, 1, 200};
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].outcome = i == 3 ? Outcome::kMiss : Outcome::kHit;
    items[i].place = places[i];
    items[i].value_bytes = 10 + i;
  }
  EXPECT_EQ(load_ns_of(connector, items), 77U);
  ASSERT_EQ(connector.asked.size(), 3U);
  EXPECT_EQ(connector.asked[0].place, 0U);
  EXPECT_EQ(connector.asked[0].bytes, 11U);
  EXPECT_EQ(connector.asked[1].place, 2U);
  EXPECT_EQ(connector.asked[1].values, 2U);
  EXPECT_EQ(connector.asked[1].bytes, 22U);
  EXPECT_EQ(connector.asked[2].place, kPlacesMax - 1);
  EXPECT_EQ(connector.asked[2].values, 1U);
}

}  // namespace
}  // namespace larder
