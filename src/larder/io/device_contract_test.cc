// The promises of io/directory.h and io/transfer_queue.h, for every implementation.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <filesystem>
#include <thread>

#include "larder/base/check.h"
#include "tests/support/forked_child.h"
#include "tests/support/io/device_test_support.h"

namespace larder::io {
namespace {

class DeviceContractTest : public ::testing::TestWithParam<BackendKind> {
 protected:
  void SetUp() override {
    if (const auto why = harness_.why_not()) GTEST_SKIP() << *why;
  }

  std::uint64_t soon_ns() const { return harness_.clock().now_ns() + 5'000'000; }

  DeviceHarness harness_{GetParam()};
};

/// Properties that only devices with a kernel have.
class RealDeviceContractTest : public DeviceContractTest {};

TEST_P(DeviceContractTest, WrittenBytesAreReadBack) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 8 * kTestBlock);

  const auto written = write_random(*device.queue, file, kTestBlock, 4 * kTestBlock, 1);

  EXPECT_EQ(read_back(*device.queue, file, kTestBlock, 4 * kTestBlock), written);
}

TEST_P(DeviceContractTest, ScatteredBuffersAreOneRange) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", kBuffersMax * kTestBlock);
  for (const std::size_t pieces : {std::size_t{1}, std::size_t{2}, std::size_t{5}, kBuffersMax}) {
    TestTransfer write{Operation::kWrite, file, 0, kBuffersMax * kTestBlock, pieces};
    run_one(*device.queue, write.filled(pieces).request());
    ASSERT_EQ(write.request().sys_errno, 0);
    ASSERT_EQ(write.request().bytes_done, kBuffersMax * kTestBlock);

    TestTransfer read{Operation::kRead, file, 0, kBuffersMax * kTestBlock, 3};
    run_one(*device.queue, read.request());

    ASSERT_EQ(read.request().bytes_done, kBuffersMax * kTestBlock);
    EXPECT_TRUE(std::ranges::equal(read.bytes(), write.bytes())) << pieces << " pieces";
  }
}

TEST_P(DeviceContractTest, PartOfAWriteCanBeReadAlone) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 8 * kTestBlock);
  const auto written = write_random(*device.queue, file, 0, 8 * kTestBlock, 1);

  const auto part = read_back(*device.queue, file, 3 * kTestBlock, 2 * kTestBlock);

  EXPECT_TRUE(std::ranges::equal(part, std::span{written}.subspan(3 * kTestBlock, 2 * kTestBlock)));
}

TEST_P(DeviceContractTest, ReadEndsWithoutAnErrorAtTheEndOfTheFile) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 2 * kTestBlock);
  const auto written = write_random(*device.queue, file, 0, 2 * kTestBlock, 1);

  TestTransfer across{Operation::kRead, file, kTestBlock, 4 * kTestBlock, 2};
  TestTransfer beyond{Operation::kRead, file, 2 * kTestBlock, kTestBlock};
  Request* const requests[] = {&across.request(), &beyond.request()};
  run_all(*device.queue, requests);

  EXPECT_EQ(across.request().sys_errno, 0);
  ASSERT_EQ(across.request().bytes_done, kTestBlock);
  EXPECT_TRUE(
      std::ranges::equal(across.bytes().first(kTestBlock), std::span{written}.subspan(kTestBlock)));
  EXPECT_EQ(beyond.request().sys_errno, 0);
  EXPECT_EQ(beyond.request().bytes_done, 0U);
}

TEST_P(DeviceContractTest, ReadOfAnUnalignedEndIsCutThere) {
  const auto device = harness_.open();
  constexpr std::uint64_t kOddBytes = kTestBlock + 100;
  const FileId file = make_file(*device.directory, "file", kOddBytes);

  TestTransfer read{Operation::kRead, file, 0, 2 * kTestBlock};
  run_one(*device.queue, read.request());

  EXPECT_EQ(read.request().sys_errno, 0);
  EXPECT_EQ(read.request().bytes_done, kOddBytes);
}

