// What may be left of a SimulatedDisk after its owners died, and whether it is always the same.

#include "tests/support/io/simulated_disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <functional>

#include "tests/support/io/device_test_support.h"
#include "tests/support/io/simulated_device.h"

namespace larder::io {
namespace {

constexpr std::size_t kSector = SimulatedDisk::kSectorBytes;
constexpr std::uint64_t kSecond = 1'000'000'000;

SimulatedDiskOptions with_seed(std::uint64_t seed) {
  SimulatedDiskOptions options;
  options.seed = seed;
  return options;
}

/// How many sectors hold the bytes of `a`, where every other one must hold those of `b`.
std::size_t sectors_of(std::span<const std::byte> image, std::span<const std::byte> a,
                       std::span<const std::byte> b) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < image.size(); at += kSector) {
    const auto sector = image.subspan(at, kSector);
    if (std::ranges::equal(sector, a.subspan(at, kSector))) {
      ++count;
    } else {
      EXPECT_TRUE(std::ranges::equal(sector, b.subspan(at, kSector))) << "a torn sector";
    }
  }
  return count;
}

// --- Power cut ----------------------------------------------------------------------------------

TEST(SimulatedPowerCutTest, SyncedWritesStayAndOthersSurviveAreLostOrTorn) {
  ManualClock clock;
  SimulatedCounts total;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    SimulatedDisk disk{with_seed(seed), clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", 16 * kTestBlock);
    ASSERT_TRUE(device->sync_directory().has_value());
    const auto synced = write_random(*device, file, 0, 16 * kTestBlock, 1);
    sync_file(*device, file);
    const auto unsynced = write_random(*device, file, 0, 8 * kTestBlock, 2);

    disk.power_cut();
    EXPECT_FALSE(device->is_alive());
    device.reset();

    const auto image = disk.read_image("file", 0, 16 * kTestBlock);
    const std::size_t survived =
        sectors_of(std::span{image}.first(8 * kTestBlock), unsynced, synced);
    EXPECT_TRUE(std::ranges::equal(std::span{image}.subspan(8 * kTestBlock),
                                   std::span{synced}.subspan(8 * kTestBlock)));
    const SimulatedCounts& counts = disk.counts();
    EXPECT_EQ(counts.writes_survived, survived == 64 ? 1U : 0U);
    EXPECT_EQ(counts.writes_lost, survived == 0 ? 1U : 0U);
    EXPECT_EQ(counts.writes_torn, survived != 0 && survived != 64 ? 1U : 0U);
    EXPECT_EQ(disk.read_durable_image("file", 0, 16 * kTestBlock), image);
    total.writes_survived += counts.writes_survived;
    total.writes_lost += counts.writes_lost;
    total.writes_torn += counts.writes_torn;
  }
  EXPECT_GT(total.writes_survived, 10U);
  EXPECT_GT(total.writes_lost, 10U);
  EXPECT_GT(total.writes_torn, 10U);
}

TEST(SimulatedPowerCutTest, WritesInFlightHaveTheSameFates) {
  ManualClock clock;
  std::size_t whole = 0;
  std::size_t none = 0;
  std::size_t torn = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    SimulatedDisk disk{with_seed(seed), clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", kTestBlock);
    const auto before = write_random(*device, file, 0, kTestBlock, 1);
    sync_file(*device, file);
    ASSERT_TRUE(device->sync_directory().has_value());
    TestTransfer write{Operation::kWrite, file, 0, kTestBlock};
    device->submit(write.filled(2).request());
    std::vector<Request*> nothing;
    ASSERT_EQ(device->reap(nothing), 0U);

    disk.power_cut();

    const auto image = disk.read_image("file", 0, kTestBlock);
    const std::size_t survived = sectors_of(image, write.bytes(), before);
    ++(survived == 0 ? none : survived == 8 ? whole : torn);
    EXPECT_EQ(disk.next_event_ns(), kNever);
  }
  EXPECT_GT(whole, 10U);
  EXPECT_GT(none, 10U);
  EXPECT_GT(torn, 10U);
}

