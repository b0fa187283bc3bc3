#include "larder/tools/trace.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "larder/base/unique_fd.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;

constexpr const char* kGoodLine =
    R"({"timestamp": 27, "input_length": 513, "output_length": 9, "hash_ids": [0, 18446744073709551615]})";

std::string error_of(std::string_view line) {
  const auto request = parse_trace_line(line);
  return request ? "no error" : request.error().text;
}

/// A file in a directory of the test's own.
class TraceFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/larder_trace_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& content) {
    const std::string path = directory_ + "/trace";
    std::ofstream{path, std::ios::binary} << content;
    return path;
  }
  static std::string compressed(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
  }

  std::string directory_;
};

TEST(TraceLineTest, AGoodLineGivesItsFields) {
  const auto request = parse_trace_line(kGoodLine);
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_EQ(request->timestamp_ms, 27U);
  EXPECT_EQ(request->input_tokens, 513U);
  EXPECT_EQ(request->output_tokens, 9U);
  EXPECT_EQ(request->blocks, (std::vector<std::uint64_t>{0, UINT64_MAX}));
}

TEST(TraceLineTest, OrderAndSpacesDoNotMatter) {
  const auto request = parse_trace_line(
      "\t{\"hash_ids\":[7],\"output_length\":1 ,\"input_length\" : 512,\"timestamp\":0}\r");
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_EQ(request->blocks, std::vector<std::uint64_t>{7});
}

TEST(TraceLineTest, EveryPrefixOfAGoodLineIsAnError) {
  const std::string line = kGoodLine;
  for (std::size_t length = 0; length < line.size(); ++length) {
    EXPECT_FALSE(parse_trace_line(line.substr(0, length))) << length;
  }
}

struct BadLine {
  const char* name;
  const char* line;
  const char* expected;
};

class BadLineTest : public ::testing::TestWithParam<BadLine> {};

TEST_P(BadLineTest, IsRefusedWithWhereAndWhat) {
  EXPECT_NE(error_of(GetParam().line).find(GetParam().expected), std::string::npos)
      << error_of(GetParam().line);
}

INSTANTIATE_TEST_SUITE_P(
    TraceLineTest, BadLineTest,
    ::testing::Values(
        BadLine{"NotAnObject", "[1]", "column 1: expected '{', found '[1]'"},
        BadLine{"UnknownField", R"({"time": 1})", "expected one of timestamp"},
        BadLine{"UnquotedField", R"({timestamp: 1})", "expected a field name in quotes"},
        BadLine{"FieldTwice", R"({"timestamp": 1, "timestamp": 2})", "\"timestamp\" comes twice"},
        BadLine{"FieldMissing", R"({"timestamp": 1, "input_length": 1, "hash_ids": [1]})",
                "\"output_length\" is missing"},
        BadLine{"NoColon", R"({"timestamp" 1})", "expected ':'"},
        BadLine{"Negative", R"({"timestamp": -1})", "expected a whole number, found '-1}'"},
        BadLine{"Fraction", R"({"timestamp": 1.5})", "expected a whole number"},
        BadLine{"Exponent", R"({"timestamp": 1e3})", "expected a whole number"},
        BadLine{"Text", R"({"timestamp": "1"})", "expected a whole number"},
        BadLine{"TooLarge", R"({"timestamp": 18446744073709551616})", "above 2^64 - 1"},
        BadLine{"IdsNotAList", R"({"hash_ids": 1})", "expected '['"},
        BadLine{"IdsNotClosed", R"({"hash_ids": [1 2]})", "expected ',' or ']'"},
        BadLine{"TrailingComma", R"({"hash_ids": [1,]})", "expected a whole number, found ']"},
        BadLine{"NotClosed", R"({"timestamp": 1)", "expected ',' or '}', found the end"},
        BadLine{"MoreBehind",
                R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]}x)",
                "expected nothing after '}', found 'x'"},
        BadLine{"TooFewIds",
                R"({"timestamp":0,"input_length":513,"output_length":1,"hash_ids":[1]})",
                "input_length 513 is 2 blocks of 512 tokens, but hash_ids has 1"},
        BadLine{"TooManyIds",
                R"({"timestamp":0,"input_length":512,"output_length":1,"hash_ids":[1,2]})",
                "is 1 block of 512 tokens, but hash_ids has 2"},
        BadLine{"NoTokens", R"({"timestamp":0,"input_length":0,"output_length":1,"hash_ids":[]})",
                "input_length is 0"},
        BadLine{"ControlCharacters", "{\x1b]0;", "found '?]0;'"}),
    [](const auto& bad_line) { return bad_line.param.name; });