TEST_P(DeviceContractTest, ManyMoreRequestsThanDepthAllEndOnce) {
  DeviceOptions options;
  options.depth = 3;
  options.threads = 2;
  const auto device = harness_.open(options);
  constexpr std::size_t kRequests = 200;
  const FileId file = make_file(*device.directory, "file", kRequests * kTestBlock);
  std::deque<TestTransfer> writes;
  std::vector<Request*> requests;
  for (std::size_t i = 0; i < kRequests; ++i) {
    writes.emplace_back(Operation::kWrite, file, i * kTestBlock, kTestBlock).filled(i);
    requests.push_back(&writes.back().request());
  }

  run_all(*device.queue, requests);

  for (std::size_t i = 0; i < kRequests; ++i) {
    ASSERT_EQ(requests[i]->bytes_done, kTestBlock);
    const auto read = read_back(*device.queue, file, i * kTestBlock, kTestBlock);
    ASSERT_TRUE(std::ranges::equal(read, writes[i].bytes())) << i;
  }
}

TEST_P(DeviceContractTest, RequestCanBeUsedAgain) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 2 * kTestBlock);
  TestTransfer read{Operation::kRead, file, 0, kTestBlock};
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{kTestBlock}}) {
    const auto written = write_random(*device.queue, file, offset, kTestBlock, offset + 1);
    iovec buffer{read.bytes().data(), read.bytes().size()};
    read.request().offset = offset;
    read.request().buffers = {&buffer, 1};
    run_one(*device.queue, read.request());
    EXPECT_EQ(read.request().bytes_done, kTestBlock);
    EXPECT_TRUE(std::ranges::equal(read.bytes(), written));
  }
}

TEST_P(DeviceContractTest, RequestOfNoBytesEnds) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", kTestBlock);
  TestTransfer write{Operation::kWrite, file, 0, 0};
  run_one(*device.queue, write.request());
  EXPECT_EQ(write.request().sys_errno, 0);
  EXPECT_EQ(write.request().bytes_done, 0U);
}

TEST_P(DeviceContractTest, SyncEndsAmongOtherRequests) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 2 * kTestBlock);
  TestTransfer write{Operation::kWrite, file, 0, kTestBlock};
  TestTransfer sync{Operation::kSync, file, 0, 0};
  sync.request().sys_errno = EIO;  // Left over from an earlier use.
  Request* const requests[] = {&write.filled(1).request(), &sync.request()};
  run_all(*device.queue, requests);
  EXPECT_EQ(sync.request().sys_errno, 0);
  EXPECT_EQ(sync.request().bytes_done, 0U);
}

TEST_P(DeviceContractTest, WakeEndsTheNextWait) {
  const auto device = harness_.open();
  device.queue->wake();
  device.queue->wait(kNever);
  // And again: the first wait took the first wake-up.
  device.queue->wake();
  device.queue->wait(kNever);
}

TEST_P(RealDeviceContractTest, WakeFromAnotherThreadEndsTheWait) {
  const auto device = harness_.open();
  std::atomic<int> rounds = 0;
  constexpr int kRounds = 200;
  std::thread waker{[&] {
    for (int i = 0; i < kRounds; ++i) {
      rounds.store(i + 1);
      device.queue->wake();
      while (rounds.load() != 0) std::this_thread::yield();
    }
  }};
  for (int i = 0; i < kRounds; ++i) {
    // May return early: only a lost wake-up is an error.
    while (rounds.load() != i + 1) device.queue->wait(kNever);
    rounds.store(0);
  }
  waker.join();
}

TEST_P(DeviceContractTest, WaitEndsAtItsDeadline) {
  const auto device = harness_.open();
  const std::uint64_t until_ns = soon_ns();
  while (harness_.clock().now_ns() < until_ns) device.queue->wait(until_ns);
  device.queue->wait(0);  // Long past.
}

TEST_P(DeviceContractTest, WaitReturnsWhileThereIsSomethingToReap) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", kTestBlock);
  TestTransfer first{Operation::kRead, file, 0, kTestBlock};
  TestTransfer second{Operation::kRead, file, 0, kTestBlock};
  device.queue->submit(first.request());
  device.queue->submit(second.request());
  Request* done[1] = {};
  for (int reaped = 0; reaped < 2;) {
    device.queue->wait(kNever);
    reaped += static_cast<int>(device.queue->reap(done));
  }
  EXPECT_EQ(device.queue->reap(done), 0U);
}