TEST(SimulatedPowerCutTest, SyncCoversOnlyWhatHadEndedWhenItWasSubmitted) {
  ManualClock clock;
  SimulatedDiskOptions options = with_seed(1);
  options.faults.survives_power_cut = 0;
  options.faults.tears_in_power_cut = 0;
  SimulatedDisk disk{options, clock};
  auto device = disk.mount();
  const FileId file = make_file(*device, "file", 2 * kTestBlock);
  sync_file(*device, file);
  ASSERT_TRUE(device->sync_directory().has_value());
  const auto ended_before = write_random(*device, file, 0, kTestBlock, 1);
  TestTransfer sync{Operation::kSync, file, 0, 0};
  TestTransfer write{Operation::kWrite, file, kTestBlock, kTestBlock};
  Request* const together[] = {&write.filled(2).request(), &sync.request()};
  run_all(*device, together);

  disk.power_cut();

  EXPECT_EQ(disk.read_image("file", 0, kTestBlock), ended_before);
  EXPECT_EQ(disk.read_image("file", kTestBlock, kTestBlock), std::vector<std::byte>(kTestBlock));
  EXPECT_EQ(disk.counts().writes_lost, 1U);
}

TEST(SimulatedPowerCutTest, LaterSyncDoesNotMendAFailedOne) {
  ManualClock clock;
  std::uint64_t abandoned = 0;
  std::size_t lost = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    SimulatedDiskOptions options = with_seed(seed);
    options.faults.survives_power_cut = 0;
    options.faults.tears_in_power_cut = 0;
    SimulatedDisk disk{options, clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", kTestBlock);
    sync_file(*device, file);
    ASSERT_TRUE(device->sync_directory().has_value());
    const auto written = write_random(*device, file, 0, kTestBlock, 1);
    disk.faults().sync_error = 1;
    TestTransfer sync{Operation::kSync, file, 0, 0};
    run_one(*device, sync.request());
    ASSERT_EQ(sync.request().sys_errno, EIO);
    disk.faults().sync_error = 0;
    sync_file(*device, file);
    EXPECT_EQ(read_back(*device, file, 0, kTestBlock), written);  // Nothing shows before the cut.

    disk.power_cut();

    abandoned += disk.counts().abandoned_by_sync;
    if (disk.read_image("file", 0, kTestBlock) != written) ++lost;
  }
  EXPECT_EQ(lost, abandoned);
  EXPECT_GT(lost, 5U);
  EXPECT_LT(lost, 25U);
}

TEST(SimulatedPowerCutTest, NamesAndLengthsThatWereNotSyncedMayGo) {
  ManualClock clock;
  std::size_t created_kept = 0;
  std::size_t removed_kept = 0;
  std::size_t length_kept = 0;
  constexpr std::uint64_t kSeeds = 60;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk{with_seed(seed), clock};
    auto device = disk.mount();
    make_file(*device, "old", kTestBlock);
    const FileId grown = make_file(*device, "grown", kTestBlock);
    sync_file(*device, grown);
    ASSERT_TRUE(device->sync_directory().has_value());
    make_file(*device, "new", kTestBlock);
    ASSERT_TRUE(device->remove("old").has_value());
    ASSERT_TRUE(device->allocate(grown, 2 * kTestBlock).has_value());

    disk.power_cut();

    const auto names = disk.names();
    const auto has = [&names](const char* name) { return std::ranges::count(names, name) == 1; };
    created_kept += has("new") ? 1 : 0;
    removed_kept += has("old") ? 0 : 1;
    ASSERT_TRUE(has("grown"));
    const std::uint64_t bytes = disk.file_bytes("grown");
    ASSERT_TRUE(bytes == kTestBlock || bytes == 2 * kTestBlock);
    length_kept += bytes == 2 * kTestBlock ? 1 : 0;
    EXPECT_EQ(disk.counts().names_kept + disk.counts().names_lost, 2U);
  }
  for (const std::size_t kept : {created_kept, removed_kept, length_kept}) {
    EXPECT_GT(kept, 10U);
    EXPECT_LT(kept, kSeeds - 10);
  }
}