TEST_F(TraceFile, PlainAndCompressedGiveTheSame) {
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    text += "{\"timestamp\": " + std::to_string(i) +
            ", \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1, " +
            std::to_string(i) + "]}\n";
  }
  const auto plain = read_trace(write(text), UINT64_MAX, kNoStop);
  ASSERT_TRUE(plain) << plain.error().text;
  EXPECT_EQ(plain->size(), 5000U);
  EXPECT_EQ(plain->back().blocks, (std::vector<std::uint64_t>{1, 4999}));
  // Two frames in one file, as `cat a.zst b.zst` makes them.
  const auto two =
      read_trace(write(compressed(text.substr(0, 70001)) + compressed(text.substr(70001))),
                 UINT64_MAX, kNoStop);
  ASSERT_TRUE(two) << two.error().text;
  EXPECT_EQ(*plain, *two);
}

TEST_F(TraceFile, StopsAfterTheRequestsAskedFor) {
  const std::string line = std::string{kGoodLine} + "\n";
  const auto trace = read_trace(write(line + line + "broken\n"), 2, kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->size(), 2U);
}

TEST_F(TraceFile, AnErrorNamesFileAndLine) {
  const std::string path = write(std::string{kGoodLine} + "\n\n{\"timestamp\": x}\n");
  const auto trace = read_trace(path, UINT64_MAX, kNoStop);
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().text, path + ":3: column 15: expected a whole number, found 'x}'");
  EXPECT_EQ(trace.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(TraceFile, ALastLineWithoutItsEndCounts) {
  const auto trace = read_trace(write(std::string{kGoodLine}), UINT64_MAX, kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->size(), 1U);
}

TEST_F(TraceFile, TimeMayNotGoBack) {
  std::string earlier = kGoodLine;
  earlier.replace(earlier.find("27"), 2, "26");
  const auto trace =
      read_trace(write(std::string{kGoodLine} + "\n" + earlier + "\n"), UINT64_MAX, kNoStop);
  ASSERT_FALSE(trace);
  EXPECT_NE(trace.error().text.find(":2: timestamp 26 is before"), std::string::npos)
      << trace.error().text;
}

TEST_F(TraceFile, TruncatedAndDamagedZstdAreErrors) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::string{kGoodLine} + "\n";
  const std::string whole = compressed(text);
  const auto cut = read_trace(write(whole.substr(0, whole.size() - 5)), UINT64_MAX, kNoStop);
  ASSERT_FALSE(cut);
  EXPECT_NE(cut.error().text.find("ends in the middle"), std::string::npos) << cut.error().text;
  std::string damaged = whole;
  for (std::size_t i = 6; i < 20; ++i) damaged[i] = '\xFF';
  const auto bad = read_trace(write(damaged), UINT64_MAX, kNoStop);
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().text.find("zstd"), std::string::npos) << bad.error().text;
}

TEST_F(TraceFile, APipeThatNobodyWritesIntoIsLeftWhenAskedToStop) {
  const std::string path = directory_ + "/pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const UniqueFd writer{::open(path.c_str(), O_RDWR | O_CLOEXEC)};  // Else the open would wait.
  ASSERT_TRUE(writer);
  const std::atomic<bool> stop = true;
  const auto trace = read_trace(path, UINT64_MAX, stop);
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().code, ErrorCode::kCancelled);
}

TEST_F(TraceFile, AMissingOrEmptyFileIsAnError) {
  const auto missing = read_trace(directory_ + "/nothing", UINT64_MAX, kNoStop);
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text.find("No such file"), std::string::npos) << missing.error().text;
  const auto empty = read_trace(write("\n\n"), UINT64_MAX, kNoStop);
  ASSERT_FALSE(empty);
  EXPECT_NE(empty.error().text.find("no requests"), std::string::npos) << empty.error().text;
}

}  // namespace
}  // namespace larder::tools