TEST_P(DeviceContractTest, LockHasOneOwnerUntilItsDeviceIsGone) {
  auto owner = harness_.open();
  const auto other = harness_.open();
  const FileId mine = make_file(*owner.directory, "lock", kTestBlock);
  const auto theirs = other.directory->open("lock", OpenMode::kExisting);
  ASSERT_TRUE(theirs.has_value());
  ASSERT_TRUE(owner.directory->lock(mine, kNever).has_value());

  EXPECT_FALSE(other.directory->lock(*theirs, soon_ns()).has_value());
  EXPECT_FALSE(other.directory->lock(*theirs, 0).has_value());

  owner = {};
  EXPECT_TRUE(other.directory->lock(*theirs, 0).has_value());
}

TEST_P(DeviceContractTest, LockIsFreeAfterItsFileWasClosed) {
  const auto owner = harness_.open();
  const auto other = harness_.open();
  const FileId mine = make_file(*owner.directory, "lock", kTestBlock);
  ASSERT_TRUE(owner.directory->lock(mine, kNever).has_value());
  owner.directory->close(mine);

  const auto theirs = other.directory->open("lock", OpenMode::kExisting);

  EXPECT_TRUE(other.directory->lock(*theirs, 0).has_value());
}

TEST_P(DeviceContractTest, LockOfAClosedFileLastsAsLongAsTheDevicesOtherRequests) {
  const auto owner = harness_.open();
  const auto other = harness_.open();
  const FileId locked = make_file(*owner.directory, "lock", kTestBlock);
  const FileId data = make_file(*owner.directory, "data", kTestBlock);
  ASSERT_TRUE(owner.directory->lock(locked, kNever).has_value());
  TestTransfer write{Operation::kWrite, data, 0, kTestBlock};
  owner.queue->submit(write.filled(1).request());
  std::vector<Request*> none;
  owner.queue->reap(none);  // Hands it over.

  owner.directory->close(locked);

  const auto theirs = other.directory->open("lock", OpenMode::kExisting);
  EXPECT_FALSE(other.directory->lock(*theirs, 0).has_value());
  reap_all(*owner.queue, 1);
  EXPECT_TRUE(other.directory->lock(*theirs, 0).has_value());
}

TEST_P(RealDeviceContractTest, LockComesWhenTheOtherOwnerLetsGo) {
  make_file(*harness_.open().directory, "lock", kTestBlock);
  testing::ForkedChild child{[this](int /*hold*/) -> std::string {
    static const auto owner = harness_.open();  // Until its process ends.
    const auto mine = owner.directory->open("lock", OpenMode::kExisting);
    return mine && owner.directory->lock(*mine, kNever) ? "locked" : "not locked";
  }};
  ASSERT_EQ(child.said(), "locked");
  const auto other = harness_.open();
  const auto theirs = other.directory->open("lock", OpenMode::kExisting);
  EXPECT_EQ(other.directory->lock(*theirs, 0).error().code(), ErrorCode::kUnavailable);
  std::thread releaser{[&child] { child.kill(); }};
  EXPECT_TRUE(other.directory->lock(*theirs, kNever).has_value());
  releaser.join();
}

TEST_P(RealDeviceContractTest, LockThatThisProcessHasIsRefusedAtOnce) {
  auto owner = harness_.open();
  const auto other = harness_.open();
  const FileId mine = make_file(*owner.directory, "lock", kTestBlock);
  const auto theirs = other.directory->open("lock", OpenMode::kExisting);
  ASSERT_TRUE(owner.directory->lock(mine, kNever).has_value());
  // A waiting thread would wait for ever.
  EXPECT_EQ(other.directory->lock(*theirs, kNever).error().sys_errno(), EDEADLK);
  owner = {};
  EXPECT_TRUE(other.directory->lock(*theirs, kNever).has_value());
}

TEST_P(RealDeviceContractTest, LockOfAKilledOwnerIsFreeWhileItsChildLives) {
  make_file(*harness_.open().directory, "lock", kTestBlock);
  testing::ForkedChild killed{[this](int hold) -> std::string {
    static const auto owner = harness_.open();
    const auto mine = owner.directory->open("lock", OpenMode::kExisting);
    if (!mine || !owner.directory->lock(*mine, kNever)) return "not locked";
    write_random(*owner.queue, *mine, 0, kTestBlock, 1);
    if (::fork() == 0) testing::ForkedChild::stay(hold);
    return "locked";
  }};
  ASSERT_EQ(killed.said(), "locked");
  killed.kill();
  const auto other = harness_.open();
  const auto theirs = other.directory->open("lock", OpenMode::kExisting);
  EXPECT_TRUE(other.directory->lock(*theirs, kNever).has_value());
}

