#include "larder/base/logging.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace larder {
namespace {

constexpr LogLevel kLevels[] = {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning,
                                LogLevel::kError};

/// The output of `write` on stderr.
template <class Function>
std::string stderr_of(Function write) {
  testing::internal::CaptureStderr();
  write();
  return testing::internal::GetCapturedStderr();
}

TEST(LoggingTest, ALineHasTimeLevelModuleAndMessage) {
  set_log_level(LogLevel::kWarning);
  const std::string line = stderr_of([] { log(LogLevel::kWarning, "log", "disk is {slow}"); });
  EXPECT_TRUE(std::regex_match(
      line, std::regex{R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} W \[log\] disk is \{slow\}\n)"}))
      << line;
}

TEST(LoggingTest, WritesTheLevelAndWhatIsAboveIt) {
  for (const LogLevel threshold : kLevels) {
    set_log_level(threshold);
    for (const LogLevel level : kLevels) {
      const std::string line = stderr_of([level] { log(level, "test", "hello"); });
      EXPECT_EQ(!line.empty(), level >= threshold);
      EXPECT_EQ(is_logged(level), level >= threshold);
    }
  }
  set_log_level(LogLevel::kOff);
  EXPECT_EQ(stderr_of([] { log(LogLevel::kError, "test", "hello"); }), "");
  EXPECT_EQ(stderr_of([] { log(LogLevel::kOff, "test", "hello"); }), "");
}

TEST(LoggingTest, ControlCharactersCannotForgeALine) {
  set_log_level(LogLevel::kWarning);
  const std::string line = stderr_of(
      [] { log(LogLevel::kError, "te\nst", std::string_view{"key \n\x1b[31m\x7f\0 end", 16}); });
  EXPECT_NE(line.find(R"([te\x0ast] key \x0a\x1b[31m\x7f\x00 end)"), std::string::npos) << line;
  EXPECT_EQ(line.find('\n'), line.size() - 1);
}

TEST(LoggingTest, ParsesLevelNamesInAnyCase) {
  EXPECT_EQ(parse_log_level("debug"), LogLevel::kDebug);
  EXPECT_EQ(parse_log_level("Info"), LogLevel::kInfo);
  EXPECT_EQ(parse_log_level("WARNING"), LogLevel::kWarning);
  EXPECT_EQ(parse_log_level("error"), LogLevel::kError);
  EXPECT_EQ(parse_log_level("off"), LogLevel::kOff);
  EXPECT_EQ(parse_log_level("verbose"), std::nullopt);
  EXPECT_EQ(parse_log_level(""), std::nullopt);
}

/// The level is read once in a process, so each case runs in its own process.
class LoggingDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  void TearDown() override { ::unsetenv("LARDER_LOG"); }

  [[noreturn]] static void log_at_every_level() {
    log(LogLevel::kDebug, "test", "a debug line");
    log(LogLevel::kInfo, "test", "an info line");
    log(LogLevel::kWarning, "test", "a warning line");
    std::exit(is_logged(LogLevel::kWarning) ? 0 : 1);
  }
};

TEST_F(LoggingDeathTest, TheEnvironmentSetsTheLevel) {
  ::setenv("LARDER_LOG", "info", 1);
  EXPECT_EXIT(log_at_every_level(), testing::ExitedWithCode(0),
              "^[^\n]*an info line\n[^\n]*a warn");
  ::setenv("LARDER_LOG", "off", 1);
  EXPECT_EXIT(log_at_every_level(), testing::ExitedWithCode(1), "^$");
}

TEST_F(LoggingDeathTest, TheDefaultIsWarning) {
  ::unsetenv("LARDER_LOG");
  EXPECT_EXIT(log_at_every_level(), testing::ExitedWithCode(0), "^[^\n]*a warning line\n$");
}

TEST_F(LoggingDeathTest, AnAnnouncementIsShownUnlessALevelAboveInfoIsAskedFor) {
  const auto announce_and_exit = [] {
    announce("test", "opened");
    log(LogLevel::kInfo, "test", "an info line");
    std::exit(0);
  };
  const std::pair<const char*, const char*> cases[] = {
      {nullptr, "^[^\n]* I \\[test\\] opened\n$"},
      {"loud", "using warning\n[^\n]* I \\[test\\] opened\n$"},
      {"info", "opened\n[^\n]*an info line\n$"},
      {"warning", "^$"},
      {"off", "^$"},
  };
  for (const auto& [level, lines] : cases) {
    if (level != nullptr) ::setenv("LARDER_LOG", level, 1);
    EXPECT_EXIT(announce_and_exit(), testing::ExitedWithCode(0), lines);
    ::unsetenv("LARDER_LOG");
  }
  EXPECT_EXIT(
      {
        set_log_level(LogLevel::kWarning);
        announce_and_exit();
      },
      testing::ExitedWithCode(0), "^$");
}

TEST_F(LoggingDeathTest, AnUnknownLevelIsSaidOnceAndMeansWarning) {
  ::setenv("LARDER_LOG", "loud", 1);
  EXPECT_EXIT(log_at_every_level(), testing::ExitedWithCode(0),
              "^[^\n]*LARDER_LOG is none of debug, info[^\n]*\n[^\n]*a warning line\n$");
}

TEST(LogLimiterTest, AllowsOneAnIntervalAndCountsTheOthers) {
  LogLimiter limiter{100};
  EXPECT_EQ(limiter.allow(0), 0U);
  EXPECT_EQ(limiter.allow(0), std::nullopt);
  EXPECT_EQ(limiter.allow(50), std::nullopt);
  EXPECT_EQ(limiter.allow(99), std::nullopt);
  EXPECT_EQ(limiter.allow(100), 3U);
  EXPECT_EQ(limiter.allow(1'000), 0U);
  EXPECT_EQ(limiter.allow(1'099), std::nullopt);
  EXPECT_EQ(limiter.allow(1'100), 1U);
}

TEST(LogLimiterTest, OneOfManyThreadsSpeaksAndNoneIsForgotten) {
  LogLimiter limiter{1'000'000};
  std::atomic<std::uint64_t> allowed = 0;
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 1'000; ++j) allowed += limiter.allow(5) ? 1U : 0U;
      });
    }
  }
  EXPECT_EQ(allowed, 1U);
  EXPECT_EQ(limiter.allow(2'000'000), 3'999U);
}

}  // namespace
}  // namespace larder
