#include "larder/base/size_text.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "larder/base/random.h"

namespace larder {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// The error must show the value and how to write it right.
template <class T>
void expect_helpful_error(const SetupResult<T>& result, const std::string& value,
                          const std::string& problem, const std::string& example) {
  ASSERT_FALSE(result) << value;
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  const std::string& text = result.error().text;
  EXPECT_NE(text.find("\"" + value + "\""), std::string::npos) << text;
  EXPECT_NE(text.find(problem), std::string::npos) << text;
  EXPECT_NE(text.find(example), std::string::npos) << text;
}

TEST(ParseBytesTest, ReadsBinaryDecimalAndPlainNumbers) {
  EXPECT_EQ(parse_bytes("0"), 0U);
  EXPECT_EQ(parse_bytes("4096"), 4096U);
  EXPECT_EQ(parse_bytes("17B"), 17U);
  EXPECT_EQ(parse_bytes("64KiB"), 65'536U);
  EXPECT_EQ(parse_bytes("64MiB"), std::uint64_t{64} << 20);
  EXPECT_EQ(parse_bytes("200GiB"), 200 * kGiB);
  EXPECT_EQ(parse_bytes("3TiB"), std::uint64_t{3} << 40);
  EXPECT_EQ(parse_bytes("2PiB"), std::uint64_t{2} << 50);
  EXPECT_EQ(parse_bytes("15EiB"), std::uint64_t{15} << 60);
  EXPECT_EQ(parse_bytes("1KB"), 1'000U);
  EXPECT_EQ(parse_bytes("1GB"), 1'000'000'000U);
  EXPECT_EQ(parse_bytes("18EB"), 18'000'000'000'000'000'000U);
  EXPECT_EQ(parse_bytes("18446744073709551615"), kMax);
}

TEST(ParseBytesTest, TrimsSpacesAndIgnoresCase) {
  EXPECT_EQ(parse_bytes("  64mib\t"), std::uint64_t{64} << 20);
  EXPECT_EQ(parse_bytes("1 gIb"), kGiB);
  EXPECT_EQ(parse_bytes("007kb"), 7'000U);
}

TEST(ParseBytesTest, AnIMeansStepsOf1024AndTheBMayBeLeftOut) {
  EXPECT_EQ(parse_bytes("40G"), 40'000'000'000U);
  EXPECT_EQ(parse_bytes("40Gi"), 40 * kGiB);
  EXPECT_EQ(parse_bytes("40gi"), 40 * kGiB);
  const std::string letters = "KMGTPE";
  std::uint64_t decimal = 1;
  std::uint64_t binary = 1;
  for (const char letter : letters) {
    decimal *= 1000;
    binary *= 1024;
    const std::string one = std::string{"2"} + letter;
    EXPECT_EQ(parse_bytes(one), 2 * decimal) << one;
    EXPECT_EQ(parse_bytes(one + "B"), 2 * decimal) << one;
    EXPECT_EQ(parse_bytes(one + "i"), 2 * binary) << one;
    EXPECT_EQ(parse_bytes(one + "iB"), 2 * binary) << one;
  }
}

TEST(ParseBytesTest, ReadsFractionsThatAreWholeBytes) {
  EXPECT_EQ(parse_bytes("1.5GiB"), kGiB + kGiB / 2);
  EXPECT_EQ(parse_bytes("0.5KiB"), 512U);
  EXPECT_EQ(parse_bytes("1.50KB"), 1'500U);
  EXPECT_EQ(parse_bytes("2.000"), 2U);
  EXPECT_EQ(parse_bytes("0.000000001GB"), 1U);
  EXPECT_EQ(parse_bytes("18.446744073709551615EB"), kMax);
}

TEST(ParseBytesTest, ErrorsNameTheValueTheProblemAndExamples) {
  const auto expect_error = [](const std::string& value, const std::string& problem) {
    expect_helpful_error(parse_bytes(value), value, problem, "64MiB");
  };
  expect_error("", "is empty");
  expect_error("   ", "is empty");
  expect_error("-1", "is negative");
  expect_error("-5GiB", "is negative");
  expect_error("GiB", "does not start with a number");
  expect_error("lots", "does not start with a number");
  expect_error(".5GiB", "does not start with a number");
  expect_error("1.GiB", "does not start with a number");
  expect_error("+1", "does not start with a number");
  expect_error("12parsecs", "has a unit that is none of B, KiB");
  expect_error("1e9", "has a unit that is none of B, KiB");
  expect_error("1.2.3", "has a unit that is none of B, KiB");
  expect_error("5 GiB x", "has a unit that is none of B, KiB");
  expect_error("64iB", "has a unit that is none of B, KiB");
  expect_error("64Kb B", "has a unit that is none of B, KiB");
  expect_error("64KiBB", "has a unit that is none of B, KiB");
  expect_error("64KK", "(or K, M, ...: steps of 1000)");
  expect_error("1.5", "is not a whole number of bytes");
  expect_error("0.1KiB", "is not a whole number of bytes");
  expect_error("1.0000000000000000001EiB", "is not a whole number of bytes");
  expect_error("16EiB", "is more than 2^64 - 1 bytes");
  expect_error("18446744073709551616", "is more than 2^64 - 1 bytes");
  expect_error("99999999999999999999999999999999999999999999999", "is more than 2^64 - 1 bytes");
  expect_error("18446744073709551615KiB", "is more than 2^64 - 1 bytes");
  expect_error("18446744073709551615.5EiB", "is more than 2^64 - 1 bytes");
}

TEST(ParseBytesTest, AnErrorDoesNotRepeatAHugeValue) {
  const auto result = parse_bytes(std::string(100'000, 'x'));
  ASSERT_FALSE(result);
  EXPECT_LT(result.error().text.size(), 300U);
  EXPECT_NE(result.error().text.find("100000 characters"), std::string::npos);
}

TEST(ParseDurationTest, ReadsEveryUnit) {
  EXPECT_EQ(parse_duration_ns("100ns"), 100U);
  EXPECT_EQ(parse_duration_ns("10us"), 10'000U);
  EXPECT_EQ(parse_duration_ns("250ms"), 250'000'000U);
  EXPECT_EQ(parse_duration_ns("5s"), 5'000'000'000U);
  EXPECT_EQ(parse_duration_ns("30m"), 1'800'000'000'000U);
  EXPECT_EQ(parse_duration_ns("1h"), 3'600'000'000'000U);
  EXPECT_EQ(parse_duration_ns("7d"), 604'800'000'000'000U);
  EXPECT_EQ(parse_duration_ns(" 1.5 S "), 1'500'000'000U);
  EXPECT_EQ(parse_duration_ns("0.000001ms"), 1U);
}

TEST(ParseDurationTest, OnlyZeroNeedsNoUnit) {
  EXPECT_EQ(parse_duration_ns("0"), 0U);
  EXPECT_EQ(parse_duration_ns("0s"), 0U);
  expect_helpful_error(parse_duration_ns("5"), "5", "needs one of the units ns, us, ms, s",
                       "250ms");
  expect_helpful_error(parse_duration_ns("1.5"), "1.5", "needs one of the units", "250ms");
}

TEST(ParseDurationTest, ErrorsNameTheValueTheProblemAndExamples) {
  const auto expect_error = [](const std::string& value, const std::string& problem) {
    expect_helpful_error(parse_duration_ns(value), value, problem, "250ms");
  };
  expect_error("", "is empty");
  expect_error("-5s", "is negative");
  expect_error("soon", "does not start with a number");
  expect_error("5 fortnights", "needs one of the units");
  expect_error("0.5ns", "is not a whole number of nanoseconds");
  expect_error("1000000d", "is longer than 2^64 - 1 nanoseconds");
  expect_error("18446744073709551616ns", "is longer than 2^64 - 1 nanoseconds");
}

TEST(ParseIntegerTest, ReadsTheWholeRange) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer(" -17 "), -17);
  EXPECT_EQ(parse_integer("+8"), 8);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(parse_integer("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
}

TEST(ParseIntegerTest, ErrorsNameTheValueTheProblemAndExamples) {
  for (const std::string value : {"1.5", "four", "0x10", "1 2", "+-1", "-", "+", "1GiB"}) {
    expect_helpful_error(parse_integer(value), value, "is not a whole number", "16");
  }
  expect_helpful_error(parse_integer(""), "", "is empty", "16");
  expect_helpful_error(parse_integer("9223372036854775808"), "9223372036854775808",
                       "does not fit into 64 bits", "16");
}

TEST(ParseFractionTest, ReadsFractionsAndPercent) {
  EXPECT_EQ(parse_fraction("0"), 0.0);
  EXPECT_EQ(parse_fraction("1"), 1.0);
  EXPECT_EQ(parse_fraction("0.25"), 0.25);
  EXPECT_EQ(parse_fraction(" 25 % "), 0.25);
  EXPECT_EQ(parse_fraction("100%"), 1.0);
}

TEST(ParseFractionTest, ErrorsNameTheValueTheProblemAndExamples) {
  const auto expect_error = [](const std::string& value, const std::string& problem) {
    expect_helpful_error(parse_fraction(value), value, problem, "25%");
  };
  expect_error("", "is empty");
  expect_error("%", "is not a number");
  expect_error("half", "is not a number");
  expect_error("nan", "is not a number");
  expect_error("inf", "is not a number");
  expect_error("0.5x", "is not a number");
  expect_error("1.01", "is not between 0 and 1");
  expect_error("101%", "is not between 0 and 1");
  expect_error("-0.1", "is not between 0 and 1");
}

TEST(ParseBoolTest, ReadsAllSpellingsInAnyCase) {
  for (const std::string yes : {"yes", "TRUE", " on ", "1"})
    EXPECT_EQ(parse_bool(yes), true) << yes;
  for (const std::string no : {"no", "False", "OFF", "0"}) EXPECT_EQ(parse_bool(no), false) << no;
  for (const std::string junk : {"", "maybe", "2", "y"}) {
    expect_helpful_error(parse_bool(junk), junk, "is neither yes nor no", "true");
  }
}

TEST(FormatBytesTest, ExactTextsUseTheLargestUnitThatKeepsTheNumberWhole) {
  EXPECT_EQ(format_bytes_exact(0), "0");
  EXPECT_EQ(format_bytes_exact(1), "1");
  EXPECT_EQ(format_bytes_exact(1023), "1023");
  EXPECT_EQ(format_bytes_exact(1024), "1KiB");
  EXPECT_EQ(format_bytes_exact(200 * kGiB), "200GiB");
  EXPECT_EQ(format_bytes_exact(kGiB + kGiB / 2), "1536MiB");
  EXPECT_EQ(format_bytes_exact(40'000'000'000'000), "40TB");
  EXPECT_EQ(format_bytes_exact(1'500'000), "1500000");
  EXPECT_EQ(format_bytes_exact(64'000), "64000");
  EXPECT_EQ(format_bytes_exact(kMax), "18446744073709551615");
}

TEST(FormatBytesTest, TextsForPeopleAreShort) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(200 * kGiB), "200 GiB");
  EXPECT_EQ(format_bytes(kGiB + kGiB * 37 / 100), "1.37 GiB");
  EXPECT_EQ(format_bytes(13'000), "12.7 KiB");
  EXPECT_EQ(format_bytes(1'000'000), "977 KiB");
  EXPECT_EQ(format_bytes(kMax), "16.0 EiB");
}

TEST(FormatDurationTest, ExactTextsUseTheLargestUnitThatKeepsTheNumberWhole) {
  EXPECT_EQ(format_duration_exact(0), "0");
  EXPECT_EQ(format_duration_exact(100), "100ns");
  EXPECT_EQ(format_duration_exact(250'000'000), "250ms");
  EXPECT_EQ(format_duration_exact(5'400'000'000'000), "90m");
  EXPECT_EQ(format_duration_exact(604'800'000'000'000), "7d");
}

TEST(FormatDurationTest, TextsForPeopleAreShort) {
  EXPECT_EQ(format_duration_ns(0), "0 s");
  EXPECT_EQ(format_duration_ns(999), "999 ns");
  EXPECT_EQ(format_duration_ns(1'370'000), "1.37 ms");
  EXPECT_EQ(format_duration_ns(5'000'000'000), "5 s");
  EXPECT_EQ(format_duration_ns(5'400'000'000'000), "1.50 h");
}

/// Numbers of every magnitude, many of them whole in some unit.
std::uint64_t any_number(Random& random) {
  const std::uint64_t number = random.next() >> random.below(64);
  switch (random.below(3)) {
    case 0:
      return number << random.below(60);
    case 1:
      return number / 86'400'000'000'000 * 86'400'000'000'000;
    default:
      return number;
  }
}

TEST(SizeTextProperty, ExactTextsRoundTrip) {
  Random random{1};
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t number = any_number(random);
    ASSERT_EQ(parse_bytes(format_bytes_exact(number)), number) << format_bytes_exact(number);
    ASSERT_EQ(parse_duration_ns(format_duration_exact(number)), number)
        << format_duration_exact(number);
    const auto with_sign = static_cast<std::int64_t>(number);
    ASSERT_EQ(parse_integer(std::to_string(with_sign)), with_sign);
  }
}

TEST(SizeTextProperty, TextsForPeopleAreWithinOnePercentAndNeverLong) {
  Random random{2};
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t number = any_number(random);
    const std::string text = format_bytes(number);
    ASSERT_LE(text.size(), 9U) << text;  // "1023 KiB"
    // Read the number and the unit by themselves; the product is the value.
    const auto unit = parse_bytes("1" + text.substr(text.find(' ') + 1));
    ASSERT_TRUE(unit) << text;
    const double shown = std::stod(text) * static_cast<double>(*unit);
    ASSERT_NEAR(shown, static_cast<double>(number), static_cast<double>(number) * 0.01) << text;
  }
}

TEST(FormatCountTest, OneIsSingular) {
  EXPECT_EQ(format_count(0, "segment"), "0 segments");
  EXPECT_EQ(format_count(1, "segment"), "1 segment");
  EXPECT_EQ(format_count(2, "segment"), "2 segments");
  EXPECT_EQ(format_count(1, "entry", "entries"), "1 entry");
  EXPECT_EQ(format_count(3, "entry", "entries"), "3 entries");
}

}  // namespace
}  // namespace larder
