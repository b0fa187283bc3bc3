#include "larder/connector/peer_state.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

constexpr Error kRefused{ErrorCode::kUnavailable, "test", "connection refused"};

TEST(ReconnectBackoffTest, WaitsDoubleUpToTheLongestWithJitter) {
  ReconnectBackoff backoff{{.initial_ns = 100, .max_ns = 1000}, 1};
  EXPECT_EQ(backoff.retry_at_ns(), kNever);
  for (const std::uint64_t longest : {100U, 200U, 400U, 800U, 1000U, 1000U}) {
    backoff.note_failure(5000);
    EXPECT_GE(backoff.retry_at_ns(), 5000 + longest / 2);
    EXPECT_LE(backoff.retry_at_ns(), 5000 + longest);
  }
}

TEST(ReconnectBackoffTest, OnlyAnAnswerMakesTheNextFailureTheFirstOneAgain) {
  ReconnectBackoff backoff{{.initial_ns = 100, .max_ns = 100'000}, 1};
  for (int i = 0; i < 5; ++i) backoff.note_failure(0);
  backoff.note_connected();
  EXPECT_EQ(backoff.retry_at_ns(), kNever);
  backoff.note_failure(0);
  EXPECT_GE(backoff.retry_at_ns(), 1600U);
  backoff.reset();
  EXPECT_EQ(backoff.retry_at_ns(), kNever);
  backoff.note_failure(0);
  EXPECT_LE(backoff.retry_at_ns(), 100U);
}

TEST(ReconnectBackoffTest, WorkersWithOtherSeedsDoNotComeBackTogether) {
  const ReconnectOptions options{.initial_ns = 1'000'000, .max_ns = 1'000'000};
  ReconnectBackoff first{options, 1};
  ReconnectBackoff second{options, 2};
  first.note_failure(0);
  second.note_failure(0);
  EXPECT_NE(first.retry_at_ns(), second.retry_at_ns());
}

TEST(ReconnectOptionsTest, TheFirstWaitIsAboveZeroAndNotAboveTheLongest) {
  EXPECT_TRUE(ReconnectOptions{}.validate());
  EXPECT_FALSE((ReconnectOptions{.initial_ns = 0, .max_ns = 1}.validate()));
  EXPECT_FALSE((ReconnectOptions{.initial_ns = 2, .max_ns = 1}.validate()));
}

TEST(PeerStateTest, HealthFollowsTheLinks) {
  using Link = PeerState::Link;
  PeerState peer;
  peer.add_worker();
  peer.add_worker();
  const auto report = [&peer] {
    Report result;
    peer.append_report(result);
    return result;
  };
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_TRUE(report().reasons.empty());

  peer.note_failure(kRefused);
  peer.change(Link::kIdle, Link::kDown);
  EXPECT_EQ(report().health, Health::kDown);
  ASSERT_EQ(report().reasons.size(), 1U);
  EXPECT_NE(report().reasons[0].find("connection refused"), std::string::npos);

  peer.change(Link::kIdle, Link::kConnected);
  EXPECT_EQ(report().health, Health::kDegraded);
  peer.change(Link::kDown, Link::kConnected);
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_EQ(report().counters[0].name, "connections");
  EXPECT_EQ(report().counters[0].value, 2U);
  EXPECT_EQ(report().counters[1].name, "connect_failures_total");
  EXPECT_EQ(report().counters[1].value, 1U);
}

TEST(PeerStateTest, AConnectionThatHasServedNothingProvesNothing) {
  using Link = PeerState::Link;
  PeerState peer{"connections"};
  for (int i = 0; i < 3; ++i) peer.add_worker();
  peer.change(Link::kIdle, Link::kGreeted);
  peer.change(Link::kIdle, Link::kGreeted);
  const auto report = [&peer] {
    Report result;
    peer.append_health(result);
    return result;
  };
  EXPECT_EQ(report().health, Health::kHealthy) << "nothing was asked";
  EXPECT_EQ(peer.connections(), 2U);
  peer.note_failure(kRefused);
  peer.change(Link::kIdle, Link::kDown);
  EXPECT_EQ(report().health, Health::kDown);
  EXPECT_NE(report().reasons.at(0).find("1 of 3 connections"), std::string::npos);
  peer.change(Link::kGreeted, Link::kConnected);
  EXPECT_EQ(report().health, Health::kDegraded);
  EXPECT_EQ(peer.failures_total(), 1U);
}

}  // namespace
}  // namespace larder
