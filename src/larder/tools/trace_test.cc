#include "larder/tools/trace.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zlib.h>
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

SetupResult<Trace> read_file(const std::string& path, const std::atomic<bool>& stop,
                             std::uint64_t requests_max = UINT64_MAX) {
  return read_trace({.trace_path = path, .requests_max = requests_max}, stop);
}

bool has_note(const Trace& trace, const std::string& note) {
  return std::ranges::find(trace.notes, note) != trace.notes.end();
}

/// A file in the test's own directory.
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

  /// One member of a gzip file.
  static std::string gzipped(const std::string& text) {
    z_stream stream{};
    EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    std::string in = text;
    std::string out(deflateBound(&stream, text.size()), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
  }
  /// So many good lines; they compress well.
  static std::string lines(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      text += "{\"timestamp\": " + std::to_string(i) +
              ", \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1, " +
              std::to_string(i) + "]}\n";
    }
    return text;
  }

  std::string directory_;
};

TEST(TraceLineTest, AGoodLineGivesItsFields) {
  const auto request = parse_trace_line(kGoodLine);
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_EQ(request->request.timestamp_ns, 27'000'000U);
  EXPECT_EQ(request->request.input_tokens, 513U);
  EXPECT_EQ(request->request.output_tokens, 9U);
  EXPECT_EQ(request->request.blocks, (std::vector<std::uint64_t>{0, UINT64_MAX}));
}

TEST(TraceLineTest, OrderAndSpacesDoNotMatter) {
  const auto request = parse_trace_line(
      "\t{\"hash_ids\":[7],\"output_length\":1 ,\"input_length\" : 512,\"timestamp\":0}\r");
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_EQ(request->request.blocks, std::vector<std::uint64_t>{7});
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
        BadLine{"UnquotedField", R"({timestamp: 1})", "expected a field name in quotes"},
        BadLine{"FieldTwice", R"({"timestamp": 1, "timestamp": 2})", "\"timestamp\" comes twice"},
        BadLine{"FieldTwiceAfterNull", R"({"timestamp": null, "timestamp": 2})", "comes twice"},
        BadLine{"IdsMissing", R"({"timestamp": 1, "input_length": 1})", "\"hash_ids\" is missing"},
        BadLine{"IdsNull", R"({"hash_ids": null})", "\"hash_ids\" is missing"},
        BadLine{"NoColon", R"({"timestamp" 1})", "expected ':'"},
        BadLine{"NegativeTime", R"({"timestamp": -1})",
                "column 15: expected a timestamp, which is a number from 0"},
        BadLine{"TimeTooLarge", R"({"timestamp": 9223372036855})", "a number from 0 to 2^63 ns"},
        BadLine{"NoDate", R"({"timestamp": "2024-02-30T00:00:00Z"})",
                "column 15: expected a timestamp"},
        BadLine{"TimeIsAList", R"({"timestamp": [1]})", "expected a number, or a date in quotes"},
        BadLine{"Negative", R"({"input_length": -1})", "expected a whole number from 0"},
        BadLine{"Fraction", R"({"input_length": 1.5})", "expected a whole number from 0"},
        BadLine{"Exponent", R"({"input_length": 1e3})", "expected a whole number from 0"},
        BadLine{"Text", R"({"input_length": "1"})", "expected a whole number from 0"},
        BadLine{"TooLarge", R"({"input_length": 18446744073709551616})", "to 2^64 - 1"},
        BadLine{"NoTokens", R"({"input_length": 0})", "input_length is 0"},
        BadLine{"NoBlockSize", R"({"block_size": 0})", "expected the tokens of a block, 1 to"},
        BadLine{"BlockSizeTooLarge", R"({"block_size": 16777217})", "1 to 16777216"},
        BadLine{"IdsNotAList", R"({"hash_ids": 1})", "expected '['"},
        BadLine{"IdsNotClosed", R"({"hash_ids": [1 2]})", "expected ',' or ']'"},
        BadLine{"TrailingComma", R"({"hash_ids": [1,]})",
                "expected a whole number, or an id in quotes, found ']"},
        BadLine{"IdIsAFraction", R"({"hash_ids": [1.5]})",
                "column 15: expected a whole number from"},
        BadLine{"IdTooLarge", R"({"hash_ids": [18446744073709551616]})", "from -2^63 to 2^64 - 1"},
        BadLine{"IdTooSmall", R"({"hash_ids": [-9223372036854775809]})", "from -2^63 to 2^64 - 1"},
        BadLine{"IdIsTrue", R"({"hash_ids": [true]})", "expected a whole number, or"},
        BadLine{"IdIsNull", R"({"hash_ids": [null]})", "expected a whole number, or"},
        BadLine{"SessionIsAnObject", R"({"session_id": {}})", "expected a number, or a text"},
        BadLine{"NotClosed", R"({"timestamp": 1)", "expected ',' or '}', found the end"},
        BadLine{"TextNotClosed", R"({"session_id": "a\")", "a text without its closing quote"},
        BadLine{"OtherValueMissing", R"({"type": })", "expected a value, found '}'"},
        BadLine{"OtherListNotClosed", R"({"type": [1, [2})", "expected ',' or ']', found '}'"},
        BadLine{"OtherObjectNotClosed", R"({"type": {"a": 1]})", "expected ',' or '}', found ']}'"},
        BadLine{"OtherObjectWithoutName", R"({"type": {1: 2}})", "expected a field name in quotes"},
        BadLine{"OtherWord", R"({"type": nil})", "expected a value, found 'nil}'"},
        BadLine{"MoreBehind",
                R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]}x)",
                "expected nothing after '}', found 'x'"},
        BadLine{"ControlCharacters", "{\x1b]0;", "found '?]0;'"}),
    [](const auto& bad_line) { return bad_line.param.name; });

