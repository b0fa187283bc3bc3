#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include <memory>
#include <string>

#include "larder/connector/metrics.h"
#include "larder/connector/registry.h"
#include "larder/connectors/log/log_connector.h"
#include "tests/hit_rates/store_hits.h"
#include "tests/support/temporary_directory.h"

namespace larder::testing {
namespace {

using cache::testing::Adversary;
using cache::testing::Workload;

constexpr std::size_t kValueBytes = 8192;
/// 128 segments of 51 values, some ten of which share a header.
constexpr const char* kParameters = "?capacity=64MiB&segment=512KiB&max_value=32KiB&direct=no";
constexpr std::size_t kRecords = 128 * 51;

/// Memory where there is enough of it: more than a GiB is written, and nothing of it matters.
std::string parent_directory() {
  struct ::statvfs space = {};
  const bool has_room = ::statvfs("/dev/shm", &space) == 0 &&
                        std::uint64_t{space.f_bavail} * space.f_frsize > (256U << 20);
  return has_room ? "/dev/shm" : "";
}

struct StoreRun {
  double missed = 0;   ///< Of all references.
  double written = 0;  ///< Records, carried ones included, for each of them.
};

StoreRun run(const Workload& workload, const std::string& parameters) {
  const TemporaryDirectory directory{parent_directory()};
  Registry registry;
  registry.add(log_store::connector_type());
  const auto store = registry.open("log:" + directory.path() + kParameters + parameters);
  EXPECT_TRUE(store.has_value()) << store.error().text;
  if (!store) return {};
  const StoreHits hits = run_workload(**store, workload, kValueBytes);
  // On a busy machine reclaim waits for its I/O, and a store is refused meanwhile (L10).
  EXPECT_LE(hits.failures, workload.references() / 100);
  EXPECT_EQ(hits.hits + hits.misses, workload.references());
  EXPECT_GE(hits.loaded + workload.references() / 100, hits.hits);
  const Report report = (*store)->report();
  const auto records = [&](const char* name) {
    return static_cast<double>(metric_value(report, name).value_or(0));
  };
  EXPECT_TRUE((*store)->stop(kNever).has_value());
  const auto references = static_cast<double>(workload.references());
  const auto misses = static_cast<double>(hits.misses);
  return {.missed = misses / references,
          .written = (misses - records("records_not_written_total") +
                      records("records_readmitted_total")) /
                     references};
}

double lru_missed(const Workload& workload) {
  const auto references = static_cast<double>(workload.references());
  return 1 - static_cast<double>(cache::testing::lru_hits(workload, kRecords)) / references;
}

Workload workload_of(const std::string& name) {
  for (const Adversary& one : cache::testing::adversaries()) {
    if (one.name == name) return one.make();
  }
  ADD_FAILURE() << name;
  return {};
}

class LogHitRatesTest : public ::testing::TestWithParam<Adversary> {};

/// LRU has all of the capacity, and the store some segments that hold nothing: 3 % of it.
TEST_P(LogHitRatesTest, MissesAreAtMostEightInAHundredMoreThanLrus) {
  const Workload workload = GetParam().make();
  const StoreRun store = run(workload, "");
  EXPECT_LE(store.missed, 1.08 * lru_missed(workload));
  // A fifth of what is stored may be carried, and of what was found there as much as it took.
  EXPECT_LE(store.written, 1.3 * store.missed);
}

std::string name_of(const ::testing::TestParamInfo<Adversary>& adversary) {
  return adversary.param.name;
}
INSTANTIATE_TEST_SUITE_P(All, LogHitRatesTest, ::testing::ValuesIn(cache::testing::adversaries()),
                         name_of);

TEST(LogHitRatesTest, WhatIsNotAskedForAgainDoesNotDriveOutTheRest) {
  for (const char* name : {"Loop", "OneTimePrompts", "SharedPrompts"}) {
    const Workload workload = workload_of(name);
    EXPECT_LE(run(workload, "").missed, 0.97 * lru_missed(workload)) << name;
  }
}

TEST(LogHitRatesTest, LearnedAdmissionWritesLittleOfWhatIsUsedOnceAndMissesNoMore) {
  for (const char* name : {"Loop", "ScanAndHotSet", "OneTimePrompts", "SharedPrompts", "Mix"}) {
    const Workload workload = workload_of(name);
    const StoreRun all = run(workload, "");
    const StoreRun learned = run(workload, "&admission=learned");
    EXPECT_LE(learned.written, 0.65 * all.written) << name;
    EXPECT_LE(learned.missed, 1.02 * all.missed) << name;
  }
}

}  // namespace
}  // namespace larder::testing