TEST_P(DeviceContractTest, OpenSaysWhatIsWrong) {
  const auto device = harness_.open();
  make_file(*device.directory, "there", kTestBlock);

  EXPECT_EQ(device.directory->open("missing", OpenMode::kExisting).error().sys_errno(), ENOENT);
  EXPECT_EQ(device.directory->open("missing", OpenMode::kExisting).error().code(), ErrorCode::kIo);
  EXPECT_EQ(device.directory->open("there", OpenMode::kCreate).error().sys_errno(), EEXIST);
  for (const std::string name : {"", ".", "..", "a/b", "/etc/passwd"}) {
    const auto opened = device.directory->open(name, OpenMode::kExisting);
    ASSERT_FALSE(opened.has_value()) << name;
    EXPECT_EQ(opened.error().code(), ErrorCode::kInvalidArgument) << name;
  }
  EXPECT_FALSE(device.directory->open(std::string(256, 'x'), OpenMode::kCreate).has_value());
  EXPECT_FALSE(device.directory->open(std::string("a\0b", 3), OpenMode::kCreate).has_value());
}

TEST_P(DeviceContractTest, OpenFilesAreBounded) {
  DeviceOptions options;
  options.files_max = 2;
  const auto device = harness_.open(options);
  const FileId first = make_file(*device.directory, "1", kTestBlock);
  make_file(*device.directory, "2", kTestBlock);

  const auto refused = device.directory->open("3", OpenMode::kCreate);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(device.directory->list()->size(), 2U);

  device.directory->close(first);
  EXPECT_EQ(make_file(*device.directory, "3", kTestBlock), first);
}

TEST_P(DeviceContractTest, ReusedFileIdMeansTheNewFile) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "old", kTestBlock);
  const auto old_bytes = write_random(*device.queue, file, 0, kTestBlock, 1);
  device.directory->close(file);
  ASSERT_EQ(make_file(*device.directory, "new", kTestBlock), file);
  const auto new_bytes = write_random(*device.queue, file, 0, kTestBlock, 2);
  device.directory->close(file);

  ASSERT_EQ(device.directory->open("old", OpenMode::kExisting).value(), file);
  EXPECT_EQ(read_back(*device.queue, file, 0, kTestBlock), old_bytes);
  device.directory->close(file);
  ASSERT_EQ(device.directory->open("new", OpenMode::kExisting).value(), file);
  EXPECT_EQ(read_back(*device.queue, file, 0, kTestBlock), new_bytes);
}

TEST_P(DeviceContractTest, ListAndInfoTellNameLengthAndBlocks) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "b", 3 * kTestBlock);
  make_file(*device.directory, "a", kTestBlock);

  const auto infos = device.directory->list();
  ASSERT_TRUE(infos.has_value());
  ASSERT_EQ(infos->size(), 2U);
  EXPECT_EQ((*infos)[0].name, "a");
  EXPECT_EQ((*infos)[1].name, "b");
  EXPECT_EQ((*infos)[1].bytes, 3 * kTestBlock);
  EXPECT_GE((*infos)[1].allocated_bytes, 3 * kTestBlock);
  EXPECT_TRUE((*infos)[1].is_regular);

  const auto info = device.directory->info(file);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->name, "b");
  EXPECT_EQ(info->bytes, 3 * kTestBlock);
}

