#include "larder/connector/failed_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/random.h"

namespace larder {
namespace {

constexpr std::uint64_t kWait = 50;
constexpr std::size_t kKeys = 100;

constexpr std::uint64_t kNow = 1'000;

std::span<const std::byte> key(const std::string& text) {
  return std::as_bytes(std::span{text});
}

TEST(FailedKeysTest, AKeyIsInUntilItIsErased) {
  FailedKeys failed{8};
  EXPECT_FALSE(failed.contains(key("a"), kNow));
  failed.insert(key("a"));
  EXPECT_TRUE(failed.contains(key("a"), kNow));
  EXPECT_TRUE(failed.contains(key("a"), kNever - 1));
  EXPECT_FALSE(failed.contains(key("b"), kNow));
  failed.erase(key("b"));
  failed.erase(key("a"));
  EXPECT_FALSE(failed.contains(key("a"), kNow));
  EXPECT_EQ(failed.size(), 0U);
}

TEST(FailedKeysTest, ATimedKeyLeavesWhenItsTimeIsOver) {
  FailedKeys failed{8};
  failed.insert_until(key("a"), kNow + 10);
  EXPECT_TRUE(failed.contains(key("a"), kNow + 9));
  EXPECT_FALSE(failed.contains(key("a"), kNow + 10));
  EXPECT_EQ(failed.size(), 0U);
}

TEST(FailedKeysTest, ALaterFailureNeverShortensAnEarlierOne) {
  FailedKeys failed{8};
  failed.insert(key("a"));
  failed.insert_until(key("a"), kNow + 10);
  EXPECT_TRUE(failed.contains(key("a"), kNow + 100));
  failed.insert_until(key("b"), kNow + 10);
  failed.insert_until(key("b"), kNow + 20);
  failed.insert_until(key("b"), kNow + 5);
  EXPECT_TRUE(failed.contains(key("b"), kNow + 19));
  EXPECT_EQ(failed.size(), 2U);
}

TEST(FailedKeysTest, TheOldestMakesRoomAndIsCounted) {
  FailedKeys failed{3};
  for (const char* text : {"a", "b", "c", "d"}) failed.insert(key(text));
  EXPECT_FALSE(failed.contains(key("a"), kNow));
  for (const char* text : {"b", "c", "d"}) EXPECT_TRUE(failed.contains(key(text), kNow));
  EXPECT_EQ(failed.size(), 3U);
  EXPECT_EQ(failed.dropped_total(), 1U);
}

TEST(FailedKeysTest, TheReasonDecidesForHowLong) {
  FailedKeys failed{16};
  const auto note = [&](ErrorCode code) {
    const std::string name{error_code_name(code)};
    failed.note_failed_get(key(name), code, kNow, kWait);
    if (!failed.contains(key(name), kNow)) return "not";
    if (failed.contains(key(name), kNow + kWait)) return "for good";
    return "for a while";
  };
  EXPECT_STREQ(note(ErrorCode::kCorruption), "for good");
  EXPECT_STREQ(note(ErrorCode::kIo), "for good");
  EXPECT_STREQ(note(ErrorCode::kInternal), "for good");
  EXPECT_STREQ(note(ErrorCode::kDeadlineExceeded), "for a while");
  EXPECT_STREQ(note(ErrorCode::kUnavailable), "for a while");
  EXPECT_STREQ(note(ErrorCode::kResourceExhausted), "for a while");
  EXPECT_STREQ(note(ErrorCode::kInvalidArgument), "for a while");
  EXPECT_STREQ(note(ErrorCode::kUnimplemented), "for a while");
  EXPECT_STREQ(note(ErrorCode::kCancelled), "not");
  EXPECT_STREQ(note(ErrorCode::kSizeMismatch), "not");
}

TEST(FailedKeysTest, AWaitBeyondTheEndOfTimeDoesNotWrapAround) {
  FailedKeys failed{4};
  failed.note_failed_get(key("a"), ErrorCode::kDeadlineExceeded, kNow, kNever);
  EXPECT_TRUE(failed.contains(key("a"), kNow + 1));
}

class FailedKeysModelTest : public testing::TestWithParam<std::size_t> {};

TEST_P(FailedKeysModelTest, RandomOperationsMatchAMap) {
  FailedKeys failed{GetParam()};
  std::map<std::string, std::uint64_t> model;
  Random random{7};
  std::uint64_t now_ns = kNow;
  for (int step = 0; step < 50'000; ++step) {
    const std::string text = "key" + std::to_string(random.below(kKeys));
    switch (random.below(4)) {
      case 0:
        failed.insert(key(text));
        model[text] = kNever;
        break;
      case 1: {
        const std::uint64_t until_ns = now_ns + 1 + random.below(500);
        failed.insert_until(key(text), until_ns);
        model[text] = std::max(model[text], until_ns);
        break;
      }
      case 2:
        failed.erase(key(text));
        model.erase(text);
        break;
      default:
        now_ns += random.below(3);
        const auto found = model.find(text);
        const bool is_expected = found != model.end() && found->second > now_ns;
        const bool is_in = failed.contains(key(text), now_ns);
        // Keys that made room for others may be missing; no other may.
        ASSERT_TRUE(is_in == is_expected || (is_expected && failed.dropped_total() > 0)) << step;
        if (!is_in) model.erase(text);
    }
    ASSERT_LE(failed.size(), std::min(GetParam(), kKeys));
  }
  EXPECT_EQ(failed.dropped_total() > 0, GetParam() < kKeys);
}

// Never full; and always.
INSTANTIATE_TEST_SUITE_P(Capacities, FailedKeysModelTest, testing::Values(100'000, 50));

TEST(FailedKeysTest, ManyThreadsMayUseIt) {
  FailedKeys failed{64};
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&failed, t] {
        Random random{static_cast<std::uint64_t>(t)};
        for (int i = 0; i < 5'000; ++i) {
          const std::string text = std::to_string(random.below(200));
          if (random.one_in(2)) failed.insert(key(text));
          if (random.one_in(3)) failed.erase(key(text));
          static_cast<void>(failed.contains(key(text), kNow));
        }
      });
    }
  }
  EXPECT_LE(failed.size(), 64U);
  for (int i = 0; i < 200; ++i) failed.erase(key(std::to_string(i)));
  EXPECT_EQ(failed.size(), 0U);
}

TEST(FailedKeysDeathTest, ACapacityOfNothingIsABug) {
  EXPECT_DEATH(FailedKeys{0}, "LARDER_CHECK failed");
}

}  // namespace
}  // namespace larder
