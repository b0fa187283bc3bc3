// Columns that stay in L1 because the driver says so: E41.
#include "larder/cache/engine_test_support.h"

namespace larder::cache {
namespace {

class EnginePledgeTest : public EngineFixture {
 protected:
  bool is_there(const ChunkHash& chunk) { return engine().find(space_, chunk).has_value(); }
};

TEST_F(EnginePledgeTest, WhatIsPledgedDoesNotMakeRoom) {
  capacity_cells = 8;
  add_model();
  const auto old = chain_of(1, 8);
  store(old);
  ASSERT_EQ(engine().pledge(space_, old[7]), Pledge::kGiven);  // The coldest: its prefix's tail.
  ASSERT_EQ(engine().pledge(space_, old[0]), Pledge::kGiven);
  EXPECT_EQ(stats().columns_pledged, 2U);
  EXPECT_EQ(stats().pledged_bytes, 2 * kGrain);

  EXPECT_EQ(store(chain_of(2, 8)), 6U);

  EXPECT_TRUE(is_there(old[7]));
  EXPECT_TRUE(is_there(old[0]));
  engine().unpledge(space_, old[7]);
  engine().unpledge(space_, old[7]);  // Nothing more happens.
  EXPECT_EQ(stats().columns_pledged, 1U);
  EXPECT_EQ(store(chain_of(3, 8)), 7U);
  EXPECT_FALSE(is_there(old[7]));
  EXPECT_TRUE(is_there(old[0]));
}

TEST_F(EnginePledgeTest, ThePledgesHaveABudget) {
  capacity_cells = 8;
  options.pledge_share = 0.25;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  EXPECT_EQ(engine().pledge(space_, chain[0]), Pledge::kGiven);
  EXPECT_EQ(engine().pledge(space_, chain[1]), Pledge::kGiven);
  EXPECT_EQ(engine().pledge(space_, chain[1]), Pledge::kGiven) << "it has one";
  EXPECT_EQ(engine().pledge(space_, chain[2]), Pledge::kNoRoom);
  EXPECT_EQ(stats().totals.pledges_refused, 1U);
  EXPECT_EQ(stats().pledged_bytes, 2 * kGrain);

  engine().unpledge(space_, chain[0]);

  EXPECT_EQ(engine().pledge(space_, chain[2]), Pledge::kGiven);
}

TEST_F(EnginePledgeTest, WhatIsNotWholeInL1IsNotPledged) {
  add_model(2);
  const auto chain = chain_of(1, 1);
  EXPECT_EQ(engine().pledge(space_, chain[0]), Pledge::kAbsent);
  store_rank(0, chain, {0, 1});
  EXPECT_EQ(engine().pledge(space_, chain[0]), Pledge::kAbsent);
  store_rank(1, chain, {0, 1});
  EXPECT_EQ(engine().pledge(space_, chain[0]), Pledge::kGiven);
}

TEST_F(EnginePledgeTest, WhatIsRemovedOrClearedLosesItsPledge) {
  add_model(2);
  const auto chain = chain_of(1, 3);
  store(chain);
  for (const ChunkHash& chunk : chain) {
    ASSERT_EQ(engine().pledge(space_, chunk), Pledge::kGiven);
  }
  engine().remove(space_, std::span{chain}.first(1));
  EXPECT_EQ(stats().columns_pledged, 2U);
  const CellName one{space_, chain[1], 0, 0};
  engine().remove_cells({&one, 1}, false);
  EXPECT_EQ(stats().columns_pledged, 1U);
  engine().check_invariants();
  engine().clear({});
  EXPECT_EQ(stats().columns_pledged, 0U);
  EXPECT_EQ(stats().pledged_bytes, 0U);
  engine().check_invariants();
  store(chain);
  EXPECT_EQ(engine().pledge(space_, chain[0]), Pledge::kGiven);
}

}  // namespace
}  // namespace larder::cache
