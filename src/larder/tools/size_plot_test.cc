#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>

#include "larder/tools/size.h"
#include "larder/tools/terminal.h"

namespace larder::tools {
namespace {

/// 1,000 references, so that hits are tenths of a percent.
SizeResult result_of(std::vector<std::string> columns, std::vector<SizePoint> points) {
  SizeResult result;
  result.references = 1000;
  result.columns = std::move(columns);
  result.points = std::move(points);
  for (const SizePoint& point : result.points) {
    for (const std::uint64_t hits : point.hits) result.hits_max = std::max(result.hits_max, hits);
  }
  return result;
}

SizeResult three_policies() {
  return result_of({"LRU", "ours", "ARC", "optimum"},
                   {{.capacity_bytes = 1 << 20, .capacity_blocks = 1, .hits = {50, 100, 7, 200}},
                    {.capacity_bytes = 2 << 20, .capacity_blocks = 2, .hits = {150, 100, 7, 200}},
                    {.capacity_bytes = 4 << 20, .capacity_blocks = 4, .hits = {200, 200, 7, 200}}});
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream{text};
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// Characters of UTF-8, all of which take one column here.
std::size_t width_of(const std::string& line) {
  return static_cast<std::size_t>(std::ranges::count_if(
      line, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

TEST(SizePlotTest, BarsShowWhoReachesHowFar) {
  // 53 columns: a label of 12, 40 places for 20 %, and the last one empty.
  EXPECT_EQ(to_plot(three_policies(), {.columns = 53, .is_unicode = false}),
            "hit rate by capacity\n"
            "  # LRU and ours  + ours alone  - LRU alone\n"
            "  . optimum\n"
            "      1 MiB ##########++++++++++....................\n"
            "      2 MiB ####################----------..........\n"
            "      4 MiB ########################################\n"
            "            0 %                                 20 %\n");
}

TEST(SizePlotTest, BlocksAreTheSameBars) {
  const std::string ascii = to_plot(three_policies(), {.columns = 80, .is_unicode = false});
  std::string blocks = to_plot(three_policies(), {.columns = 80, .is_unicode = true});
  for (const auto& [block, mark] : {std::pair{"█", "#"}, {"▓", "+"}, {"▒", "-"}, {"░", "."}}) {
    for (std::size_t at = 0; (at = blocks.find(block, at)) != std::string::npos;) {
      blocks.replace(at, std::string_view{block}.size(), mark);
    }
  }
  EXPECT_EQ(blocks, ascii);
}

TEST(SizePlotTest, WithLruAloneItHasTwoMarks) {
  const std::string text =
      to_plot(result_of({"LRU", "optimum"},
                        {{.capacity_bytes = 1 << 20, .capacity_blocks = 1, .hits = {100, 200}}}),
              {.columns = 53, .is_unicode = false});
  EXPECT_NE(text.find("  # LRU  . optimum\n"), std::string::npos) << text;
  EXPECT_NE(text.find(std::string(20, '#') + std::string(20, '.') + "\n"), std::string::npos)
      << text;
}

TEST(SizePlotTest, NoLineIsWiderThanTheTerminal) {
  for (const bool is_unicode : {false, true}) {
    for (std::size_t columns = 0; columns <= 250; ++columns) {
      const std::string text =
          to_plot(three_policies(), {.columns = columns, .is_unicode = is_unicode});
      EXPECT_EQ(text.empty(), columns < 29) << columns;
      EXPECT_EQ(text.find('\x1b'), std::string::npos);
      for (const std::string& line : lines_of(text)) {
        EXPECT_LT(width_of(line), columns) << line;
        EXPECT_LT(width_of(line), 100U) << line;
      }
    }
  }
}

TEST(SizePlotTest, ATraceWithoutHitsHasEmptyBars) {
  const std::string text =
      to_plot(result_of({"LRU", "ARC", "optimum"},
                        {{.capacity_bytes = 1 << 20, .capacity_blocks = 1, .hits = {0, 0, 0}}}),
              {});
  EXPECT_NE(text.find("      1 MiB \n"), std::string::npos) << text;
}

TEST(TerminalTest, ItsWidthIsTheDevicesOrThatOfAPlainPage) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  const winsize size{.ws_row = 24, .ws_col = 47, .ws_xpixel = 0, .ws_ypixel = 0};
  ASSERT_EQ(::ioctl(terminal, TIOCSWINSZ, &size), 0);
  EXPECT_EQ(terminal_columns(terminal), 47U);
  ::close(terminal);
  const int file = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(terminal_columns(file), kUnknownColumns);
  ::close(file);
}

TEST(TerminalTest, TheFirstVariableOfTheLocaleThatIsSetDecides) {
  struct Case {
    const char* all;
    const char* ctype;
    const char* lang;
    bool is_utf8;
  };
  std::vector<std::pair<const char*, std::string>> before;
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* const value = std::getenv(name);
    before.emplace_back(name, value == nullptr ? "" : value);
  }
  for (const Case& one : {Case{"", "", "", false}, Case{"C", "", "en_US.UTF-8", false},
                          Case{"", "", "en_US.UTF-8", true}, Case{"", "de_DE.utf8@euro", "C", true},
                          Case{"C.UTF-8", "C", "C", true}, Case{"", "POSIX", "C.UTF-8", false},
                          Case{"de_DE.ISO-8859-1", "", "", false}}) {
    ::setenv("LC_ALL", one.all, 1);
    ::setenv("LC_CTYPE", one.ctype, 1);
    ::setenv("LANG", one.lang, 1);
    EXPECT_EQ(is_locale_utf8(), one.is_utf8) << one.all << "," << one.ctype << "," << one.lang;
  }
  for (const auto& [name, value] : before) ::setenv(name, value.c_str(), 1);
}

}  // namespace
}  // namespace larder::tools
