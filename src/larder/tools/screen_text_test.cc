#include "larder/tools/screen_text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "larder/tools/figure_text.h"
#include "larder/tools/terminal_keys.h"

namespace larder::tools {
namespace {

TEST(ScreenTextTest, WhatDoesNotFitEndsInAnEllipsis) {
  EXPECT_EQ(fit("abcdef", 6, true), "abcdef");
  EXPECT_EQ(fit("abcdefg", 6, true), "abcde…");
  EXPECT_EQ(fit("abcdefg", 6, false), "abcde~");
  EXPECT_EQ(fit("abc", 0, true), "");
  EXPECT_EQ(fit("", 3, true), "");
  EXPECT_EQ(fit_middle("/data/kv", 8, true), "/data/kv");
  EXPECT_EQ(fit_middle("/data/of/mine/kv", 8, true), "/da…e/kv");
  EXPECT_EQ(fit_middle("漢漢漢", 5, true), "…漢");
  EXPECT_EQ(fit_middle("abc", 0, true), "");
  EXPECT_EQ(fit_left("ab", 4, true), "ab  ");
  EXPECT_EQ(fit_right("abcdef", 4, true), "abc…");
  EXPECT_EQ(fit_right("…", 3, true), "  …");
}

TEST(ScreenTextTest, NothingThatDrivesATerminalIsLeft) {
  EXPECT_EQ(fit("a\x1b[2J\r\n\x07", 40, true), "a\\x1b[2J\\x0d\\x0a\\x07");
  EXPECT_EQ(fit("\xff\xc2\x9b", 40, true), "\\xff\\xc2\\x9b");
  for (int c = 0; c < 256; ++c) {
    for (const bool is_utf8 : {false, true}) {
      for (const char shown : fit(std::string(3, static_cast<char>(c)), 9, is_utf8)) {
        EXPECT_FALSE((shown >= 0 && shown < ' ') || shown == 0x7f) << c;
      }
    }
  }
}

TEST(ScreenTextTest, ColumnsAreThoseOfATerminal) {
  EXPECT_EQ(fit("é", 9, true), "é");
  EXPECT_EQ(columns_of("é漢"), 3U);
  EXPECT_EQ(fit("漢漢漢", 4, true), "漢…") << "two columns each";
  EXPECT_EQ(fit("漢", 9, false), "?");
  EXPECT_EQ(fit("e\xcc\x81", 9, true), "e?") << "a combining mark has no column of its own";
}

TEST(ScreenTextTest, ATableDropsWhatIsWorthLeastAndItsNumbersStayInPlace) {
  const std::vector<ScreenTable::Column> columns{
      {"NAME", 6}, {"a", 4}, {"b", 4, 2}, {"c", 4, 1}, {"words", 5, 0, true}};
  const auto shown = [&](std::size_t width) {
    const ScreenTable table{columns, 10, width, false};
    return plain_line(table.title()) + "|" +
           plain_line(table.row({{"a long name"}, {"1"}, {"22"}, {"333"}, {"some words"}}));
  };
  EXPECT_EQ(shown(40), "NAME          a    b    c  words|a lo~ name    1   22  333  some words");
  EXPECT_EQ(shown(21), "NAME      a    b    c|a ~ame    1   22  333");
  EXPECT_EQ(shown(16), "NAME      a    c|a ~ame    1  333");
  EXPECT_EQ(shown(11), "NAME      a|a ~ame    1");
  EXPECT_EQ(shown(3), "NAME      a|a ~ame    1") << "whoever shows it cuts it";
}

TEST(ScreenTextTest, StylesAreOnlyInStyledLines) {
  const ScreenLine line{{"a ", ScreenStyle::kBad}, {"b  ", ScreenStyle::kPlain}};
  EXPECT_EQ(plain_line(line), "a b");
  EXPECT_EQ(styled_line(line), "\x1b[1;31ma \x1b[0mb  ");
}

TEST(FigureTextTest, NumbersAreShort) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(0.5), "0.5");
  EXPECT_EQ(count_text(9.96), "10");
  EXPECT_EQ(count_text(987.4), "987");
  EXPECT_EQ(count_text(999.6), "1.00 k");
  EXPECT_EQ(count_text(12'345), "12.3 k");
  EXPECT_EQ(count_text(1e300).size() > 3, true);
  EXPECT_EQ(count_text(std::nullopt), "-");
  EXPECT_EQ(percent_text(0.8325), "83.2 %");
  EXPECT_EQ(percent_text(7), "100.0 %");
  EXPECT_EQ(byte_rate_text(1.234e9), "1.23 GB/s");
  EXPECT_EQ(byte_rate_text(12.4), "12 B/s");
  EXPECT_EQ(byte_rate_text(0.2), "0");
  EXPECT_EQ(change_text(-2e6), "-2.00 MB/s");
  EXPECT_EQ(change_text(0), "0");
  EXPECT_EQ(latency_text(Quantile{.value = 0.00137}), "1.37 ms");
  EXPECT_EQ(latency_text(Quantile{.value = 60, .is_more = true}), ">1 m");
  EXPECT_EQ(while_text(59.4), "59 s");
  EXPECT_EQ(while_text(3 * 3600 + 12 * 60), "3 h 12 min");
  EXPECT_EQ(while_text(50 * 3600), "2 d 2 h");
}

using enum TerminalKey;

TEST(TerminalKeysTest, LettersAreKeys) {
  TerminalKeys keys;
  EXPECT_EQ(keys.decode("qp?x\x1a\x0c\x03"),
            (std::vector{kQuit, kPause, kHelp, kSuspend, kRedraw, kQuit}));
}

TEST(TerminalKeysTest, NoByteOfASequenceIsALetter) {
  const std::string sequences = "\x1b[A\x1b[15~\x1b[1;5q\x1b[<0;10;20M\x1bOP\x1bOq";
  TerminalKeys keys;
  EXPECT_TRUE(keys.decode(sequences).empty());
  for (const char byte : sequences) EXPECT_TRUE(keys.decode({&byte, 1}).empty());
  EXPECT_EQ(keys.decode("\x1b"), std::vector<TerminalKey>{});
  EXPECT_EQ(keys.decode("q"), std::vector{kQuit}) << "Escape, and then a key";
  EXPECT_TRUE(keys.decode("\xc3\xb1\xf1").empty());
}

}  // namespace
}  // namespace larder::tools