TEST(TraceLineTest, OtherFieldsAreSkippedAndNamed) {
  const auto line = parse_trace_line(
      R"({"type": "a\"}", "turn": -1.5e3, "hash_ids": [3], "a": {"b": [1, {}, {"c": [[], null]}]},)"
      R"( "d": [true, false, "]"], "e": {}})");
  ASSERT_TRUE(line) << line.error().text;
  EXPECT_EQ(line->ignored_fields, (std::vector<std::string_view>{"type", "turn", "a", "d", "e"}));
  EXPECT_EQ(line->request.blocks, std::vector<std::uint64_t>{3});
}

TEST(TraceLineTest, NestingIsBounded) {
  const auto nested = [](std::size_t depth) {
    return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + ",\"hash_ids\":[1]}";
  };
  EXPECT_TRUE(parse_trace_line(nested(64)));
  EXPECT_NE(error_of(nested(65)).find("nested deeper than 64"), std::string::npos);
  EXPECT_NE(error_of(nested(100'000)).find("nested deeper than 64"), std::string::npos);
}

TEST(TraceLineTest, IdsMayBeTextsOrNegative) {
  const auto line =
      parse_trace_line(R"({"hash_ids": ["12", 12, -1, "-1", "0xab", "0xab", "0xac"]})");
  ASSERT_TRUE(line) << line.error().text;
  const std::vector<std::uint64_t>& ids = line->request.blocks;
  ASSERT_EQ(ids.size(), 7U);
  EXPECT_EQ(ids[0], 12U);
  EXPECT_EQ(ids[1], 12U);
  EXPECT_EQ(ids[2], UINT64_MAX);
  EXPECT_EQ(ids[3], UINT64_MAX);
  EXPECT_EQ(ids[4], ids[5]);
  EXPECT_NE(ids[4], ids[6]);
}

TEST(TraceLineTest, TimestampsAreFractionsTextsOrDates) {
  const auto time_of = [](const std::string& value, std::uint64_t unit_ns) {
    const auto line = parse_trace_line("{\"timestamp\":" + value + ",\"hash_ids\":[1]}", unit_ns);
    EXPECT_TRUE(line) << value << ": " << line.error().text;
    return line ? line->request.timestamp_ns : 0;
  };
  EXPECT_EQ(time_of("27.5", 1'000'000), 27'500'000U);
  EXPECT_EQ(time_of("1.5e3", 1'000'000), 1'500'000'000U);
  EXPECT_EQ(time_of("\"27.5\"", 1'000'000), 27'500'000U);
  EXPECT_EQ(time_of("\"27\"", 1'000'000'000), 27'000'000'000U);
  EXPECT_EQ(time_of("\"1970-01-01T00:01:00.5Z\"", 1'000'000), 60'500'000'000U);
}

TEST(TraceOptionsTest, UnitsAndBlockTokensAreRead) {
  EXPECT_EQ(parse_timestamp_unit("s").value(), 1'000'000'000U);
  EXPECT_EQ(parse_timestamp_unit("ms").value(), 1'000'000U);
  EXPECT_EQ(parse_timestamp_unit("us").value(), 1000U);
  EXPECT_EQ(parse_timestamp_unit("ns").value(), 1U);
  EXPECT_NE(parse_timestamp_unit("min").error().text.find("'min': expected s, ms"),
            std::string::npos);
  EXPECT_EQ(parse_block_tokens("16").value(), 16U);
  for (const char* const text : {"0", "16777217", "", "16x", "-1", "64KiB"}) {
    EXPECT_FALSE(parse_block_tokens(text)) << text;
  }
}

TEST_F(TraceFile, PlainAndCompressedGiveTheSame) {
  const std::string text = lines(5000);
  const auto plain = read_file(write(text), kNoStop);
  ASSERT_TRUE(plain) << plain.error().text;
  EXPECT_EQ(plain->requests.size(), 5000U);
  EXPECT_EQ(plain->requests.back().blocks, (std::vector<std::uint64_t>{1, 4999}));
  EXPECT_TRUE(plain->notes.empty());
  for (const bool is_zstd : {true, false}) {
    const auto packed = [&](const std::string& part) {
      return is_zstd ? compressed(part) : gzipped(part);
    };
    // Two frames in one file, as `cat a.zst b.zst` makes them.
    const auto two =
        read_file(write(packed(text.substr(0, 70001)) + packed(text.substr(70001))), kNoStop);
    ASSERT_TRUE(two) << two.error().text;
    EXPECT_EQ(plain->requests, two->requests);
    // Hundreds, so that some end with their output waiting for room. Some are empty.
    std::string many;
    std::size_t at = 0;
    for (std::size_t size = 0; at < text.size(); size = (size + 37) % 4000) {
      many += packed(text.substr(at, size));
      at += size;
    }
    const auto all = read_file(write(many), kNoStop);
    ASSERT_TRUE(all) << all.error().text;
    EXPECT_EQ(plain->requests, all->requests);
  }
}

TEST_F(TraceFile, TextMuchLargerThanItsFrameIsReadToTheEnd) {
  // One line of 3 MB: frames of some hundred bytes for many buffers of text.
  const std::string line = R"({"hash_ids": [1], "pad": ")" + std::string(3'000'000, 'x') + "\"}\n";
  for (const std::string& packed :
       {compressed(line) + compressed(line), gzipped(line) + gzipped(line)}) {
    const auto trace = read_file(write(packed), kNoStop);
    ASSERT_TRUE(trace) << trace.error().text;
    EXPECT_EQ(trace->requests.size(), 2U);
  }
}

TEST_F(TraceFile, SkippableFramesAreSkipped) {
  using namespace std::string_literals;
  // As pzstd writes them: before, between and after the frames with content.
  const std::string skippable = "\x53\x2A\x4D\x18\x04\x00\x00\x00info"s;
  const std::string text = lines(10);
  const auto trace = read_file(
      write(skippable + compressed(text) + skippable + compressed(text) + skippable), kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->requests.size(), 20U);
}

TEST_F(TraceFile, CarriageReturnsAndAByteOrderMarkAreSkipped) {
  const std::string line = std::string{kGoodLine} + "\r\n";
  const auto trace = read_file(write("\xEF\xBB\xBF" + line + "\r\n" + line), kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->requests.size(), 2U);
  const auto packed = read_file(write(gzipped("\xEF\xBB\xBF" + line)), kNoStop);
  ASSERT_TRUE(packed) << packed.error().text;
  const auto inside = read_file(write(line + "\xEF\xBB\xBF" + line), kNoStop);
  ASSERT_FALSE(inside);
  EXPECT_NE(inside.error().text.find(":2: column 1: expected '{'"), std::string::npos)
      << inside.error().text;
}

TEST_F(TraceFile, FurtherFieldsAreIgnoredWithANote) {
  const auto trace = read_file(
      write(R"({"chat_id": 159, "type": "text", "turn": 1, "hash_ids": [1], "input_length": 512})"
            "\n"
            R"({"a\u001b": [{"b": "c"}], "turn": 2, "hash_ids": [1], "input_length": 512})"),
      kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->notes.front(), "fields ignored: a\\u001b, chat_id, turn, type");
  EXPECT_EQ(trace->sessions, 0U);
}

TEST_F(TraceFile, ManyFurtherFieldsAreCounted) {
  std::string line = "{\"hash_ids\": [1]";
  for (int i = 0; i < 12; ++i) line += ", \"f" + std::to_string(10 + i) + "\": 1";
  const auto trace = read_file(write(line + "}"), kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_TRUE(has_note(*trace, "fields ignored: f10, f11, f12, f13, f14, f15, f16, f17 and 4 more"))
      << trace->notes.front();
}

TEST_F(TraceFile, SessionsAreCounted) {
  const auto trace = read_file(write(R"({"session_id": "a", "hash_ids": [1]})"
                                     "\n"
                                     R"({"session_id": 7, "hash_ids": [1]})"
                                     "\n"
                                     R"({"session_id": "a", "hash_ids": [1]})"
                                     "\n"
                                     R"({"session_id": null, "hash_ids": [1]})"),
                               kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->sessions, 2U);
}

TEST_F(TraceFile, TheBlockSizeIsAFieldOrAnOption) {
  // The field may be on any line, and counts for all.
  const std::string path = write(R"({"input_length": 40, "hash_ids": [1, 2, 3]})"
                                 "\n"
                                 R"({"input_length": 32, "hash_ids": [1, 2], "block_size": 16})");
  const auto field = read_file(path, kNoStop);
  ASSERT_TRUE(field) << field.error().text;
  EXPECT_EQ(field->block_tokens, 16U);
  EXPECT_EQ(tokens_of(field->requests[0], 1), 16U);
  EXPECT_EQ(tokens_of(field->requests[0], 3), 40U);
  const auto wrong = read_trace({.trace_path = path, .block_tokens = 8}, kNoStop);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().text,
            path +
                ":1: input_length 40 is 5 blocks of 8 tokens, but hash_ids has 3: give the tokens "
                "of the trace's blocks with --block-tokens (16 fits this line)");
  const auto option = read_trace(
      {.trace_path = write(R"({"timestamp": 1, "input_length": 40, "hash_ids": [1, 2, 3]})"),
       .block_tokens = 16},
      kNoStop);
  ASSERT_TRUE(option) << option.error().text;
  EXPECT_EQ(option->requests[0].block_tokens, 16U);
  EXPECT_TRUE(option->notes.empty());
}

TEST_F(TraceFile, AnOptionThatDiffersFromTheFieldIsSaid) {
  const std::string path = write(R"({"input_length": 20, "hash_ids": [1], "block_size": 32})");
  const auto trace = read_trace({.trace_path = path, .block_tokens = 16}, kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->block_tokens, 16U);
  EXPECT_TRUE(has_note(
      *trace, "block_size 32 of the trace was ignored for the 16 tokens that were asked for"));
}

TEST_F(TraceFile, TwoBlockSizesInOneTraceAreAnError) {
  const auto trace = read_file(write(R"({"input_length": 32, "hash_ids": [1, 2], "block_size": 16})"
                                     "\n"
                                     R"({"input_length": 32, "hash_ids": [1], "block_size": 32})"),
                               kNoStop);
  ASSERT_FALSE(trace);
  EXPECT_NE(trace.error().text.find(":2: block_size 32, but earlier lines have 16"),
            std::string::npos)
      << trace.error().text;
}

TEST_F(TraceFile, ALastBlockThatIsShortMayHaveNoId) {
  const auto read_one = [&](const char* line) {
    return read_file(write(std::string{line} + "\n" + kGoodLine), kNoStop);
  };
  EXPECT_TRUE(read_one(R"({"input_length": 1030, "hash_ids": [1, 2]})"));
  EXPECT_TRUE(read_one(R"({"input_length": 1030, "hash_ids": [1, 2, 3]})"));
  EXPECT_TRUE(read_one(R"({"input_length": 1024, "hash_ids": [1, 2]})"));
  EXPECT_FALSE(read_one(R"({"input_length": 1024, "hash_ids": [1, 2, 3]})"));
  EXPECT_FALSE(read_one(R"({"input_length": 1024, "hash_ids": [1]})"));
  EXPECT_FALSE(read_one(R"({"input_length": 1030, "hash_ids": [1]})"));
  EXPECT_FALSE(read_one(R"({"input_length": 1030, "hash_ids": [1, 2, 3, 4]})"));
  const auto trace = read_one(R"({"input_length": 100, "hash_ids": []})");
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->requests.size(), 1U);
  EXPECT_TRUE(has_note(*trace, "1 request has no block and was left out"));
}

TEST_F(TraceFile, FieldsThatAreAbsentAreMadeUpAndSaid) {
  const auto trace = read_file(write(R"({"timestamp": 5, "hash_ids": [1, 2]})"
                                     "\n"
                                     R"({"input_length": 512, "hash_ids": [3]})"
                                     "\n"
                                     R"({"timestamp": 6, "input_length": 1, "hash_ids": [4]})"),
                               kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->requests[0].input_tokens, 1024U);
  EXPECT_EQ(trace->requests[1].timestamp_ns, 5'000'000U);
  EXPECT_EQ(trace->notes, (std::vector<std::string>{
                              "1 request has no timestamp and took that of the line before",
                              "1 request has no input_length and counted as whole blocks"}));
}

TEST_F(TraceFile, StopsAfterTheRequestsAskedFor) {
  const std::string line = std::string{kGoodLine} + "\n";
  const auto trace = read_file(write(line + line + "broken\n"), kNoStop, 2);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->requests.size(), 2U);
}

TEST_F(TraceFile, AnErrorNamesFileAndLine) {
  const std::string path = write(std::string{kGoodLine} + "\n\n{\"timestamp\": x}\n");
  const auto trace = read_file(path, kNoStop);
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().text,
            path + ":3: column 15: expected a number, or a date in quotes, found 'x}'");
  EXPECT_EQ(trace.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(TraceFile, ALastLineWithoutItsEndCounts) {
  const auto trace = read_file(write(std::string{kGoodLine}), kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->requests.size(), 1U);
}

TEST_F(TraceFile, LinesOutOfOrderAreSortedAndSaid) {
  const auto line = [](const char* time, int id) {
    return "{\"timestamp\": " + std::string{time} + ", \"hash_ids\": [" + std::to_string(id) +
           "]}\n";
  };
  // The fourth line has no time of its own: it gets that of the third.
  const auto trace = read_file(write(line("30", 1) + line("10", 2) + line("20", 3) +
                                     "{\"hash_ids\": [4]}\n" + line("10", 5) + line("30", 6)),
                               kNoStop);
  ASSERT_TRUE(trace) << trace.error().text;
  std::vector<std::uint64_t> order;
  for (const TraceRequest& request : trace->requests) order.push_back(request.blocks.front());
  EXPECT_EQ(order, (std::vector<std::uint64_t>{2, 5, 3, 4, 1, 6}));
  EXPECT_TRUE(has_note(*trace, "3 requests were earlier than one before: sorted by timestamp"));
}

TEST_F(TraceFile, DatesAndNumbersDoNotMix) {
  const auto trace = read_file(write(R"({"timestamp": "2024-05-10T00:00:00Z", "hash_ids": [1]})"
                                     "\n"
                                     R"({"timestamp": 1715299200000, "hash_ids": [1]})"),
                               kNoStop);
  ASSERT_FALSE(trace);
  EXPECT_NE(trace.error().text.find(
                ":2: the timestamp is a number, but those of earlier lines are dates"),
            std::string::npos)
      << trace.error().text;
}

TEST_F(TraceFile, TruncatedAndDamagedFilesAreErrors) {
  const std::string text = lines(1000);
  for (const std::string kind : {"zstd", "gzip"}) {
    const std::string whole = kind == "zstd" ? compressed(text) : gzipped(text);
    for (const std::size_t cut_bytes : {std::size_t{1}, std::size_t{5}, whole.size() - 6}) {
      const auto cut = read_file(write(whole.substr(0, whole.size() - cut_bytes)), kNoStop);
      ASSERT_FALSE(cut) << kind << " " << cut_bytes;
      EXPECT_NE(cut.error().text.find("ends in the middle of its " + kind), std::string::npos)
          << cut.error().text;
    }
    std::string damaged = whole;
    for (std::size_t i = 12; i < 26; ++i) damaged[i] = '\xFF';
    const auto bad = read_file(write(damaged), kNoStop);
    ASSERT_FALSE(bad);
    EXPECT_NE(bad.error().text.find("damaged " + kind + " data"), std::string::npos)
        << bad.error().text;
    const auto more = read_file(write(whole + "more behind it"), kNoStop);
    ASSERT_FALSE(more);
    EXPECT_NE(more.error().text.find("damaged " + kind + " data"), std::string::npos)
        << more.error().text;
  }
}

TEST_F(TraceFile, APipeThatNobodyWritesIntoIsLeftWhenAskedToStop) {
  const std::string path = directory_ + "/pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const UniqueFd writer{
      ::open(path.c_str(), O_RDWR | O_CLOEXEC)};  // Otherwise the open would block.
  ASSERT_TRUE(writer);
  const std::atomic<bool> stop = true;
  const auto trace = read_file(path, stop);
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().code, ErrorCode::kCancelled);
}

TEST_F(TraceFile, AMissingOrEmptyFileIsAnError) {
  const auto missing = read_file(directory_ + "/nothing", kNoStop);
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text.find("No such file"), std::string::npos) << missing.error().text;
  const auto empty = read_file(write("\n\n"), kNoStop);
  ASSERT_FALSE(empty);
  EXPECT_NE(empty.error().text.find("no requests"), std::string::npos) << empty.error().text;
}

}  // namespace
}  // namespace larder::tools
