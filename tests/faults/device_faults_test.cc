// A disk that fails or does not answer, below a real file system: ext4 or xfs on a loop device
// whose image is a faulty file.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "larder/base/unique_fd.h"
#include "tests/faults/fault_fixture.h"
#include "tests/support/nested_spec.h"

namespace larder::faults {
namespace {

constexpr std::size_t kValueBytes = 61'440;
constexpr int kPerSegment = 14;

class DeviceFaultTest : public ::testing::Test {
 protected:
  /// ext4 without a journal lives on after an error, as xfs and ext4 with one do not.
  void make_disk(const std::string& file_system, const std::vector<std::string>& make_arguments) {
    set_log_level(LogLevel::kOff);
    auto disk = testing::FaultyDirectory::create();
    LARDER_SKIP_IF_IMPOSSIBLE(disk);
    disk_ = std::move(*disk);
    testing::LoopMountOptions options;
    options.file_system = file_system;
    options.bytes = 400 * kMiB;
    options.make_arguments = make_arguments;
    options.image_directory = disk_->path();
    auto mount = testing::LoopMount::create(options);
    LARDER_SKIP_IF_IMPOSSIBLE(mount);
    mount_ = std::move(*mount);
  }
  void TearDown() override {
    if (disk_ != nullptr) disk_->heal();  // Also when a test has failed in between.
    store_.reset();
  }
  void open(const std::string& more = "") { open_spec(log_spec() + more); }
  /// With `l1` (parameters of tiered:) before the store.
  void open_below(const std::string& l1) {
    open_spec("tiered:?" + l1 + "&l2=" + testing::nested_spec(log_spec()));
  }
  std::string log_spec() const {
    return "log:" + mount_->path() +
           "/store?capacity=64MiB&segment=1MiB&max_value=64KiB&min_free=0&stall=2s&direct=yes";
  }
  void open_spec(const std::string& spec) {
    store_ = open_store(spec, kValueBytes);
    ASSERT_NE(store_, nullptr);
  }
  void fill(int from, int to) {
    for (int i = from; i < to; ++i) {
      const Operation& stored = store_->set(i);
      ASSERT_TRUE(stored.is_done()) << i << ": " << stored.error();
    }
  }
  /// Stores until every one is refused: the store is down, or, where the fault was met while it
  /// grew, it has no segment left to write into and goes on serving loads.
  void store_until_refused(int& next) {
    store_->until("every store is refused", [&] {
      const std::string error = store_->set(next++).error();
      const bool has_no_segment = error.find("no free segment") != std::string::npos;
      refused_in_a_row_ = has_no_segment ? refused_in_a_row_ + 1 : 0;
      return store_->health() == Health::kDown || refused_in_a_row_ >= 20;
    });
    EXPECT_NE(store_->health(), Health::kHealthy);
  }
  void expect_reason(const std::string& part) const {
    EXPECT_NE(store_->reasons().find(part), std::string::npos)
        << "'" << part << "' in: " << store_->reasons();
  }

