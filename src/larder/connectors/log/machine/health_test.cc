#include "larder/connectors/log/machine/health.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/logging.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kStart = 100 * kSecond;

class PathHealthTest : public ::testing::Test {
 protected:
  PathHealthTest() { set_log_level(LogLevel::kOff); }

  std::string reasons() const {
    std::string text;
    for (const std::string& reason : health_.snapshot().second) text += reason + "|";
    return text;
  }
  void fail(int times, std::uint64_t now_ns = kStart) {
    for (int i = 0; i < times; ++i) health_.note_io_error(now_ns, "reading a record", EIO);
  }

  PathHealth health_{"/data/kv"};
};

TEST_F(PathHealthTest, ANewPathIsHealthyAndHasNothingToSay) {
  EXPECT_EQ(health_.health(), Health::kHealthy);
  EXPECT_FALSE(health_.is_down());
  EXPECT_EQ(reasons(), "");
  EXPECT_EQ(health_.next_probe_ns(), kNever);
}

TEST_F(PathHealthTest, OneErrorDegradesAndSaysWhy) {
  fail(1);
  EXPECT_EQ(health_.health(), Health::kDegraded);
  EXPECT_EQ(reasons(), "reading a record: Input/output error|");
}

TEST_F(PathHealthTest, SuccessHealsAfterAQuietWhile) {
  fail(1);
  health_.note_io_success(kStart + 9 * kSecond);
  EXPECT_EQ(health_.health(), Health::kDegraded);
  health_.note_io_success(kStart + 10 * kSecond);
  EXPECT_EQ(health_.health(), Health::kHealthy);
  EXPECT_EQ(reasons(), "");
}

TEST_F(PathHealthTest, EightErrorsInARowTakeThePathDown) {
  fail(7);
  EXPECT_FALSE(health_.is_down());
  fail(1);
  EXPECT_TRUE(health_.is_down());
  EXPECT_EQ(health_.health(), Health::kDown);
  EXPECT_EQ(reasons(), "down: reading a record: Input/output error (8 in a row); probing|");
}

TEST_F(PathHealthTest, ASuccessInBetweenStartsTheRowAnew) {
  fail(7);
  health_.note_io_success(kStart);
  fail(7);
  EXPECT_FALSE(health_.is_down());
  fail(1);
  EXPECT_TRUE(health_.is_down());
}

TEST_F(PathHealthTest, SuccessesOfOldTransfersDoNotBringAPathBack) {
  fail(8);
  health_.note_io_success(kStart + 60 * kSecond);
  EXPECT_TRUE(health_.is_down());
}

TEST_F(PathHealthTest, AStallTakesThePathDownAtOnce) {
  health_.note_stall(kStart, 5 * kSecond);
  EXPECT_TRUE(health_.is_down());
  EXPECT_EQ(reasons(), "down: a transfer has had no answer for 5 s; probing|");
}

TEST_F(PathHealthTest, APathWhoseThreadIsKeptIsDownUntilItIsBackAndDegradedForAQuietWhile) {
  health_.note_blocked();
  EXPECT_TRUE(health_.is_blocked());
  EXPECT_EQ(health_.health(), Health::kDown);
  EXPECT_NE(reasons().find("the kernel keeps the store's own thread"), std::string::npos);
  EXPECT_EQ(health_.next_probe_ns(), kNever) << "the thread's coming back is the probe";
  health_.note_unblocked(kStart);
  EXPECT_EQ(health_.health(), Health::kDegraded);
  EXPECT_EQ(reasons(), "was down until just now|");
  health_.note_io_success(kStart + 10 * kSecond);
  EXPECT_EQ(health_.health(), Health::kHealthy);
  fail(8, kStart + 11 * kSecond);
  EXPECT_EQ(health_.next_probe_ns() - kStart, 11 * kSecond + 100'000'000);
}

TEST_F(PathHealthTest, ADiskThatIsDownStaysSoWhenTheThreadIsBack) {
  fail(8);
  health_.note_blocked();
  health_.note_unblocked(kStart);
  EXPECT_TRUE(health_.is_down());
  EXPECT_EQ(reasons(), "down: reading a record: Input/output error (8 in a row); probing|");
  health_.note_blocked();
  health_.note_probe(kStart, true);
  EXPECT_TRUE(health_.is_down()) << "the thread is still kept";
}

