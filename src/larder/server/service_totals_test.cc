// The service's counts for metrics alone.
#include <gtest/gtest.h>

#include "larder/server/server_test_support.h"

namespace larder::server {
namespace {

class ServiceTotalsTest : public ServiceFixture {};

TEST_F(ServiceTotalsTest, LookupsAreOfTheirModelAndSalt) {
  register_worker();
  wire::KeySample sample = key("r", 1, 0, 32);
  store(sample);
  EXPECT_EQ(lookup(sample), 2U);
  sample.request_id = "s";
  sample.salt = "tenant";
  EXPECT_EQ(lookup(sample), 0U);

  const ServerStatus now = status();
  ASSERT_EQ(now.spaces.size(), 2U);
  EXPECT_EQ(now.spaces[0].model, sample.model);
  EXPECT_EQ(now.spaces[0].salt, "");
  EXPECT_EQ(now.spaces[0].lookups.hit_l1, 2U);
  EXPECT_EQ(now.spaces[1].salt, "tenant");
  EXPECT_EQ(now.spaces[1].lookups.asked, 2U);
  EXPECT_EQ(now.spaces[1].lookups.hit_l1, 0U);
}

TEST_F(ServiceTotalsTest, SaltsBeyondTheFirstAreCountedTogether) {
  register_worker();
  wire::KeySample sample = key("r", 1, 0, 32);
  for (std::size_t i = 0; i < cache::kSpacesCounted + 20; ++i) {
    sample.salt = "salt" + std::to_string(i);
    sample.request_id = "r" + std::to_string(i);
    EXPECT_EQ(lookup(sample), 0U);
  }
  const ServerStatus now = status();
  ASSERT_EQ(now.spaces.size(), cache::kSpacesCounted + 1);
  EXPECT_EQ(now.spaces.back().model, kOtherSpaces);
  EXPECT_EQ(now.spaces.back().salt, kOtherSpaces);
  EXPECT_EQ(now.spaces.back().lookups.lookups, 20U);
}

TEST_F(ServiceTotalsTest, ChunksThatAWorkerHasRetrievedAreItsOwn) {
  register_worker();
  const wire::KeySample sample = key("r", 1, 0, 64);
  store(sample);
  EXPECT_EQ(lookup(sample), 4U);
  prepare_retrieve(sample);
  EXPECT_EQ(status().instances[0].chunks_loaded, 0U);
  commit_retrieve(sample);
  commit_retrieve(sample);  // Nothing is open any more.
  EXPECT_EQ(status().instances[0].chunks_loaded, 4U);
}

}  // namespace
}  // namespace larder::server