TEST_P(DeviceContractTest, AllocateKeepsBytesAndNeverShrinks) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 2 * kTestBlock);
  const auto written = write_random(*device.queue, file, 0, 2 * kTestBlock, 1);

  ASSERT_TRUE(device.directory->allocate(file, 4 * kTestBlock).has_value());
  ASSERT_TRUE(device.directory->allocate(file, kTestBlock).has_value());
  ASSERT_TRUE(device.directory->allocate(file, 0).has_value());

  EXPECT_EQ(device.directory->info(file)->bytes, 4 * kTestBlock);
  const auto read = read_back(*device.queue, file, 0, 4 * kTestBlock);
  ASSERT_EQ(read.size(), 4 * kTestBlock);
  EXPECT_TRUE(std::ranges::equal(std::span{read}.first(2 * kTestBlock), written));
  EXPECT_TRUE(std::ranges::all_of(std::span{read}.subspan(2 * kTestBlock),
                                  [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_P(DeviceContractTest, AMadeFileIsThereWithItsLengthAndNotOpen) {
  const auto device = harness_.open();
  ASSERT_TRUE(device.directory->make("file", 4 * kTestBlock).has_value());
  EXPECT_EQ(device.directory->make("file", kTestBlock).error().sys_errno(), EEXIST);
  const auto file = device.directory->open("file", OpenMode::kExisting);
  ASSERT_TRUE(file.has_value()) << file.error().to_string();
  EXPECT_EQ(device.directory->info(*file)->bytes, 4 * kTestBlock);
  EXPECT_GE(device.directory->info(*file)->allocated_bytes, 4 * kTestBlock);
  const auto written = write_random(*device.queue, *file, 0, 4 * kTestBlock, 1);
  EXPECT_EQ(read_back(*device.queue, *file, 0, 4 * kTestBlock), written);
}

TEST_P(DeviceContractTest, AFileIsFoundByItsName) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 2 * kTestBlock);
  const auto found = device.directory->look_for("file");
  ASSERT_TRUE(found.has_value()) << found.error().to_string();
  EXPECT_EQ(found->bytes, 2 * kTestBlock);
  EXPECT_EQ(found->inode, device.directory->info(file)->inode);
  EXPECT_EQ(device.directory->look_for("other").error().sys_errno(), ENOENT);
}

TEST_P(RealDeviceContractTest, AFileOfTheSameNameIsToldFromTheOneBefore) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", kTestBlock);
  ASSERT_TRUE(device.directory->remove("file").has_value());
  EXPECT_EQ(device.directory->look_for("file").error().sys_errno(), ENOENT);
  make_file(*device.directory, "file", kTestBlock);
  EXPECT_NE(device.directory->look_for("file")->inode, device.directory->info(file)->inode);
}

TEST_P(RealDeviceContractTest, AFileThatCannotBeMadeLeavesNothingBehind) {
  const auto device = harness_.open();
  const std::uint64_t too_many = std::uint64_t{1} << 60;
  EXPECT_FALSE(device.directory->make("file", too_many).has_value());
  EXPECT_TRUE(device.directory->list()->empty());
}

TEST_P(DeviceContractTest, RemovedFileIsGoneFromTheListAndStaysUsableWhileOpen) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", kTestBlock);
  ASSERT_TRUE(device.directory->remove("file").has_value());
  ASSERT_TRUE(device.directory->sync_directory().has_value());

  EXPECT_TRUE(device.directory->list()->empty());
  EXPECT_EQ(device.directory->remove("file").error().sys_errno(), ENOENT);
  const auto written = write_random(*device.queue, file, 0, kTestBlock, 1);
  EXPECT_EQ(read_back(*device.queue, file, 0, kTestBlock), written);
}

TEST_P(DeviceContractTest, SpaceIsPlausible) {
  const auto device = harness_.open();
  const auto space = device.directory->space();
  ASSERT_TRUE(space.has_value());
  EXPECT_GT(space->total_bytes, 0U);
  EXPECT_LE(space->free_bytes, space->total_bytes);
}

TEST_P(DeviceContractTest, FactsTellTheFileSystemAndAlignment) {
  const auto device = harness_.open();
  const DirectoryFacts& facts = device.directory->facts();
  EXPECT_FALSE(facts.file_system.empty());
  EXPECT_TRUE(std::has_single_bit(facts.alignment.memory));
  EXPECT_TRUE(std::has_single_bit(facts.alignment.offset));
  if (!facts.direct) {
    EXPECT_EQ(facts.alignment.memory, 1U);
    EXPECT_EQ(facts.alignment.offset, 1U);
  }
  if (GetParam().direct == DirectIo::kNever && !harness_.is_simulated()) {
    EXPECT_FALSE(facts.direct);
  }
  if (GetParam().direct == DirectIo::kIfPossible) {
    EXPECT_NE(facts.direct, !device.real.degraded_why.empty());  // Never buffered silently.
  }
}