  std::unique_ptr<testing::FaultyDirectory> disk_;
  std::unique_ptr<testing::LoopMount> mount_;
  std::unique_ptr<FaultClient> store_;
  int refused_in_a_row_ = 0;
};

TEST_F(DeviceFaultTest, FailingWritesRefuseStoresAndTheDiskIsUsedAgainWhenTheyEnd) {
  make_disk("ext4", {"-O", "^has_journal"});
  if (IsSkipped() || HasFailure()) return;
  open();
  fill(0, 20 * kPerSegment);
  disk_->fail(testing::kWrites, EIO);
  int next = 1000;
  // What it writes on its own may be what finds the fault, and then a store only hears of it.
  store_until_refused(next);
  EXPECT_GT(disk_->faults(), 0U);
  expect_reason("Input/output error");
  if (store_->health() == Health::kDown) {
    EXPECT_NE(store_->set(next++).error().find("the storage does not answer; nothing was changed"),
              std::string::npos);
    EXPECT_TRUE(store_->get(300).is_miss());
  }
  disk_->heal();
  store_->until("it is back", [&] { return store_->set(next++).is_done(); });
  // As it could not grow, it may have emptied a few segments to go on in, and no more.
  for (int i = 10 * kPerSegment; i < 20 * kPerSegment; ++i) {
    EXPECT_TRUE(store_->get(i).is_hit()) << i;
  }
  fill(2000, 2000 + 4 * kPerSegment);
  for (int i = 2000; i < 2000 + 4 * kPerSegment; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
  store_->until_health(Health::kHealthy);
}

TEST_F(DeviceFaultTest, FailingReadsAreFailedLoadsThenMissesAndCostNobodyElse) {
  make_disk("ext4", {"-O", "^has_journal"});
  if (IsSkipped() || HasFailure()) return;
  open();
  fill(0, 20 * kPerSegment);
  disk_->fail(testing::kReads, EIO);
  for (int i = 0; i < 3; ++i) {
    const Operation& loaded = store_->get(i);
    EXPECT_TRUE(loaded.has_failed());
    EXPECT_NE(loaded.error().find("Input/output error"), std::string::npos) << loaded.error();
    EXPECT_TRUE(store_->get(i).is_miss()) << "a failed load is a miss from then on";
  }
  EXPECT_EQ(store_->health(), Health::kDegraded);
  int next = 10;
  store_->until_health(Health::kDown, [&] { store_->get(next++); });
  EXPECT_TRUE(store_->run(Op::kExists, FaultClient::key_of(200)).is_miss());
  disk_->heal();
  store_->until("it is back", [&] { return store_->health() != Health::kDown; });
  EXPECT_TRUE(store_->get(0).is_miss());
  EXPECT_TRUE(store_->set(0).is_done());
  EXPECT_TRUE(store_->get(0).is_hit());
  for (int i = 100; i < 20 * kPerSegment; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
}

TEST_F(DeviceFaultTest, FailingSyncsFailTheBatchesThatWaitForThem) {
  make_disk("ext4", {"-O", "^has_journal"});
  if (IsSkipped() || HasFailure()) return;
  open("&sync=batch");
  constexpr int kStores =
      80 * kPerSegment;  // It is as large as it may be: only segments need syncs.
  fill(0, kStores);
  disk_->fail(testing::kSyncs, EIO);
  int next = kStores;
  store_->until("the sync of a segment fails", [&] {
    const Operation& stored = store_->set(next++);
    EXPECT_TRUE(stored.has_failed());
    return stored.error().find("syncing a segment") != std::string::npos;
  });
  EXPECT_EQ(store_->health(), Health::kDegraded);
  disk_->heal();
  store_->until("stores are acknowledged again", [&] { return store_->set(++next).is_done(); });
  EXPECT_TRUE(store_->get(next).is_hit());
  for (int i = kStores - 20 * kPerSegment; i < kStores; ++i) {
    EXPECT_TRUE(store_->get(i).is_hit()) << i;
  }
}

// L1 before a disk that fails: what L1 has is served all the same, and the report names the tier.
TEST_F(DeviceFaultTest, L1ServesWhatItHasWhileTheDiskBelowFails) {
  make_disk("ext4", {"-O", "^has_journal"});
  if (IsSkipped() || HasFailure()) return;
  open_below("l1=4MiB");
  fill(0, 20 * kPerSegment);
  const int last = 20 * kPerSegment - 1;
  disk_->fail(testing::kReads | testing::kWrites, EIO);
  int next = 1000;
  store_until_refused(next);
  expect_reason("tier 1 (log:");
  for (int i = last; i > last - 40; --i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
  EXPECT_FALSE(store_->get(0).is_hit());
  disk_->heal();
  store_->until("stores are taken again", [&] { return store_->set(next++).is_done(); });
  // Of the others it may have emptied a few segments to go on in, whose tables could not be read.
  for (int i = 10 * kPerSegment; i <= last; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
}

// Stores that L1 alone has taken are on the disk once it is well again.
TEST_F(DeviceFaultTest, WhatL1TookWhileTheDiskWasDownReachesItLater) {
  make_disk("ext4", {"-O", "^has_journal"});
  if (IsSkipped() || HasFailure()) return;
  open_below("l1=32MiB&write=back");
  store_->use(SetMode::kIfAbsent);
  const auto is_written = [&] { return store_->counter("values_unwritten") == 0; };
  // As large as it may be: a store that cannot grow would drop segments to go on in.
  fill(10'000, 10'000 + 80 * kPerSegment);
  store_->until("the disk has them", is_written);
  disk_->fail(testing::kWrites, EIO);
  const int next = 1000 + 2 * kPerSegment;
  fill(1000, next);
  store_->until("the tier is in trouble", [&] { return store_->health() != Health::kHealthy; });
  expect_reason("tier 1 (log:");
  fill(100, 100 + 5 * kPerSegment);
  for (int i = 100; i < 100 + 5 * kPerSegment; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
  EXPECT_FALSE(is_written());
  disk_->heal();
  store_->until("the disk has them", is_written);
  const std::uint64_t given_up = store_->counter("values_given_up_total");
  store_.reset();
  open();
  std::uint64_t lost = 0;
  for (int i = 100; i < next; ++i) {
    if (i == 100 + 5 * kPerSegment) i = 1000;
    lost += store_->get(i).is_hit() ? 0 : 1;
  }
  // Until the log takes itself for down, the disk's errors are those of single values.
  EXPECT_LE(lost, given_up);
  EXPECT_LT(given_up, 5U * kPerSegment);
}

/// With a journal the file system gives up when the disk has failed, and needs a person.
class FailedDeviceTest : public DeviceFaultTest,
                         public ::testing::WithParamInterface<std::string> {};

TEST_P(FailedDeviceTest, WhatWasSyncedBeforeItFailedIsThereAfterARemountAndARestart) {
  make_disk(GetParam(), {});
  if (IsSkipped() || HasFailure()) return;
  open("&sync=batch");
  fill(0, 20 * kPerSegment);
  disk_->fail(testing::kWrites | testing::kSyncs, EIO);
  int next = 1000;
  store_until_refused(next);
  if (store_->health() == Health::kDown) {
    EXPECT_TRUE(store_->get(0).is_miss());
  }
  disk_->heal();
  store_.reset();
  const SetupStatus mounted = mount_->mount_again();
  ASSERT_TRUE(mounted.has_value()) << mounted.error().text;
  open();
  for (int i = 0; i < 20 * kPerSegment; ++i) EXPECT_TRUE(store_->get(i).is_hit()) << i;
  fill(5000, 5000 + 3 * kPerSegment);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, FailedDeviceTest, ::testing::Values("ext4", "xfs"),
                         [](const auto& parameter) { return parameter.param; });

/// While a disk does not answer, and the store is in its first turn, where it needs the file
/// system.
class StalledDeviceTest : public DeviceFaultTest,
                          public ::testing::WithParamInterface<std::string> {};

TEST_P(StalledDeviceTest, NobodyWaitsForTheDiskAndItComesBack) {
  make_disk(GetParam(), {});
  if (IsSkipped() || HasFailure()) return;
  constexpr std::uint64_t kShortNs = 300'000'000;
  open();
  fill(0, 5 * kPerSegment);
  disk_->stall(testing::kEverything);
  std::vector<Operation*> stuck;
  for (int i = 100; i < 100 + 3 * kPerSegment; ++i) {
    stuck.push_back(&store_->start(Op::kSet, FaultClient::key_of(i), kShortNs));
  }
  for (int i = 0; i < 4; ++i) stuck.push_back(&store_->start(Op::kGet, FaultClient::key_of(i)));
  store_->until_health(Health::kDown);
  EXPECT_GT(disk_->faults(), 0U);
  expect_reason("down: ");  // ext4 keeps the thread that submits, xfs the transfer.
  // None of these waits for what the disk has: it comes back while the disk is still silent.
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(store_->run(Op::kExists, FaultClient::key_of(i)).is_miss());
    EXPECT_TRUE(store_->get(i).is_miss());
    const Operation& stored = store_->set(1000 + i);
    EXPECT_TRUE(stored.has_failed());
    EXPECT_NE(stored.error().find("does not answer"), std::string::npos) << stored.error();
  }
  disk_->heal();
  for (Operation* const operation : stuck) ASSERT_TRUE(store_->wait(*operation));
  store_->until("it is back", [&] { return store_->health() != Health::kDown; });
  int next = 5000;
  store_->until("it stores again", [&] { return store_->set(++next).is_done(); });
  EXPECT_TRUE(store_->get(next).is_hit());
  int hits = 0;
  for (int i = 0; i < 5 * kPerSegment; ++i) hits += store_->get(i).is_hit() ? 1 : 0;
  EXPECT_GT(hits, 2 * kPerSegment);
  store_->until_health(Health::kHealthy);
}

/// ext4 makes a write wait in the thread that submits it when the time of the change has to go into
/// the journal, and the journal waits for the disk.
TEST_F(DeviceFaultTest, AThreadThatTheKernelKeepsForTheJournalMakesNobodyElseWait) {
  make_disk("ext4", {});
  if (IsSkipped() || HasFailure()) return;
  open();
  // It has all its files, and there is room in the head: nothing of its own is in the journal.
  constexpr int kFilled = 66 * kPerSegment + 5;
  fill(0, kFilled);
  store_->until("it is quiet", [&] { return store_->counter("transfers_in_flight") == 0; });
  disk_->stall(testing::kEverything);
  std::vector<Operation*> begun;
  const auto begin_one = [&] {
    const int number = 2000 + static_cast<int>(begun.size());
    begun.push_back(&store_->start(Op::kSet, FaultClient::key_of(number)));
  };
  begin_one();  // Its time of change belongs to the journal's present round,
  store_->until("the write is with the disk", [&] { return disk_->faults() > 0; });
  // which somebody else ends and the disk does not.
  const UniqueFd other{::open(mount_->path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  ASSERT_EQ(::fchmod(other.get(), 0755), 0);
  std::thread syncing{[&] { EXPECT_EQ(::fsync(other.get()), 0); }};
  const auto end = [&] {
    disk_->heal();
    syncing.join();
  };
  store_->until_health(Health::kDown, [&] {
    begin_one();
    ::poll(nullptr, 0, 20);  // The time of a change has a grain.
  });
  // Where the journal is already waiting for the disk, it is the transfers that have no answer.
  const bool is_kept =
      store_->reasons().find("the kernel keeps the store's own thread") != std::string::npos;
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(store_->run(Op::kExists, FaultClient::key_of(i)).is_miss());
    EXPECT_TRUE(store_->get(kFilled - 1 - i).is_miss());
    const Operation& stored = store_->set(1000 + i);
    EXPECT_NE(stored.error().find("does not answer"), std::string::npos) << stored.error();
  }
  const auto is_back = [](const Operation* operation) { return operation->is_back; };
  if (is_kept) {
    EXPECT_TRUE(std::ranges::any_of(begun, is_back)) << "what was queued has its answer";
  }
  EXPECT_FALSE(is_back(begun.front())) << "the disk has it";
  EXPECT_EQ(store_->health(), Health::kDown);
  end();
  for (Operation* const operation : begun) ASSERT_TRUE(store_->wait(*operation));
  store_->until("it is back", [&] { return store_->health() != Health::kDown; });
  int next = 5000;
  store_->until("it stores again", [&] { return store_->set(++next).is_done(); });
  EXPECT_TRUE(store_->get(next).is_hit());
  for (int i = kFilled - 10 * kPerSegment; i < kFilled; ++i) {
    EXPECT_TRUE(store_->get(i).is_hit()) << i;
  }
  store_->until_health(Health::kHealthy);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, StalledDeviceTest, ::testing::Values("ext4", "xfs"),
                         [](const auto& parameter) { return parameter.param; });

}  // namespace
}  // namespace larder::faults