TEST_F(PathHealthTest, ProbesBackOffUpToTenSecondsAndStartAnewTheNextTime) {
  fail(8);
  std::uint64_t now_ns = kStart;
  std::vector<std::uint64_t> waits_ms;
  for (int i = 0; i < 9; ++i) {
    waits_ms.push_back((health_.next_probe_ns() - now_ns) / 1'000'000);
    now_ns = health_.next_probe_ns();
    health_.note_probe(now_ns, false);
  }
  EXPECT_EQ(waits_ms,
            (std::vector<std::uint64_t>{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000}));
  health_.note_probe(now_ns, true);
  now_ns += 10 * kSecond;
  fail(8, now_ns);
  EXPECT_EQ(health_.next_probe_ns() - now_ns, 100'000'000U);
}

TEST_F(PathHealthTest, APathThatGoesDownAgainSoonGoesOnBackingOff) {
  std::uint64_t now_ns = kStart;
  std::vector<std::uint64_t> waits_ms;
  for (int i = 0; i < 9; ++i) {
    fail(8, now_ns);
    waits_ms.push_back((health_.next_probe_ns() - now_ns) / 1'000'000);
    now_ns = health_.next_probe_ns();
    health_.note_probe(now_ns, true);
    now_ns += kSecond;
  }
  EXPECT_EQ(waits_ms,
            (std::vector<std::uint64_t>{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000}));
}

TEST_F(PathHealthTest, AnIdlePathIsProbedAfterAQuietWhileAndHealsByThat) {
  fail(1);
  EXPECT_EQ(health_.next_probe_ns(), kStart + 10 * kSecond);
  health_.note_probe(kStart + 10 * kSecond, false);
  EXPECT_EQ(health_.health(), Health::kDegraded);
  EXPECT_EQ(reasons(), "probing: Input/output error|");
  EXPECT_EQ(health_.next_probe_ns(), kStart + 20 * kSecond);
  health_.note_probe(kStart + 20 * kSecond, true);
  EXPECT_EQ(health_.health(), Health::kHealthy);
  EXPECT_EQ(health_.next_probe_ns(), kNever);
}

TEST_F(PathHealthTest, AProbeThatSucceedsBringsThePathBackDegradedForAWhile) {
  fail(8);
  health_.note_probe(kStart + kSecond, true);
  EXPECT_EQ(health_.health(), Health::kDegraded);
  EXPECT_EQ(reasons(), "was down until just now|");
  fail(7, kStart + kSecond);  // The errors before it count no more.
  EXPECT_FALSE(health_.is_down());
  health_.note_io_success(kStart + 11 * kSecond);
  EXPECT_EQ(health_.health(), Health::kHealthy);
}

TEST_F(PathHealthTest, FlawsLast) {
  health_.note_flaw("segment-0000003 was set aside");
  fail(1);
  health_.note_io_success(kStart + 10 * kSecond);
  EXPECT_EQ(health_.health(), Health::kDegraded);
  EXPECT_EQ(reasons(), "segment-0000003 was set aside|");
}

TEST_F(PathHealthTest, FlawsAreBounded) {
  for (int i = 0; i < 1000; ++i) health_.note_flaw("flaw " + std::to_string(i));
  EXPECT_EQ(health_.snapshot().second.size(), 16U);
  EXPECT_EQ(health_.snapshot().second.front(), "flaw 0");
}

TEST_F(PathHealthTest, ConditionsComeChangeAndGo) {
  health_.set_condition("growth", "the disk is full");
  health_.set_condition("index", "the index is full");
  EXPECT_EQ(health_.health(), Health::kDegraded);
  EXPECT_EQ(reasons(), "the disk is full|the index is full|");
  health_.set_condition("growth", "the disk is very full");
  EXPECT_EQ(reasons(), "the index is full|the disk is very full|");
  health_.set_condition("index", "");
  EXPECT_EQ(reasons(), "the disk is very full|");
  health_.set_condition("growth", "");
  EXPECT_EQ(health_.health(), Health::kHealthy);
  health_.set_condition("growth", "");  // A condition that is over may end again.
  EXPECT_EQ(health_.health(), Health::kHealthy);
}

TEST_F(PathHealthTest, ReasonsNameWhatIsWorstFirst) {
  health_.note_flaw("a flaw");
  health_.set_condition("growth", "a condition");
  fail(1);
  EXPECT_EQ(reasons(), "reading a record: Input/output error|a condition|a flaw|");
}

}  // namespace
}  // namespace larder::log_store