TEST(SimulatedPowerCutTest, SyncedNamesAndLengthsStay) {
  ManualClock clock;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SimulatedDisk disk{with_seed(seed), clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", kTestBlock);
    make_file(*device, "removed", kTestBlock);
    ASSERT_TRUE(device->remove("removed").has_value());
    sync_file(*device, file);
    ASSERT_TRUE(device->sync_directory().has_value());
    disk.power_cut();
    EXPECT_EQ(disk.names(), std::vector<std::string>{"file"});
    EXPECT_EQ(disk.file_bytes("file"), kTestBlock);
  }
}

// --- SIGKILL ------------------------------------------------------------------------------------

TEST(SimulatedKillTest, EndedWritesStayWithoutASync) {
  ManualClock clock;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SimulatedDisk disk{with_seed(seed), clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", kTestBlock);
    const auto written = write_random(*device, file, 0, kTestBlock, 1);
    disk.kill_owner(*device);
    EXPECT_EQ(disk.read_image("file", 0, kTestBlock), written);
  }
}

TEST(SimulatedKillTest, WritesInFlightLandNeverNowOrLaterWhileTheLockIsHeld) {
  ManualClock clock;
  SimulatedCounts total;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SimulatedDisk disk{with_seed(seed), clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", 4 * kTestBlock);
    ASSERT_TRUE(device->lock(file, kNever).has_value());
    {
      TestTransfer write{Operation::kWrite, file, 0, 4 * kTestBlock};
      TestTransfer read{Operation::kRead, file, 0, 4 * kTestBlock};
      device->submit(write.filled(1).request());
      device->submit(read.request());
      std::vector<Request*> none;
      ASSERT_EQ(device->reap(none), 0U);
      disk.kill_owner(*device);
    }  // The memory goes, as a process's does.
    device.reset();
    const auto at_kill = disk.read_image("file", 0, 4 * kTestBlock);
    const bool is_held = disk.next_event_ns() != kNever;

    const auto next = disk.mount();
    const FileId again = next->open("file", OpenMode::kExisting).value();
    EXPECT_EQ(next->lock(again, 0).has_value(), !is_held);
    const std::uint64_t start_ns = clock.now_ns();
    ASSERT_TRUE(next->lock(again, start_ns + 5 * kSecond).has_value());

    const auto at_lock = disk.read_image("file", 0, 4 * kTestBlock);
    EXPECT_EQ(at_kill != at_lock, is_held);
    EXPECT_EQ(clock.now_ns() > start_ns, is_held);
    EXPECT_EQ(disk.next_event_ns(), kNever);  // Nothing lands under the new owner.
    const SimulatedCounts& counts = disk.counts();
    EXPECT_EQ(counts.kill_later, is_held ? 1U : 0U);
    total.kill_never += counts.kill_never;
    total.kill_now += counts.kill_now;
    total.kill_later += counts.kill_later;
    total.kill_partial += counts.kill_partial;
  }
  EXPECT_GT(total.kill_never, 5U);
  EXPECT_GT(total.kill_now, 5U);
  EXPECT_GT(total.kill_later, 5U);
  EXPECT_GT(total.kill_partial, 2U);
}

TEST(SimulatedKillTest, StalledWriteOfTheDeadKeepsTheLockUntilItIsReleased) {
  ManualClock clock;
  bool has_kept_the_lock = false;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    SimulatedDiskOptions options = with_seed(seed);
    options.faults.stall = 1;
    SimulatedDisk disk{options, clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", kTestBlock);
    ASSERT_TRUE(device->lock(file, kNever).has_value());
    TestTransfer write{Operation::kWrite, file, 0, kTestBlock};
    device->submit(write.filled(1).request());
    std::vector<Request*> none;
    device->reap(none);
    disk.kill_owner(*device);
    device.reset();
    if (disk.counts().kill_never == 1) continue;

    const auto next = disk.mount();
    const FileId again = next->open("file", OpenMode::kExisting).value();
    EXPECT_EQ(next->lock(again, clock.now_ns() + 5 * kSecond).error().code(),
              ErrorCode::kUnavailable);
    disk.release_stalls();
    EXPECT_TRUE(next->lock(again, clock.now_ns() + 5 * kSecond).has_value());
    has_kept_the_lock = true;
  }
  EXPECT_TRUE(has_kept_the_lock);
}

