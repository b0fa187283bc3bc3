// A file system that refuses or does not answer: the store stands on it directly.
#include <algorithm>
#include <cerrno>

#include "tests/faults/fault_fixture.h"

namespace larder::faults {
namespace {

constexpr std::size_t kValueBytes = 61'440;
constexpr int kPerSegment = 14;
/// Of the 64 that the capacity allows, some stay free, and what is free need not be a file.
constexpr std::uint64_t kFilesWhenFull = 61;

class FileSystemFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kOff);
    auto disk = testing::FaultyDirectory::create();
    LARDER_SKIP_IF_IMPOSSIBLE(disk);
    disk_ = std::move(*disk);
  }
  void TearDown() override {
    if (disk_ != nullptr) disk_->heal();  // Also when a test has failed in between.
  }
  void open(const std::string& min_free = "0") {
    store_ =
        open_store("log:" + disk_->path() +
                       "?capacity=64MiB&segment=1MiB&max_value=64KiB&stall=2s&min_free=" + min_free,
                   kValueBytes);
    ASSERT_NE(store_, nullptr);
  }
  void fill(int from, int to) {
    for (int i = from; i < to; ++i) {
      const Operation& stored = store_->set(i);
      ASSERT_TRUE(stored.is_done()) << i << ": " << stored.error();
    }
  }
  /// It answers, and has found out that it can make files, write headers and sync the directory.
  void until_it_is_back() {
    store_->until("it is back", [&] {
      const std::string reasons = store_->reasons();
      return store_->health() != Health::kDown && reasons.find("cannot") == std::string::npos &&
             reasons.find("could not") == std::string::npos;
    });
  }
  std::uint64_t files() const { return (store_->report().bytes_used - 3 * 65536) / (kMiB - 65536); }
  void expect_reason(const std::string& part) const {
    EXPECT_NE(store_->reasons().find(part), std::string::npos)
        << "'" << part << "' in: " << store_->reasons();
  }

  std::unique_ptr<testing::FaultyDirectory> disk_;
  std::unique_ptr<FaultClient> store_;  // Goes first.
};

// --- No more room -------------------------------------------------------------------------------

TEST_F(FileSystemFaultTest, AQuotaThatIsUsedUpLeavesARingOfWhatThereIs) {
  open();
  fill(0, 8 * kPerSegment);
  const std::uint64_t files_before = files();
  disk_->fail(testing::kAllocates, EDQUOT);
  int refused = 0;
  for (int i = 200; i < 500; ++i) {
    const Operation& stored = store_->set(i);
    if (stored.is_done()) continue;
    ++refused;
    EXPECT_NE(stored.error().find("no free segment; the store was refused"), std::string::npos)
        << stored.error();
  }
  EXPECT_GT(disk_->faults(), 0U);
  EXPECT_LT(refused, 100);  // It goes round in what it has.
  EXPECT_EQ(store_->health(), Health::kDegraded);
  expect_reason("cannot add a segment file");
  expect_reason("quota");
  EXPECT_LE(files(), files_before + 1);
  EXPECT_TRUE(store_->get(499).is_hit());

  disk_->heal();
  int next = 500;
  store_->until(
      "the store grows", [&] { return files() > files_before + 2; }, [&] { store_->set(next++); });
  store_->until_health(Health::kHealthy);
}

TEST_F(FileSystemFaultTest, AFileThatCannotBeMadeIsTriedAgainWithoutALineInTheLogForEachTime) {
  open();
  fill(0, 2 * kPerSegment);
  disk_->fail(testing::kCreates, ENOSPC);
  ::testing::internal::CaptureStderr();
  set_log_level(LogLevel::kInfo);
  const std::uint64_t faults = disk_->faults();
  int next = 100;
  store_->until(
      "three tries", [&] { return disk_->faults() >= faults + 3; }, [&] { store_->set(next++); });
  set_log_level(LogLevel::kOff);
  const std::string logged = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(logged, '\n'), 1) << logged;
  expect_reason("No space left on device");
}

TEST_F(FileSystemFaultTest, AnIdlePathIsWellAgainWhenTheFileSystemIs) {
  open();
  fill(0, 2 * kPerSegment);
  disk_->fail(testing::kCreates, ENOSPC);
  int next = 100;
  store_->until_health(Health::kDegraded, [&] { store_->set(next++); });
  expect_reason("cannot add a segment file");
  disk_->heal();
  store_->until_health(Health::kHealthy);  // Nobody stores, so that nobody needs a segment.
}

/// The file system says no to a write for lack of room, in each of its words: the disk is well.
class NoRoomToOverwriteTest : public FileSystemFaultTest,
                              public ::testing::WithParamInterface<int> {};

