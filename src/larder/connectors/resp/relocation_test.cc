#include "larder/connectors/resp/relocation.h"

#include <gtest/gtest.h>

namespace larder::resp {
namespace {

using Finding = Relocation::Finding;

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr ReconnectOptions kOptions{.initial_ns = kSecondNs / 100, .max_ns = 2 * kSecondNs};

class RelocationTest : public testing::Test {
 protected:
  Relocation::Verdict refuse(const char* reply) {
    return relocation_.note_refusal(find_reply_error(reply), now_ns_);
  }

  std::uint64_t now_ns_ = 1000 * kSecondNs;
  Relocation relocation_{kOptions, 1};
};

TEST_F(RelocationTest, OnlyWhatAPrimaryWouldServeIsSuspicious) {
  for (const char* const reply : {"OOM", "MISCONF", "NOREPLICAS", "BUSY", "NOPERM", "MOVED", "ERR",
                                  "CLUSTERDOWN", "WRONGTYPE", "NOAUTH"}) {
    EXPECT_FALSE(refuse(reply).suspects_this) << reply;
    EXPECT_FALSE(relocation_.is_suspicious()) << reply;
  }
  EXPECT_TRUE(refuse("READONLY").suspects_all);
  EXPECT_TRUE(relocation_.is_suspicious());
  EXPECT_FALSE(relocation_.concerns_reads());
  EXPECT_TRUE(refuse("MASTERDOWN").suspects_this);
  EXPECT_TRUE(relocation_.concerns_reads());
}

/// Another old connection is refused after the first has reconnected: the new one, which leads
/// elsewhere already, must not pass for an old one.
TEST_F(RelocationTest, ALaterRefusalConcernsItsOwnConnectionAlone) {
  EXPECT_TRUE(refuse("READONLY").suspects_all);
  const Relocation::Verdict second = refuse("READONLY");
  EXPECT_TRUE(second.suspects_this);
  EXPECT_FALSE(second.suspects_all);
  EXPECT_EQ(relocation_.note_served(false, true), Finding::kElsewhere);
  EXPECT_TRUE(refuse("READONLY").suspects_all) << "of the next failover";
}

TEST_F(RelocationTest, LoadingIsSuspiciousWhenItLasts) {
  EXPECT_FALSE(refuse("LOADING").suspects_all);
  now_ns_ += kSecondNs - 1;
  EXPECT_FALSE(refuse("LOADING").suspects_all);
  now_ns_ += 1;
  EXPECT_TRUE(refuse("LOADING").renews_this);
  EXPECT_TRUE(relocation_.concerns_reads());
}

TEST_F(RelocationTest, LoadingThatWasOverBeginsAnew) {
  refuse("LOADING");
  now_ns_ += kSecondNs;
  relocation_.note_served(false, false);
  EXPECT_FALSE(refuse("LOADING").suspects_all);
}

TEST_F(RelocationTest, AReplicaForGoodCostsOneConnectionInEachLongestWait) {
  int renewed = 0;
  const std::uint64_t start_ns = now_ns_;
  for (; now_ns_ < start_ns + 600 * kSecondNs; now_ns_ += kSecondNs / 1000) {
    renewed += refuse("READONLY").renews_this ? 1 : 0;
    EXPECT_EQ(relocation_.note_served(true, false), Finding::kNothing) << "loads prove nothing";
  }
  EXPECT_LE(renewed, 600 + 10);
  EXPECT_GE(renewed, 300);
}

TEST_F(RelocationTest, AStoreOnANewConnectionLeadsAllElsewhere) {
  EXPECT_TRUE(refuse("READONLY").renews_this);
  EXPECT_EQ(relocation_.note_served(false, false), Finding::kNothing);
  EXPECT_EQ(relocation_.note_served(false, true), Finding::kElsewhere);
  EXPECT_FALSE(relocation_.is_suspicious());
  EXPECT_EQ(relocation_.note_served(false, true), Finding::kNothing) << "once";
  EXPECT_TRUE(refuse("READONLY").renews_this) << "the next failover is looked after at once";
}

TEST_F(RelocationTest, AStoreWhereItWasRefusedEndsTheSuspicion) {
  refuse("READONLY");
  EXPECT_EQ(relocation_.note_served(true, true), Finding::kHere);
  EXPECT_FALSE(relocation_.is_suspicious());
}

TEST_F(RelocationTest, ALoadIsEnoughWhereLoadsWereRefused) {
  refuse("MASTERDOWN");
  EXPECT_EQ(relocation_.note_served(false, false), Finding::kElsewhere);
}

}  // namespace
}  // namespace larder::resp
