#include "larder/connectors/resp/resp_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "larder/base/random.h"

namespace larder::resp {
namespace {

using Event = RespParser::Event;

/// All events of a parser for a text, one line each.
std::vector<std::string> events_of(RespParser& parser, std::span<const std::byte> piece,
                                   std::string& payload) {
  std::vector<std::string> told;
  for (;;) {
    if (parser.payload_left() > 0) {
      const std::size_t taken = std::min<std::size_t>(parser.payload_left(), piece.size());
      payload.append(reinterpret_cast<const char*>(piece.data()), taken);
      parser.took_payload(taken);
      piece = piece.subspan(taken);
      if (parser.payload_left() > 0) return told;
    }
    switch (parser.next(piece)) {
      case Event::kNeedMore:
        return told;
      case Event::kSimple:
        told.push_back("simple " + std::string{parser.text()});
        break;
      case Event::kError:
        told.push_back("error " + std::string{parser.text()});
        break;
      case Event::kInteger:
        told.push_back("integer " + std::to_string(parser.integer()));
        break;
      case Event::kNull:
        told.emplace_back("null");
        break;
      case Event::kBulk:
        payload.clear();
        told.push_back("bulk " + std::to_string(parser.bulk_bytes()));
        break;
      case Event::kBulkEnd:
        told.push_back("end " + payload);
        break;
      case Event::kArray:
        told.push_back("array " + std::to_string(parser.integer()));
        break;
      case Event::kBroken:
        told.push_back(std::string{"broken "} + parser.broken_why());
        return told;
    }
  }
}

std::vector<std::string> read_in_pieces(std::string_view text, std::vector<std::size_t> cuts,
                                        const ParserLimits& limits = {}) {
  RespParser parser{limits};
  std::string payload;
  std::vector<std::string> told;
  cuts.push_back(text.size());
  std::size_t begin = 0;
  for (const std::size_t end : cuts) {
    const auto piece = std::as_bytes(std::span{text.substr(begin, end - begin)});
    const auto some = events_of(parser, piece, payload);
    told.insert(told.end(), some.begin(), some.end());
    if (!told.empty() && told.back().starts_with("broken")) break;
    begin = end;
  }
  return told;
}

std::vector<std::string> read(std::string_view text, const ParserLimits& limits = {}) {
  return read_in_pieces(text, {}, limits);
}

constexpr std::string_view kConversation =
    "+OK\r\n-ERR no\r\n:0\r\n:-9223372036854775808\r\n$-1\r\n*-1\r\n$0\r\n\r\n$5\r\n+OK\r\n\r\n"
    "*2\r\n$1\r\na\r\n:7\r\n+\r\n$11\r\n$3\r\nabc\r\n:1\r\n*0\r\n+PONG\r\n";

const std::vector<std::string> kEvents{"simple OK",
                                       "error ERR no",
                                       "integer 0",
                                       "integer -9223372036854775808",
                                       "null",
                                       "null",
                                       "bulk 0",
                                       "end ",
                                       "bulk 5",
                                       "end +OK\r\n",
                                       "array 2",
                                       "bulk 1",
                                       "end a",
                                       "integer 7",
                                       "simple ",
                                       "bulk 11",
                                       "end $3\r\nabc\r\n:1",
                                       "array 0",
                                       "simple PONG"};

TEST(RespParserTest, EveryKindOfReplyIsTold) {
  EXPECT_EQ(read(kConversation), kEvents);
}

TEST(RespParserTest, ASplitAtAnyByteChangesNothing) {
  for (std::size_t at = 0; at <= kConversation.size(); ++at) {
    EXPECT_EQ(read_in_pieces(kConversation, {at}), kEvents) << "split at " << at;
  }
}

TEST(RespParserTest, OneByteAtATimeChangesNothing) {
  std::vector<std::size_t> cuts;
  for (std::size_t at = 1; at < kConversation.size(); ++at) cuts.push_back(at);
  EXPECT_EQ(read_in_pieces(kConversation, cuts), kEvents);
}

TEST(RespParserTest, APayloadMayLookLikeReplies) {
  const std::string payload = "+OK\r\n$-1\r\n:1\r\n-ERR\r\n";
  EXPECT_EQ(read("$" + std::to_string(payload.size()) + "\r\n" + payload + "\r\n+OK\r\n"),
            (std::vector<std::string>{"bulk " + std::to_string(payload.size()), "end " + payload,
                                      "simple OK"}));
}

TEST(RespParserTest, WhatIsNotRespBreaksItForGood) {
  for (const std::string_view bad : {"hello\r\n",
                                     "%1\r\n",
                                     "_\r\n",
                                     "\r\n",
                                     "+OK\n",
                                     "+OK\rX",
                                     ":\r\n",
                                     ":1x\r\n",
                                     ":+1\r\n",
                                     ": 1\r\n",
                                     ":9223372036854775808\r\n",
                                     ":000000000000000000000000\r\n",
                                     "$\r\n",
                                     "$-2\r\n",
                                     "$1.5\r\n",
                                     "$0x10\r\n",
                                     "$3\r\nabcd\r\n",
                                     "$3\r\nabc\n",
                                     "$3\r\nabc\rX",
                                     "*-2\r\n",
                                     "*x\r\n",
                                     "HTTP/1.1 400 Bad Request\r\n"}) {
    RespParser parser;
    std::string payload;
    const auto told = events_of(parser, std::as_bytes(std::span{bad}), payload);
    ASSERT_FALSE(told.empty()) << bad;
    EXPECT_TRUE(told.back().starts_with("broken a")) << bad << ": " << told.back();
    constexpr std::string_view kGood = "+OK\r\n";
    EXPECT_TRUE(
        events_of(parser, std::as_bytes(std::span{kGood}), payload).front().starts_with("broken"));
  }
}

TEST(RespParserTest, LimitsHoldBeforeAnythingIsRead) {
  const ParserLimits limits{.bulk_bytes_max = 10, .array_elements_max = 2, .line_bytes_max = 300};
  EXPECT_EQ(read("$10\r\n", limits), (std::vector<std::string>{"bulk 10"}));
  EXPECT_EQ(read("$11\r\n", limits),
            (std::vector<std::string>{"broken a value in a reply is too long"}));
  EXPECT_EQ(read("*2\r\n", limits), (std::vector<std::string>{"array 2"}));
  EXPECT_EQ(read("*3\r\n", limits),
            (std::vector<std::string>{"broken an array in a reply is too long"}));
  EXPECT_EQ(read("-" + std::string(301, 'x'), limits),
            (std::vector<std::string>{"broken a reply's line is too long"}));
  EXPECT_EQ(read("$" + std::string(21, '1'), limits),
            (std::vector<std::string>{"broken a number in a reply is too long"}));
}

TEST(RespParserTest, ALongLineKeepsItsBeginning) {
  const std::string line = "ERR " + std::string(1000, 'x');
  EXPECT_EQ(read("-" + line + "\r\n:1\r\n"),
            (std::vector<std::string>{"error " + line.substr(0, RespParser::kTextBytesMax),
                                      "integer 1"}));
}

TEST(RespParserTest, RandomBytesNeverStopItFromEnding) {
  Random random{20'260'101};
  constexpr std::string_view kLetters = "+-:$*\r\n0123456789aE";
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    while (text.size() < 40) text += kLetters[random.below(kLetters.size())];
    std::vector<std::size_t> cuts;
    for (std::size_t at = 1; at < text.size(); ++at) {
      if (random.one_in(3)) cuts.push_back(at);
    }
    EXPECT_EQ(read_in_pieces(text, cuts), read(text)) << text;
  }
}

}  // namespace
}  // namespace larder::resp
