#include "larder/cache/policies/policy.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/policies/policy_model.h"

namespace larder::cache {
namespace {

std::vector<ColumnId> coldest(Policy& policy, std::size_t count) {
  std::vector<ColumnId> out(count);
  out.resize(policy.coldest(out));
  return out;
}

using Columns = std::vector<ColumnId>;

// ---- Names --------------------------------------------------------------------------------------

TEST(PolicyNamesTest, FoundInAnySpelling) {
  for (const auto& [spelling, name] :
       std::vector<std::pair<std::string, std::string>>{{"LRU", "LRU"},
                                                        {"lru", "LRU"},
                                                        {"arc", "ARC"},
                                                        {"S3-FIFO", "S3-FIFO"},
                                                        {"s3fifo", "S3-FIFO"},
                                                        {"s3_fifo", "S3-FIFO"},
                                                        {"isolatedlru", "IsolatedLRU"},
                                                        {"isolated-lru", "IsolatedLRU"},
                                                        {"Prefix", "prefix"},
                                                        {"NOOP", "noop"}}) {
    const auto kind = find_policy(spelling);
    ASSERT_TRUE(kind) << spelling;
    EXPECT_EQ((*kind)->name, name);
    EXPECT_EQ((*kind)->is_partitioned_by_salt, name == "IsolatedLRU");
    EXPECT_NE((*kind)->make({}), nullptr);
    EXPECT_FALSE((*kind)->summary.empty());
  }
  EXPECT_EQ(policy_kinds().size(), 6U);
  EXPECT_EQ(policy_kinds()[0].name, "LRU");
}

TEST(PolicyNamesTest, AnUnknownOneNamesTheNearestAndListsAll) {
  const auto near = find_policy("LFRU");
  ASSERT_FALSE(near);
  EXPECT_EQ(near.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      near.error().text,
      "unknown eviction policy 'LFRU': did you mean 'LRU'? Known policies: LRU, ARC, S3-FIFO, "
      "prefix, IsolatedLRU, noop.");
  EXPECT_NE(find_policy("isolatedlur").error().text.find("did you mean 'IsolatedLRU'?"),
            std::string::npos);
  for (const std::string& name :
       {std::string{}, std::string{"-"}, std::string{"clock\n"}, std::string(100'000, 'l')}) {
    const auto unknown = find_policy(name);
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().text.find("did you mean"), std::string::npos);
    EXPECT_EQ(unknown.error().text.find('\n'), std::string::npos);
  }
}

// ---- What every policy does ---------------------------------------------------------------------

class EveryPolicyTest : public ::testing::TestWithParam<PolicyKind> {
 protected:
  std::unique_ptr<Policy> make_one(const PolicyOptions& options = {.capacity_bytes = 1000}) const {
    return GetParam().make(options);
  }
  bool evicts() const { return GetParam().name != "noop"; }
};

TEST_P(EveryPolicyTest, AnEmptyOneHasNoVictim) {
  const auto policy = make_one();
  EXPECT_EQ(coldest(*policy, 4), Columns{});
  EXPECT_EQ(policy->coldest({}), 0U);
  EXPECT_EQ(policy->coldest_stamp(), Policy::kNoVictim);
  EXPECT_EQ(policy->columns(), 0U);
  EXPECT_EQ(policy->bytes(), 0U);
}

TEST_P(EveryPolicyTest, HiddenColumnsAreNoVictimsAndComeBackToTheirPlace) {
  const auto policy = make_one();
  for (ColumnId column = 0; column < 6; ++column) policy->insert(column, column, 10, column + 1);
  policy->hide(0);
  policy->hide(3);
  EXPECT_EQ(coldest(*policy, 9), evicts() ? (Columns{1, 2, 4, 5}) : Columns{});
  policy->show(3);
  policy->show(0);
  EXPECT_EQ(coldest(*policy, 9), evicts() ? (Columns{0, 1, 2, 3, 4, 5}) : Columns{});
  EXPECT_EQ(policy->coldest_stamp(), evicts() ? 1 : Policy::kNoVictim);
  for (ColumnId column = 0; column < 6; ++column) policy->hide(column);
  EXPECT_EQ(coldest(*policy, 9), Columns{});
  EXPECT_EQ(policy->coldest_stamp(), Policy::kNoVictim);
  EXPECT_EQ(policy->columns(), 6U);
  EXPECT_EQ(policy->bytes(), 60U);
}

TEST_P(EveryPolicyTest, CooledColumnsGoFirstInTheOrderInWhichTheyWereCooled) {
  const auto policy = make_one();
  for (ColumnId column = 0; column < 6; ++column) policy->insert(column, column, 10, column + 1);
  policy->cool(5);
  policy->cool(2);
  EXPECT_EQ(coldest(*policy, 3), evicts() ? (Columns{5, 2, 0}) : (Columns{5, 2}));
  EXPECT_EQ(policy->coldest_stamp(), 0U) << "colder than any column of another partition";
  policy->cool(5);  // Again: behind the other one.
  EXPECT_EQ(coldest(*policy, 2), (Columns{2, 5}));
  policy->hide(2);
  EXPECT_EQ(coldest(*policy, 1), Columns{5});
  policy->touch(5, 7);
  EXPECT_EQ(coldest(*policy, 1), evicts() ? Columns{0} : Columns{}) << "a use ends it";
  policy->show(2);
  EXPECT_EQ(coldest(*policy, 1), Columns{2});
  policy->hide(3);
  policy->cool(3);
  EXPECT_EQ(coldest(*policy, 1), Columns{2});
  policy->erase(2, Removal::kEvicted);
  policy->show(3);
  EXPECT_EQ(coldest(*policy, 1), Columns{3}) << "cooled while it was hidden";
}

TEST_P(EveryPolicyTest, AColumnNumberIsUsedAgain) {
  const auto policy = make_one();
  policy->insert(7, 1, 10, 1);
  policy->hide(7);
  policy->erase(7, Removal::kDeleted);
  EXPECT_EQ(policy->columns(), 0U);
  policy->insert(7, 2, 30, 2);
  EXPECT_EQ(coldest(*policy, 2), evicts() ? Columns{7} : Columns{}) << "and it is visible";
  EXPECT_EQ(policy->bytes(), 30U);
}

using EveryPolicyDeathTest = EveryPolicyTest;

TEST_P(EveryPolicyDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto policy = make_one();
  policy->insert(1, 1, 10, 1);
  EXPECT_DEATH(policy->insert(1, 1, 10, 2), "LARDER_CHECK");
  EXPECT_DEATH(policy->show(1), "LARDER_CHECK");
  EXPECT_DEATH(policy->touch(0, 2), "LARDER_CHECK") << "below the largest, and never inserted";
  EXPECT_DEATH(policy->touch(2, 2), "LARDER_CHECK");
  EXPECT_DEATH(policy->erase(100, Removal::kDeleted), "LARDER_CHECK");
  policy->hide(1);
  EXPECT_DEATH(policy->hide(1), "LARDER_CHECK");
  policy->erase(1, Removal::kEvicted);
  EXPECT_DEATH(policy->erase(1, Removal::kEvicted), "LARDER_CHECK");
}

TEST_P(EveryPolicyTest, PartitionsShareTheRecordsAndNothingElse) {
  const PolicyOptions options{.capacity_bytes = 1000, .records = make_column_records()};
  const auto first = make_one(options);
  auto second = make_one(options);
  first->insert(100'000, 1, 10, 1);
  second->insert(3, 1, 20, 2);
  second->insert(4, 2, 20, 3);
  first->cool(100'000);
  EXPECT_EQ(coldest(*first, 4), Columns{100'000});
  EXPECT_EQ(first->bytes(), 10U);
  EXPECT_EQ(second->columns(), 2U);
  EXPECT_EQ(second->coldest_stamp(), evicts() ? 2 : Policy::kNoVictim);
  // A column may change its partition.
  second->erase(3, Removal::kDeleted);
  first->insert(3, 1, 20, 4);
  EXPECT_EQ(first->columns(), 2U);
  // The memory of a partition is reused.
  second.reset();
  first->insert(4, 2, 20, 5);
  EXPECT_EQ(first->bytes(), 50U);
}

TEST_P(EveryPolicyTest, HiddenColumnsCostNoSearch) {
  constexpr ColumnId kColumns = 100'000;
  const auto policy = make_one({.capacity_bytes = kColumns});
  for (ColumnId column = 0; column < kColumns; ++column) {
    policy->insert(column, column, 1, column + 1);
  }
  for (ColumnId column = 0; column < kColumns - 8; ++column) policy->hide(column);
  const std::uint64_t before = policy->steps();
  for (int look = 0; look < 100; ++look) {
    EXPECT_EQ(coldest(*policy, 8).size(), evicts() ? 8U : 0U);
  }
  // Up and down the three levels of the bitmap for each column and queue.
  EXPECT_LE(policy->steps() - before, 100 * 8 * 3 * 6);
}

TEST_P(EveryPolicyTest, TouchingAndHidingNeverAllocate) {
  constexpr ColumnId kColumns = 3000;
  const auto policy = make_one({.capacity_bytes = kColumns});
  for (ColumnId column = 0; column < kColumns; ++column) {
    policy->insert(column, column, 1, column + 1);
  }
  // The bytes that malloc() has given out; sanitizers have a malloc() of their own, and none here.
  const std::size_t before = ::mallinfo2().uordblks;
  std::uint64_t stamp = kColumns;
  for (int round = 0; round < 20; ++round) {
    for (ColumnId column = 0; column < kColumns; ++column) {
      policy->hide(column);
      policy->touch(column, ++stamp);
      policy->show(column);
      if (column % 7 == 0) policy->cool(column);
      ColumnId victim = 0;
      policy->coldest({&victim, 1});
    }
  }
  EXPECT_EQ(::mallinfo2().uordblks, before);
}

// ---- Random histories ---------------------------------------------------------------------------

/// One history, applied to a policy and to its model, which must agree all the time.
class History {
 public:
  History(const PolicyKind& kind, std::uint64_t seed, bool is_equal_size)
      : random_(seed), is_equal_size_(is_equal_size), capacity_(is_equal_size ? 200 : 20'000) {
    const PolicyOptions options{.capacity_bytes = capacity_, .ghosts_max = 300};
    policy_ = kind.make(options);
    model_ = testing::make_model(kind.name, options.capacity_bytes, options.ghosts_max);
  }

  void run(int steps) {
    ASSERT_NE(model_, nullptr);
    for (int step = 0; step < steps; ++step) {
      SCOPED_TRACE("step " + std::to_string(step));
      ASSERT_NO_FATAL_FAILURE(take_step());
      ASSERT_EQ(policy_->columns(), model_->columns());
      ASSERT_EQ(policy_->bytes(), model_->bytes());
      if (step % 7 == 0) {
        ASSERT_EQ(policy_->coldest_stamp(), model_->coldest_stamp());
      }
      if (step % 5 != 0) continue;
      const std::size_t count = random_.one_in(20) ? 1000 : random_.below(12);
      const std::vector<ColumnId> answer = coldest(*policy_, count);
      ASSERT_TRUE(model_->allows(answer, count)) << ::testing::PrintToString(answer);
      log_.insert(log_.end(), answer.begin(), answer.end());
    }
    EXPECT_GT(evicted_, steps / 60);
    EXPECT_GT(came_back_, evicted_ / 10) << "ghosts must matter";
  }
  const std::vector<ColumnId>& log() const { return log_; }

 private:
  struct Known {
    ColumnId id = 0;
    std::uint64_t fingerprint = 0;
    bool is_hidden = false;
  };

  void take_step() {
    if (random_.one_in(6)) {
      const auto chunks = static_cast<std::uint32_t>(random_.below(12));
      const auto resident = static_cast<std::uint32_t>(random_.below(chunks + 1));
      policy_->begin_chain({.chunks = chunks, .resident = resident, .end = chunks});
    }
    const std::uint64_t dice = random_.below(100);
    if (dice < 30 || known_.empty()) return insert();
    Known& known = known_[pick()];
    const ColumnId id = known.id;
    if (dice < 70) {
      ++stamp_;
      policy_->touch(id, stamp_);
      model_->touch(id, stamp_);
    } else if (dice < 90) {
      known.is_hidden ? policy_->show(id) : policy_->hide(id);
      known.is_hidden ? model_->show(id) : model_->hide(id);
      known.is_hidden = !known.is_hidden;
    } else if (dice < 94) {
      policy_->cool(id);
      model_->cool(id);
    } else if (dice < 97) {
      const std::uint64_t bytes = new_bytes();
      policy_->resize(id, bytes);
      model_->resize(id, bytes);
    } else {
      policy_->erase(id, Removal::kDeleted);
      model_->erase(id, Removal::kDeleted);
      drop(id);
    }
  }

  /// Recent columns more often than old ones.
  std::size_t pick() {
    const std::size_t back = std::min(random_.below(known_.size()), random_.below(known_.size()));
    return known_.size() - 1 - back;
  }

  void insert() {
    while (policy_->bytes() >= capacity_) {
      const std::vector<ColumnId> victim = coldest(*policy_, 1);
      ASSERT_TRUE(model_->allows(victim, 1)) << ::testing::PrintToString(victim);
      if (victim.empty()) break;
      policy_->erase(victim[0], Removal::kEvicted);
      model_->erase(victim[0], Removal::kEvicted);
      drop(victim[0]);
      ++evicted_;
    }
    // Of 600 objects, some of which are remembered. Numbers of columns are used again.
    const std::uint64_t fingerprint = random_.below(600);
    if (std::ranges::any_of(known_, [=](const Known& k) { return k.fingerprint == fingerprint; })) {
      return;
    }
    if (std::ranges::find(gone_, fingerprint) != gone_.end()) ++came_back_;
    ColumnId id = static_cast<ColumnId>(known_.size());
    if (!free_.empty()) {
      id = free_.back();
      free_.pop_back();
    }
    ++stamp_;
    const std::uint64_t bytes = new_bytes();
    policy_->insert(id, fingerprint, bytes, stamp_);
    model_->insert(id, fingerprint, bytes, stamp_);
    known_.push_back({.id = id, .fingerprint = fingerprint});
  }

  void drop(ColumnId id) {
    const auto at = std::ranges::find(known_, id, &Known::id);
    gone_.push_back(at->fingerprint);
    if (gone_.size() > 200) gone_.erase(gone_.begin());
    known_.erase(at);
    free_.push_back(id);
  }

  std::uint64_t new_bytes() {
    return is_equal_size_ ? 1 : random_.one_in(50) ? 0 : random_.below(200);
  }

  Random random_;
  const bool is_equal_size_;
  const std::uint64_t capacity_;
  std::unique_ptr<Policy> policy_;
  std::unique_ptr<testing::PolicyModel> model_;
  std::vector<Known> known_;
  std::vector<ColumnId> free_;
  std::vector<std::uint64_t> gone_;
  std::vector<ColumnId> log_;
  std::uint64_t stamp_ = 0;
  int evicted_ = 0;
  int came_back_ = 0;
};

TEST_P(EveryPolicyTest, AgreesWithItsModelForColumnsOfOneSize) {
  for (const std::uint64_t seed : {1U, 2U}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ASSERT_NO_FATAL_FAILURE(History(GetParam(), seed, true).run(20'000));
  }
}

TEST_P(EveryPolicyTest, AgreesWithItsModelForColumnsOfAllSizes) {
  for (const std::uint64_t seed : {3U, 4U}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ASSERT_NO_FATAL_FAILURE(History(GetParam(), seed, false).run(20'000));
  }
}

TEST_P(EveryPolicyTest, TheSameCallsGiveTheSameAnswers) {
  History first{GetParam(), 5, false};
  History second{GetParam(), 5, false};
  ASSERT_NO_FATAL_FAILURE(first.run(5000));
  ASSERT_NO_FATAL_FAILURE(second.run(5000));
  EXPECT_EQ(first.log(), second.log());
}

std::string kind_name(const ::testing::TestParamInfo<PolicyKind>& kind) {
  std::string name{kind.param.name};
  std::erase(name, '-');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Kinds, EveryPolicyTest, ::testing::ValuesIn(policy_kinds()), kind_name);
INSTANTIATE_TEST_SUITE_P(Kinds, EveryPolicyDeathTest, ::testing::ValuesIn(policy_kinds()),
                         kind_name);

}  // namespace
}  // namespace larder::cache