TEST_P(NoRoomToOverwriteTest, RefusesStoresAndServesAllLoadsUntilThereIsRoom) {
  open();
  fill(0, 8 * kPerSegment);
  disk_->fail(testing::kWrites, GetParam());
  int next = 1000;
  for (int times = 0; times < 3; ++times) {  // It tries again now and then.
    const std::uint64_t tries = store_->counter("no_space_total");
    store_->until(
        "a try", [&] { return store_->counter("no_space_total") > tries; },
        [&] { store_->set(next++); });
  }
  EXPECT_NE(store_->set(next++).error().find("no space to overwrite"), std::string::npos);
  EXPECT_EQ(store_->health(), Health::kDegraded) << store_->reasons();
  expect_reason("has no room to overwrite a segment");
  EXPECT_EQ(store_->counter("io_errors_total"), 0U);
  for (int i = 0; i < 8 * kPerSegment; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
  disk_->heal();
  store_->until("a store works", [&] { return store_->set(next++).is_done(); });
  store_->until_health(Health::kHealthy, [&] { store_->set(next++); });
}

INSTANTIATE_TEST_SUITE_P(Errors, NoRoomToOverwriteTest, ::testing::Values(ENOSPC, EDQUOT, EFBIG),
                         [](const auto& parameter) {
                           return parameter.param == ENOSPC   ? "NoSpace"
                                  : parameter.param == EDQUOT ? "Quota"
                                                              : "FileTooBig";
                         });

// --- Files that cannot be removed ---------------------------------------------------------------

TEST_F(FileSystemFaultTest, ASegmentThatCannotBeRemovedIsNotGivenBackAndGrowthGoesOnLater) {
  open();
  fill(0, 30 * kPerSegment);
  const std::uint64_t files_before = files();
  store_.reset();
  // The same store where the file system is suddenly too full for it.
  disk_->fail(testing::kRemoves, EIO);
  open("1000TiB");
  store_->until("it tried to remove a file", [&] { return disk_->faults() > 0; });
  EXPECT_EQ(files(), files_before) << "what is there still counts for the capacity";
  expect_reason("too full");
  store_.reset();
  disk_->heal();
  open();
  int next = 1000;
  store_->until(
      "the store grows to its capacity", [&] { return files() >= kFilesWhenFull; },
      [&] { store_->set(next++); });
  store_->until_health(Health::kHealthy);
}

// --- Refused changes ----------------------------------------------------------------------------

TEST_F(FileSystemFaultTest, AReadOnlyFileSystemRefusesStoresAndComesBackByItself) {
  open();
  constexpr int kFilled = 20 * kPerSegment - 10;  // The head has room, so that records are written.
  fill(0, kFilled);
  disk_->fail(testing::kChanges, EROFS);
  int next = 100;
  std::string errors;
  store_->until_health(Health::kDown, [&] {
    const Operation& stored = store_->set(next++);
    EXPECT_TRUE(stored.has_failed());
    errors += stored.error() + "\n";
  });
  EXPECT_NE(errors.find("Read-only file system"), std::string::npos) << errors;
  expect_reason("Read-only file system");
  const Operation& refused = store_->set(next++);
  EXPECT_TRUE(refused.has_failed());
  EXPECT_NE(refused.error().find("the storage does not answer; nothing was changed"),
            std::string::npos)
      << refused.error();
  EXPECT_TRUE(store_->get(0).is_miss());
  // It looks again and again whether it can write, and does not come back before it can.
  const std::uint64_t faults = disk_->faults();
  store_->until("it looked again", [&] { return disk_->faults() >= faults + 3; });
  EXPECT_EQ(store_->health(), Health::kDown);

  disk_->heal();
  until_it_is_back();
  // As it could not grow, it may have emptied a few segments to go on in.
  for (int i = 6 * kPerSegment; i < kFilled; ++i) {
    EXPECT_TRUE(store_->get(i).is_hit()) << i;
  }
  fill(1000, 1100);
  store_->until_health(Health::kHealthy);
}

TEST_F(FileSystemFaultTest, SyncsThatFailCostTheirSegmentsNothingElseAndHealthComesBack) {
  open();
  fill(0, 2 * kPerSegment);
  disk_->fail(testing::kSyncs, EIO);
  int next = 100;
  store_->until(
      "syncs failed", [&] { return store_->counter("sync_failures_total") >= 2; },
      [&] { store_->set(next++); });
  EXPECT_NE(store_->health(), Health::kHealthy);
  expect_reason("Input/output error");
  disk_->heal();
  until_it_is_back();
  next = 1000;
  store_->until(
      "it grows to its capacity", [&] { return files() >= kFilesWhenFull; },
      [&] { EXPECT_TRUE(store_->set(next++).is_done()); });
  fill(5000, 5000 + 64 * kPerSegment);  // A turn: every segment is used again.
  store_->until_health(Health::kHealthy);
}

// --- No answer ----------------------------------------------------------------------------------

TEST_F(FileSystemFaultTest, ASyncThatDoesNotEndRefusesWhatNeedsANewSegmentAndHealthComesBack) {
  open();
  fill(0, 3 * kPerSegment);
  disk_->stall(testing::kSyncs);
  // Nothing here has a deadline of its own.
  int refused = 0;
  for (int i = 100; i < 100 + 6 * kPerSegment; ++i) {
    const Operation& stored = store_->set(i);
    if (stored.is_done()) continue;
    ++refused;
    EXPECT_NE(stored.error().find("the store was refused"), std::string::npos) << stored.error();
  }
  EXPECT_GT(refused, 0);
  EXPECT_EQ(store_->health(), Health::kDegraded);
  expect_reason("a sync has had no answer");
  for (int i = 0; i < kPerSegment; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
  disk_->heal();
  int next = 5000;
  store_->until("it stores again", [&] { return store_->set(++next).is_done(); });
  store_->until_health(Health::kHealthy, [&] { store_->set(++next); });
}

class StalledFileSystemTest : public FileSystemFaultTest,
                              public ::testing::WithParamInterface<std::uint32_t> {};

/// That an operation comes back while nothing answers is the proof.
TEST_P(StalledFileSystemTest, NobodyWaitsForIt) {
  constexpr std::uint64_t kShortNs = 300'000'000;
  open();
  fill(0, 3 * kPerSegment);
  disk_->stall(GetParam());
  // So much that the store must seal, sync, and add segments.
  std::vector<Operation*> stuck;
  for (int i = 100; i < 100 + 4 * kPerSegment; ++i) {
    stuck.push_back(&store_->start(Op::kSet, FaultClient::key_of(i), kShortNs));
  }
  store_->until("the file system was asked", [&] { return disk_->faults() > 0; });
  if ((GetParam() & testing::kReads) != 0) {
    // What the kernel has comes back when it ends (C8); what comes now ends at once.
    store_->until_health(Health::kDown);
    expect_reason("no answer for 2 s");
  }
  for (int i = 0; i < 2 * kPerSegment; ++i) {
    const Operation& looked_up = store_->run(Op::kExists, FaultClient::key_of(i), kShortNs);
    EXPECT_TRUE(looked_up.is_hit() || looked_up.is_miss());
    const Operation& loaded = store_->run(Op::kGet, FaultClient::key_of(i), kShortNs);
    EXPECT_TRUE(loaded.is_hit() || loaded.is_miss());
  }
  // Of the stores all that need the file system end at their deadline, or once it has stalled.
  for (int i = 0; i < 4 * kPerSegment; ++i) {
    const Operation& stored = store_->run(Op::kSet, FaultClient::key_of(1000 + i), kShortNs);
    EXPECT_TRUE(stored.is_done() || stored.has_failed());
  }
  EXPECT_NE(store_->health(), Health::kHealthy);
  disk_->heal();
  for (Operation* const operation : stuck) {
    ASSERT_TRUE(store_->wait(*operation));
    EXPECT_TRUE(operation->is_done() || operation->has_failed());
  }
  int next = 5000;
  store_->until("it stores again", [&] { return store_->set(++next).is_done(); });
  EXPECT_TRUE(store_->get(next).is_hit());
}

INSTANTIATE_TEST_SUITE_P(Operations, StalledFileSystemTest,
                         ::testing::Values(testing::kCreates, testing::kAllocates, testing::kSyncs,
                                           testing::kSpace, testing::kEverything),
                         [](const auto& parameter) -> std::string {
                           switch (parameter.param) {
                             case testing::kCreates:
                               return "creates";
                             case testing::kAllocates:
                               return "allocates";
                             case testing::kSyncs:
                               return "syncs";
                             case testing::kSpace:
                               return "space";
                             default:
                               return "everything";
                           }
                         });

TEST_F(FileSystemFaultTest, OpeningADeadDiskIsGivenUpAndWorksWhenItAnswersAgain) {
  const std::string spec = "log:" + disk_->path() +
                           "?capacity=64MiB&segment=1MiB&max_value=64KiB&min_free=0&stall=200ms";
  open();
  fill(0, 2 * kPerSegment);
  store_.reset();
  for (const std::uint32_t operations : {testing::kEverything + 0U, testing::kReads + 0U}) {
    disk_->stall(operations);
    const auto refused = builtin_registry().open(spec);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
    for (const std::string& part : {disk_->path(), std::string{"no answer from the disk"}}) {
      EXPECT_NE(refused.error().text.find(part), std::string::npos) << refused.error().text;
    }
    disk_->heal();
    open();  // Waits for the attempt that was given up: it has the lock.
    for (int i = 0; i < 2 * kPerSegment; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
    store_.reset();
  }
}

}  // namespace
}  // namespace larder::faults
