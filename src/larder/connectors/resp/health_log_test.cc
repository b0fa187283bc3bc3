#include "larder/connectors/resp/health_log.h"

#include <gtest/gtest.h>

#include <string>

#include "larder/base/logging.h"

namespace larder::resp {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

class HealthLogTest : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kInfo); }
  void TearDown() override { set_log_level(LogLevel::kWarning); }

  /// The lines that a look at that health writes.
  std::string look(Health health, std::uint64_t now_ns, const std::string& reason = "it is gone") {
    Report report;
    report.health = health;
    if (health != Health::kHealthy) report.reasons = {reason, "it tries again"};
    ::testing::internal::CaptureStderr();
    health_log_.look(report, now_ns);
    return ::testing::internal::GetCapturedStderr();
  }

  HealthLog health_log_{"cache:6379"};
};

TEST_F(HealthLogTest, OneLineWhenItGetsWorseAndOneWhenItIsHealthyAgain) {
  EXPECT_EQ(look(Health::kHealthy, kSecondNs), "");
  const std::string down = look(Health::kDown, 2 * kSecondNs);
  EXPECT_NE(down.find(" W [resp] cache:6379: down: it is gone; it tries again\n"),
            std::string::npos)
      << down;
  EXPECT_EQ(look(Health::kDown, 200 * kSecondNs), "") << "it was said";
  const std::string well = look(Health::kHealthy, 201 * kSecondNs);
  EXPECT_NE(well.find(" I [resp] cache:6379: is healthy again\n"), std::string::npos) << well;
  EXPECT_EQ(look(Health::kHealthy, 202 * kSecondNs), "");
}

TEST_F(HealthLogTest, AServerThatComesAndGoesDoesNotFlood) {
  EXPECT_NE(look(Health::kDown, kSecondNs), "");
  EXPECT_NE(look(Health::kHealthy, 2 * kSecondNs), "");
  for (std::uint64_t second = 3; second < 60; second += 2) {
    EXPECT_EQ(look(Health::kDown, second * kSecondNs), "") << second;
    EXPECT_EQ(look(Health::kHealthy, (second + 1) * kSecondNs), "") << second;
  }
  EXPECT_EQ(look(Health::kDown, 60 * kSecondNs), "");
  EXPECT_NE(look(Health::kDown, 61 * kSecondNs), "") << "it is still down";
}

TEST_F(HealthLogTest, WorseIsSaidAtOnceAndBetterOnlyLater) {
  EXPECT_NE(look(Health::kDegraded, kSecondNs), "");
  EXPECT_NE(look(Health::kDown, 2 * kSecondNs), "");
  EXPECT_EQ(look(Health::kDegraded, 3 * kSecondNs), "") << "it may be coming back";
  EXPECT_NE(look(Health::kDegraded, 62 * kSecondNs), "");
  EXPECT_NE(look(Health::kHealthy, 63 * kSecondNs), "");
}

TEST_F(HealthLogTest, AHealthyServerIsLookedAtAfterAnEventOnly) {
  EXPECT_EQ(health_log_.due_ns(), kNever);
  health_log_.note_event(kSecondNs);
  const std::uint64_t due_ns = health_log_.due_ns();
  EXPECT_EQ(due_ns, kSecondNs + HealthLog::kSettleNs);
  health_log_.note_event(due_ns - 1);
  EXPECT_EQ(health_log_.due_ns(), due_ns) << "events do not put it off";
  look(Health::kDown, due_ns);
  EXPECT_EQ(health_log_.due_ns(), due_ns + HealthLog::kLookEveryNs);
  health_log_.note_event(due_ns + 1);
  EXPECT_EQ(health_log_.due_ns(), due_ns + HealthLog::kLookEveryNs);
  look(Health::kHealthy, due_ns + HealthLog::kLookEveryNs);
  EXPECT_EQ(health_log_.due_ns(), kNever);
}

TEST_F(HealthLogTest, WhatAReasonHoldsForgesNoLine) {
  const std::string line = look(Health::kDown, kSecondNs, "a\nb\x1b[31m");
  EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
  EXPECT_EQ(line.find('\x1b'), std::string::npos) << line;
}

}  // namespace
}  // namespace larder::resp