TEST_P(DeviceContractTest, DestructorLetsGoOfBuffersInFlight) {
  DeviceOptions options;
  options.depth = 4;
  options.threads = 4;
  for (int round = 0; round < 20; ++round) {
    auto device = harness_.open(options);
    const std::string name = "file" + std::to_string(round);
    const FileId file = make_file(*device.directory, name, 64 * kTestBlock);
    std::deque<TestTransfer> transfers;
    for (std::size_t i = 0; i < 16; ++i) {
      transfers.emplace_back(i % 2 == 0 ? Operation::kWrite : Operation::kRead, file,
                             i * 4 * kTestBlock, 4 * kTestBlock, 2);
      device.queue->submit(transfers.back().filled(i).request());
    }
    std::vector<Request*> none;
    if (round % 2 == 0) device.queue->reap(none);
    device = {};
    // A read that ended later would be seen by the sanitizer, or here.
    std::vector<std::vector<std::byte>> before;
    for (auto& transfer : transfers)
      before.emplace_back(transfer.bytes().begin(), transfer.bytes().end());
    device = harness_.open(options);
    ASSERT_TRUE(device.directory->remove(name).has_value());
    for (std::size_t i = 0; i < transfers.size(); ++i) {
      ASSERT_TRUE(std::ranges::equal(transfers[i].bytes(), before[i]));
    }
  }
}

TEST_P(DeviceContractTest, AnotherThreadMayTakeOverWhenNothingIsInFlight) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 4 * kTestBlock);
  const auto first = write_random(*device.queue, file, 0, kTestBlock, 1);
  std::vector<std::byte> second;
  std::thread driver{[&] {
    second = write_random(*device.queue, file, kTestBlock, kTestBlock, 2);
    const FileId other = make_file(*device.directory, "other", kTestBlock);
    write_random(*device.queue, other, 0, kTestBlock, 3);
    device.directory->close(other);
    device.queue->wake();
    device.queue->wait(kNever);
  }};
  driver.join();
  EXPECT_EQ(read_back(*device.queue, file, 0, kTestBlock), first);
  EXPECT_EQ(read_back(*device.queue, file, kTestBlock, kTestBlock), second);
}

TEST_P(RealDeviceContractTest, OpenTakesRegularFilesOnly) {
  const auto device = harness_.open();
  make_file(*device.directory, "file", kTestBlock);
  std::filesystem::create_symlink("file", harness_.path() + "/link");
  std::filesystem::create_directory(harness_.path() + "/directory");
  ASSERT_EQ(::mkfifo((harness_.path() + "/fifo").c_str(), 0600), 0);

  EXPECT_EQ(device.directory->open("link", OpenMode::kExisting).error().sys_errno(), ELOOP);
  EXPECT_EQ(device.directory->open("directory", OpenMode::kExisting).error().sys_errno(), EISDIR);
  EXPECT_EQ(device.directory->open("fifo", OpenMode::kExisting).error().sys_errno(), EINVAL);
  const auto infos = device.directory->list().value();
  for (const FileInfo& info : infos) EXPECT_EQ(info.is_regular, info.name == "file");
}

TEST_P(RealDeviceContractTest, AReadOnlyDeviceReadsAndLocksAndChangesNothing) {
  std::vector<std::byte> written;
  {
    const auto device = harness_.open();
    const FileId file = make_file(*device.directory, "file", 4 * kTestBlock);
    written = write_random(*device.queue, file, 0, 4 * kTestBlock, 1);
  }
  DeviceOptions options;
  options.read_only = true;
  const auto device = harness_.open(options);
  const auto file = device.directory->open("file", OpenMode::kExisting);
  ASSERT_TRUE(file.has_value()) << file.error().to_string();
  EXPECT_EQ(read_back(*device.queue, *file, 0, 4 * kTestBlock), written);
  EXPECT_TRUE(device.directory->lock(*file, 0).has_value());
  TestTransfer write{Operation::kWrite, *file, 0, kTestBlock};
  run_one(*device.queue, write.filled(2).request());
  EXPECT_EQ(write.request().sys_errno, EBADF);
  EXPECT_EQ(device.directory->open("other", OpenMode::kCreate).error().sys_errno(), EROFS);
  EXPECT_EQ(device.directory->make("other", kTestBlock).error().sys_errno(), EROFS);
  EXPECT_EQ(device.directory->allocate(*file, 8 * kTestBlock).error().sys_errno(), EROFS);
  EXPECT_EQ(device.directory->remove("file").error().sys_errno(), EROFS);
  EXPECT_EQ(read_back(*device.queue, *file, 0, 4 * kTestBlock), written);
  EXPECT_EQ(device.directory->info(*file)->bytes, 4 * kTestBlock);
}

