#include "larder/tools/trace_time.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace larder::tools {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kDayNs = 86'400 * kSecondNs;

TEST(TraceTimeTest, DatesAreNanosecondsSince1970) {
  EXPECT_EQ(parse_date_time_ns("1970-01-01T00:00:00Z"), 0U);
  EXPECT_EQ(parse_date_time_ns("1970-01-02 00:00:00"), kDayNs);
  // The figure of `date -u -d '2023-11-16 18:17:03' +%s`.
  EXPECT_EQ(parse_date_time_ns("2023-11-16 18:17:03.9799600"), 1'700'158'623'979'960'000U);
  EXPECT_EQ(parse_date_time_ns("2024-02-29T12:00:00z"), 1'709'208'000 * kSecondNs);
  EXPECT_EQ(parse_date_time_ns("1970-01-01T00:00:00.1234567899"), 123'456'789U);
  EXPECT_EQ(parse_date_time_ns("1970-01-01T00:00:60Z"), 60 * kSecondNs);
}

TEST(TraceTimeTest, AnOffsetIsTakenOff) {
  for (const char* const text :
       {"1970-01-02T02:30:00+02:30", "1970-01-02T02:30:00+0230", "1970-01-01T22:00:00-02:00"}) {
    EXPECT_EQ(parse_date_time_ns(text), kDayNs) << text;
  }
}

TEST(TraceTimeTest, EveryPrefixOfADateIsNone) {
  const std::string date = "2024-05-10T00:00:00";
  for (std::size_t length = 0; length < date.size(); ++length) {
    EXPECT_FALSE(parse_date_time_ns(date.substr(0, length))) << length;
  }
  EXPECT_TRUE(parse_date_time_ns(date));
}

TEST(TraceTimeTest, WhatIsNoDateIsRefused) {
  for (const char* const text :
       {"2024-13-01T00:00:00", "2024-00-01T00:00:00", "2023-02-29T00:00:00", "2024-01-32T00:00:00",
        "2024-01-01T24:00:00", "2024-01-01T00:60:00", "2024-01-01T00:00:61", "2024-01-01T00:00:00.",
        "2024-01-01T00:00:00.5x", "2024-01-01T00:00:00+15:00", "2024-01-01T00:00:00+1",
        "2024-01-01T00:00:00ZZ", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01",
        "2201-01-01T00:00:00Z", "24-01-01T00:00:00", "2024/01/01 00:00:00", " 2024-01-01T00:00:00",
        "2024-01-01T0a:00:00"}) {
    EXPECT_FALSE(parse_date_time_ns(text)) << text;
  }
}

TEST(TraceTimeTest, NumbersScaleUpTo63Bits) {
  EXPECT_EQ(scale_to_ns(27.5, 1'000'000), 27'500'000U);
  EXPECT_EQ(scale_to_ns(61.114, kSecondNs), 61'114'000'000U);
  EXPECT_EQ(scale_to_ns(std::uint64_t{27}, 1'000'000), 27'000'000U);
  EXPECT_EQ(scale_to_ns((std::uint64_t{1} << 63) - 1, 1), (std::uint64_t{1} << 63) - 1);
  EXPECT_FALSE(scale_to_ns(std::uint64_t{1} << 63, 1));
  EXPECT_FALSE(scale_to_ns(std::uint64_t{9'223'372'037}, kSecondNs));
  EXPECT_TRUE(scale_to_ns(std::uint64_t{9'223'372'036}, kSecondNs));
  EXPECT_FALSE(scale_to_ns(9.3e9, kSecondNs));
  EXPECT_FALSE(scale_to_ns(-1.0, 1));
}

}  // namespace
}  // namespace larder::tools