TEST(SimulatedKillTest, PowerCutEndsWhatAKilledOwnerLeftBehind) {
  ManualClock clock;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SimulatedDisk disk{with_seed(seed), clock};
    auto device = disk.mount();
    const FileId file = make_file(*device, "file", kTestBlock);
    sync_file(*device, file);
    ASSERT_TRUE(device->sync_directory().has_value());
    ASSERT_TRUE(device->lock(file, kNever).has_value());
    TestTransfer write{Operation::kWrite, file, 0, kTestBlock};
    device->submit(write.filled(1).request());
    std::vector<Request*> none;
    device->reap(none);
    disk.kill_owner(*device);
    disk.power_cut();
    EXPECT_EQ(disk.next_event_ns(), kNever);
    const auto next = disk.mount();
    EXPECT_TRUE(next->lock(next->open("file", OpenMode::kExisting).value(), 0).has_value());
  }
}

TEST(SimulatedKillTest, DeadOwnersCallsFailAndItsRequestsAreForgotten) {
  ManualClock clock;
  SimulatedDisk disk{with_seed(1), clock};
  auto device = disk.mount();
  const FileId file = make_file(*device, "file", kTestBlock);
  TestTransfer write{Operation::kWrite, file, 0, kTestBlock};
  device->submit(write.request());
  disk.kill_owner(*device);
  const std::uint64_t now_ns = clock.now_ns();

  EXPECT_FALSE(device->list().has_value());
  EXPECT_EQ(device->open("file", OpenMode::kExisting).error().sys_errno(), EIO);
  EXPECT_FALSE(device->info(file).has_value());
  EXPECT_FALSE(device->allocate(file, kTestBlock).has_value());
  EXPECT_FALSE(device->remove("file").has_value());
  EXPECT_FALSE(device->sync_directory().has_value());
  EXPECT_FALSE(device->space().has_value());
  EXPECT_FALSE(device->lock(file, kNever).has_value());
  device->submit(write.request());
  Request* done = nullptr;
  EXPECT_EQ(device->reap({&done, 1}), 0U);
  device->wait(kNever);
  device->close(file);
  EXPECT_EQ(clock.now_ns(), now_ns);
  EXPECT_EQ(disk.counts().writes, 0U);
}

// --- The test's hand ----------------------------------------------------------------------------

TEST(SimulatedDiskTest, HandOnTheDiskIsSeenAtOnceAndDurable) {
  ManualClock clock;
  SimulatedDiskOptions options = with_seed(1);
  options.faults.survives_power_cut = 0;
  options.faults.tears_in_power_cut = 0;
  SimulatedDisk disk{options, clock};
  auto device = disk.mount();
  const FileId a = make_file(*device, "a", kTestBlock);
  const FileId b = make_file(*device, "b", kTestBlock);
  ASSERT_TRUE(device->sync_directory().has_value());
  const auto in_a = write_random(*device, a, 0, kTestBlock, 1);
  const auto in_b = write_random(*device, b, 0, kTestBlock, 2);

  disk.flip_bit("a", 700, 3);
  auto rotten = in_a;
  rotten[700] ^= std::byte{8};
  EXPECT_EQ(read_back(*device, a, 0, kTestBlock), rotten);
  disk.flip_bit("a", 700, 3);

  disk.copy_file("a", "copy");
  disk.swap_files("a", "b");
  EXPECT_EQ(read_back(*device, a, 0, kTestBlock), in_b);
  EXPECT_EQ(read_back(*device, b, 0, kTestBlock), in_a);
  disk.truncate("a", kSector);
  EXPECT_EQ(device->info(a)->bytes, kSector);
  disk.copy_file("b", "gone");
  disk.remove("gone");

  disk.power_cut();

  EXPECT_EQ(disk.names(), (std::vector<std::string>{"a", "b", "copy"}));
  EXPECT_EQ(disk.file_bytes("a"), kSector);
  EXPECT_EQ(disk.read_image("b", 0, kTestBlock), in_a);
  EXPECT_EQ(disk.read_image("copy", 0, kTestBlock), in_a);
}

