#include "larder/connectors/fault/fault_plan.h"

#include <gtest/gtest.h>

#include <string>

namespace larder::fault {
namespace {

FaultOptions errors(double rate, std::string_view pattern = "*", std::uint64_t seed = 1) {
  FaultOptions options;
  options.rates[static_cast<std::size_t>(FaultKind::kError)] = rate;
  options.seed = seed;
  options.pattern = OperationPattern::parse(pattern).value();
  return options;
}

TEST(OperationPatternTest, StarMatchesEverything) {
  const OperationPattern all = OperationPattern::parse("*").value();
  EXPECT_TRUE(all.matches(Op::kGet, 1));
  EXPECT_TRUE(all.matches(Op::kTouch, UINT64_MAX));
}

TEST(OperationPatternTest, NumbersRangesAndOperationsAreKeptApart) {
  const OperationPattern some = OperationPattern::parse("get:3,7-9;set:*;*:100").value();
  EXPECT_FALSE(some.matches(Op::kGet, 2));
  EXPECT_TRUE(some.matches(Op::kGet, 3));
  EXPECT_FALSE(some.matches(Op::kGet, 6));
  EXPECT_TRUE(some.matches(Op::kGet, 7));
  EXPECT_TRUE(some.matches(Op::kGet, 9));
  EXPECT_FALSE(some.matches(Op::kGet, 10));
  EXPECT_TRUE(some.matches(Op::kSet, 12345));
  EXPECT_FALSE(some.matches(Op::kExists, 3));
  EXPECT_TRUE(some.matches(Op::kExists, 100));
  EXPECT_TRUE(some.matches(Op::kDelete, 100));
}

TEST(OperationPatternTest, WhatDoesNotParseIsNamedWithAnExample) {
  for (const char* text : {"", "get", "get:", "put:1", "get:0", "get:x", "get:5-3", "get:1-", ":1",
                           "get:1;;set:1", "get:1x", "get:-1", "get:99999999999999999999"}) {
    const auto parsed = OperationPattern::parse(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(parsed.error().text.find("get:3,7"), std::string::npos) << parsed.error().text;
  }
}

TEST(FaultOptionsTest, RateZeroNeverHitsAndRateOneAlways) {
  for (std::uint64_t number = 1; number <= 1000; ++number) {
    EXPECT_FALSE(errors(0).is_hit(FaultKind::kError, Op::kGet, number));
    EXPECT_TRUE(errors(1).is_hit(FaultKind::kError, Op::kGet, number));
    EXPECT_FALSE(errors(1).is_hit(FaultKind::kDrop, Op::kGet, number));
  }
}

TEST(FaultOptionsTest, ARateHitsAboutItsShareWhereThePatternAllows) {
  const FaultOptions options = errors(0.1, "get:1-100000");
  int hits = 0;
  for (std::uint64_t number = 1; number <= 100'000; ++number) {
    if (options.is_hit(FaultKind::kError, Op::kGet, number)) ++hits;
    EXPECT_FALSE(options.is_hit(FaultKind::kError, Op::kSet, number));
  }
  EXPECT_NEAR(hits, 10'000, 500);
}

TEST(FaultOptionsTest, ASeedDecidesWhichOperationsAreHit) {
  int same = 0;
  for (std::uint64_t number = 1; number <= 1000; ++number) {
    const bool first = errors(0.5, "*", 1).is_hit(FaultKind::kError, Op::kGet, number);
    EXPECT_EQ(first, errors(0.5, "*", 1).is_hit(FaultKind::kError, Op::kGet, number));
    if (first == errors(0.5, "*", 2).is_hit(FaultKind::kError, Op::kGet, number)) ++same;
  }
  EXPECT_NEAR(same, 500, 100);
}

}  // namespace
}  // namespace larder::fault