TEST_P(RealDeviceContractTest, CreatedFilesAreTheOwnersAlone) {
  const auto device = harness_.open();
  make_file(*device.directory, "file", kTestBlock);
  struct stat status{};
  ASSERT_EQ(::stat((harness_.path() + "/file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST_P(RealDeviceContractTest, LockOfAKilledProcessIsReleased) {
  make_file(*harness_.open().directory, "lock", kTestBlock);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto owner = harness_.open();
    const auto file = owner.directory->open("lock", OpenMode::kExisting);
    if (!file || !owner.directory->lock(*file, kNever)) ::_exit(1);
    if (::write(ends[1], "", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char locked = 0;
  ::close(ends[1]);
  const ssize_t told = ::read(ends[0], &locked, 1);
  ::close(ends[0]);
  const auto device = harness_.open();
  const FileId file = device.directory->open("lock", OpenMode::kExisting).value();
  EXPECT_EQ(told, 1);
  EXPECT_FALSE(device.directory->lock(file, 0).has_value());

  ::kill(child, SIGKILL);

  EXPECT_TRUE(device.directory->lock(file, kNever).has_value());
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
}

using DeviceContractDeathTest = DeviceContractTest;

TEST_P(DeviceContractDeathTest, ClosingAFileWithRequestsInFlightIsABug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", kTestBlock);
  TestTransfer read{Operation::kRead, file, 0, kTestBlock};
  EXPECT_DEATH(
      {
        std::filesystem::remove_all(harness_.path());  // No other thread of this process will.
        device.queue->submit(read.request());
        device.directory->close(file);
      },
      "LARDER_CHECK");
}

using RealDeviceContractDeathTest = RealDeviceContractTest;

/// Ends the process with 0 if a write over the limit of file sizes, which the kernel first cuts
/// short and then refuses, ends as it should.
void write_over_the_limit(DeviceHarness& harness) {
  const auto device = harness.open();
  const FileId file = make_file(*device.directory, "file", 8 * kTestBlock);
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{6 * kTestBlock, 6 * kTestBlock};
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(1);
  TestTransfer write{Operation::kWrite, file, 4 * kTestBlock, 4 * kTestBlock, 4};
  run_one(*device.queue, write.filled(1).request());
  if (write.request().sys_errno != EFBIG) ::_exit(2);
  if (write.request().bytes_done != 2 * kTestBlock) ::_exit(3);
  const auto read = read_back(*device.queue, file, 4 * kTestBlock, 2 * kTestBlock);
  std::filesystem::remove_all(harness.path());
  ::_exit(std::memcmp(read.data(), write.bytes().data(), read.size()) == 0 ? 0 : 4);
}

TEST_P(RealDeviceContractDeathTest, WriteThatIsCutShortGoesOnAndReportsTheErrorWithItsPrefix) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(write_over_the_limit(harness_), ::testing::ExitedWithCode(0), "");
}

const BackendKind kKinds[] = {{"uring", DirectIo::kIfPossible},
                              {"uring", DirectIo::kNever},
                              {"threads", DirectIo::kIfPossible},
                              {"threads", DirectIo::kNever},
                              {"simulated", DirectIo::kNever}};

std::string name_of_kind(const ::testing::TestParamInfo<BackendKind>& parameter) {
  const BackendKind& kind = parameter.param;
  return kind.backend + (kind.direct == DirectIo::kIfPossible ? "Direct" : "");
}

const std::span kRealKinds = std::span{kKinds}.first(4);

INSTANTIATE_TEST_SUITE_P(Kinds, DeviceContractTest, ::testing::ValuesIn(kKinds), name_of_kind);
INSTANTIATE_TEST_SUITE_P(Kinds, DeviceContractDeathTest, ::testing::ValuesIn(kKinds), name_of_kind);
INSTANTIATE_TEST_SUITE_P(Kinds, RealDeviceContractTest,
                         ::testing::ValuesIn(kRealKinds.begin(), kRealKinds.end()), name_of_kind);
INSTANTIATE_TEST_SUITE_P(Kinds, RealDeviceContractDeathTest,
                         ::testing::ValuesIn(kRealKinds.begin(), kRealKinds.end()), name_of_kind);

}  // namespace
}  // namespace larder::io