// --- Determinism --------------------------------------------------------------------------------

struct History {
  std::uint64_t hash = 0;
  std::uint64_t ended_at_ns = 0;
  std::vector<std::byte> image;
  SimulatedCounts counts;
};

/// Some hundred requests with every fault, three owners, a kill and a power cut.
History run_history(std::uint64_t seed) {
  constexpr std::size_t kBlocks = 32;
  ManualClock clock;
  SimulatedDiskOptions options = with_seed(seed);
  options.faults.read_error = options.faults.write_error = options.faults.sync_error = 0.05;
  options.faults.short_transfer = 0.2;
  options.faults.stall = 0.02;
  options.faults.stall_ns = kSecond;
  SimulatedDisk disk{options, clock};
  {
    const auto maker = disk.mount();
    disk.faults().sync_error = 0;
    sync_file(*maker, make_file(*maker, "file", kBlocks * kTestBlock));
    disk.faults().sync_error = 0.05;
    EXPECT_TRUE(maker->sync_directory().has_value());
  }
  Random random{seed};  // The workload's own.
  for (int owner = 0; owner < 3; ++owner) {
    std::deque<TestTransfer> transfers;  // Outlive the device.
    const auto device = disk.mount();
    const FileId file = device->open("file", OpenMode::kExisting).value();
    EXPECT_TRUE(device->lock(file, clock.now_ns() + 5 * kSecond).has_value());
    std::vector<Request*> done(8);
    for (int i = 0; i < 100; ++i) {
      const auto operation = static_cast<Operation>(1 + random.below(3));
      transfers.emplace_back(operation, file, random.below(kBlocks - 4) * kTestBlock,
                             operation == Operation::kSync ? 0 : 4 * kTestBlock, 1);
      device->submit(transfers.back().filled(random.next()).request());
      if (random.one_in(4)) device->wait(clock.now_ns() + 200'000);
      device->reap(done);
    }
    if (owner == 0) disk.kill_owner(*device);
    if (owner == 1) disk.power_cut();
  }
  return {disk.history_hash(), clock.now_ns(), disk.read_image("file", 0, kBlocks * kTestBlock),
          disk.counts()};
}

TEST(SimulatedDeterminismTest, SameSeedIsTheSameHistoryAndAnotherIsAnother) {
  SimulatedCounts total;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const History one = run_history(seed);
    const History same = run_history(seed);
    EXPECT_EQ(one.hash, same.hash);
    EXPECT_EQ(one.ended_at_ns, same.ended_at_ns);
    EXPECT_EQ(one.image, same.image);
    EXPECT_NE(one.hash, run_history(seed + 100).hash);
    total.read_errors += one.counts.read_errors;
    total.write_errors += one.counts.write_errors;
    total.sync_errors += one.counts.sync_errors;
    total.short_transfers += one.counts.short_transfers;
    total.stalls += one.counts.stalls;
    total.reordered += one.counts.reordered;
    total.writes_torn += one.counts.writes_torn;
    total.kill_later += one.counts.kill_later;
  }
  EXPECT_GT(total.read_errors, 0U);
  EXPECT_GT(total.write_errors, 0U);
  EXPECT_GT(total.sync_errors, 0U);
  EXPECT_GT(total.short_transfers, 0U);
  EXPECT_GT(total.stalls, 0U);
  EXPECT_GT(total.reordered, 0U);
  EXPECT_GT(total.writes_torn, 0U);
  EXPECT_GT(total.kill_later, 0U);
}

}  // namespace
}  // namespace larder::io
