// The fs connector on a file system with every kind of error.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "larder/connectors/fs/fs_test_support.h"
#include "tests/support/no_descriptors.h"
#include "tests/support/seccomp.h"

namespace larder::fs {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

#define LARDER_NEEDS_MOUNT(disk) \
  if (!(disk).is_mounted()) GTEST_SKIP() << "SKIPPED (needs root, to mount a tmpfs)"

TEST(FsTroubleTest, AFullDiskIsARefusedStoreThatLeavesNothing) {
  const SmallDisk disk{"4m"};
  LARDER_NEEDS_MOUNT(disk);
  OpenFs fs{disk.path()};
  int stored = 0;
  ErrorCode refused = ErrorCode::kNone;
  for (int i = 0; i < 8; ++i) {
    const auto result = fs.client->set("key-" + std::to_string(i),
                                       value_of(static_cast<std::uint64_t>(i), 1U << 20));
    if (result) {
      ++stored;
    } else {
      refused = result.error().code();
      EXPECT_EQ(result.error().sys_errno(), ENOSPC);
    }
  }
  EXPECT_GE(stored, 3);
  ASSERT_LT(stored, 8);
  EXPECT_EQ(refused, ErrorCode::kResourceExhausted);
  EXPECT_EQ(names_in(disk.path()).size(), static_cast<std::size_t>(stored))
      << "a temporary file stayed";
  EXPECT_EQ(fs.connector->report().health, Health::kDegraded);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(
        fs.has("key-" + std::to_string(i), value_of(static_cast<std::uint64_t>(i), 1U << 20)));
  }
  EXPECT_TRUE(*fs.client->remove("key-0"));
  // The kernel may keep the file of the read above for a moment, and with it the room.
  EXPECT_TRUE(
      eventually([&] { return fs.client->set("key-9", value_of(9, 1U << 20)).has_value(); }));
}

TEST(FsTroubleTest, WithACapacityAFullDiskMakesOldFilesGo) {
  const SmallDisk disk{"4m"};
  LARDER_NEEDS_MOUNT(disk);
  OpenFs fs{disk.path(), "capacity=100MiB"};
  write_file(disk.path() + "/others", value_of(1, 1U << 20));
  for (int i = 0; i < 8; ++i) {
    fs.set("key-" + std::to_string(i), value_of(static_cast<std::uint64_t>(i), 1U << 20));
  }
  EXPECT_TRUE(fs.has("key-7", value_of(7, 1U << 20)));
  EXPECT_TRUE(fs.is_miss("key-0"));
  EXPECT_EQ(content_of(disk.path() + "/others"), value_of(1, 1U << 20));
}

/// Takes the errors of a test file system, at one moment.
std::uint64_t bytes_taken(const std::string& path) {
  struct statvfs status{};
  EXPECT_EQ(::statvfs(path.c_str(), &status), 0);
  return std::uint64_t{status.f_blocks - status.f_bfree} * status.f_frsize;
}

TEST(FsTroubleTest, ExclusiveAtNoMomentIsMoreTakenThanTheCapacity) {
  const SmallDisk disk{"64m"};
  LARDER_NEEDS_MOUNT(disk);
  constexpr std::uint64_t kCapacity = std::uint64_t{4} << 20;
  const std::uint64_t before = bytes_taken(disk.path());
  OpenFs fs{disk.path(), "capacity=4MiB&exclusive=yes&num_workers=8"};
  std::atomic<bool> is_ending = false;
  std::atomic<std::uint64_t> most = 0;
  std::thread watching{[&] {
    while (!is_ending) most = std::max(most.load(), bytes_taken(disk.path()) - before);
  }};
  constexpr std::size_t kItems = 16;
  std::vector<Bytes> values;
  for (std::size_t i = 0; i < kItems; ++i) values.push_back(value_of(i, 100'000 + 999 * i));
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> keys;
    std::vector<Slice> slices;
    std::vector<Item> items(kItems);
    for (std::size_t i = 0; i < kItems; ++i) {
      keys.push_back("key-" + std::to_string(round) + "-" + std::to_string(i));
      slices.push_back({values[i].data(), values[i].size()});
    }
    for (std::size_t i = 0; i < kItems; ++i) {
      items[i].key = std::as_bytes(std::span{keys[i]});
      items[i].value = {&slices[i], 1};
    }
    Batch batch;
    batch.items = items;
    batch.op = Op::kSet;
    ASSERT_TRUE(fs.client->run(batch).has_value());
    for (const Item& item : items) EXPECT_EQ(item.outcome, Outcome::kDone);
  }
  is_ending = true;
  watching.join();
  EXPECT_LE(most.load(), kCapacity);
  EXPECT_GT(most.load(), kCapacity / 2);
}

TEST(FsTroubleTest, FreeSpaceIsLeft) {
  const SmallDisk disk{"8m"};
  LARDER_NEEDS_MOUNT(disk);
  Registry registry;
  registry.add(connector_type());
  auto opened = registry.open("fs:" + disk.path() + "?capacity=100MiB&min_free=4MiB");
  ASSERT_TRUE(opened.has_value());
  BlockingClient client{**opened};
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(client.set("key-" + std::to_string(i), value_of(1, 512U << 10)).has_value());
    EXPECT_GE(std::filesystem::space(disk.path()).available, 4U << 20);
  }
  EXPECT_TRUE((*opened)->stop(kNever).has_value());
}

TEST(FsTroubleTest, AReadOnlyFileSystemServesWhatItHas) {
  SmallDisk disk{"4m"};
  LARDER_NEEDS_MOUNT(disk);
  OpenFs fs{disk.path()};
  fs.set("key", value_of(1));
  disk.remount(true);
  EXPECT_TRUE(fs.has("key", value_of(1)));
  const auto stored = fs.client->set("other", value_of(2));
  ASSERT_FALSE(stored.has_value());
  EXPECT_EQ(stored.error().sys_errno(), EROFS);
  EXPECT_FALSE(fs.client->remove("key").has_value());
  EXPECT_TRUE(fs.has("key", value_of(1)));
  disk.remount(false);
  fs.set("other", value_of(2));
  EXPECT_TRUE(*fs.client->remove("key"));
}

TEST(FsTroubleTest, ARemovedDirectoryIsMadeAgain) {
  const testing::TemporaryDirectory directory;
  const std::string base = directory.path() + "/kv";
  OpenFs fs{base, "relative_tmp_dir=tmp"};
  fs.set("key", value_of(1));
  for (int round = 0; round < 3; ++round) {
    std::filesystem::remove_all(base);
    EXPECT_TRUE(fs.is_miss("key"));
    fs.set("key", value_of(2));
    EXPECT_TRUE(fs.has("key", value_of(2)));
    EXPECT_TRUE(std::filesystem::exists(base + "/" + file_name_of("key").text));
  }
  std::filesystem::remove_all(base + "/tmp");
  fs.set("other", value_of(3));
  EXPECT_GE(fs.counter("directory_returns_total"), 4U);
}

TEST(FsTroubleTest, AReaderFindsADirectoryThatCameBack) {
  const testing::TemporaryDirectory directory;
  const std::string base = directory.path() + "/kv";
  OpenFs fs{base};
  std::filesystem::rename(base, directory.path() + "/away");
  EXPECT_TRUE(eventually([&] {
    EXPECT_TRUE(fs.is_miss("key"));
    return fs.connector->report().health == Health::kDown;
  }));
  std::filesystem::create_directory(base);
  write_file(base + "/" + file_name_of("key").text, value_of(1));
  EXPECT_TRUE(eventually([&] { return fs.has("key", value_of(1)); }));
  EXPECT_EQ(fs.connector->report().health, Health::kHealthy);
}

TEST(FsTroubleTest, AnUnmountedDiskIsNotWrittenBeside) {
  const testing::TemporaryDirectory directory;
  const std::string base = directory.path() + "/disk";
  std::filesystem::create_directory(base);
  if (::mount("larder-test", base.c_str(), "tmpfs", 0, "size=4m") != 0) {
    GTEST_SKIP() << "SKIPPED (needs root, to mount a tmpfs)";
  }
  OpenFs fs{base + "/kv"};
  fs.set("key", value_of(1));
  ASSERT_EQ(::umount2(base.c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(eventually([&] {
    const auto size = fs.client->exists("another");
    return size && fs.connector->report().health == Health::kDown;
  }));
  EXPECT_TRUE(names_in(base).empty()) << "files were written below the mount point";
}

/// Runs `body` in its own process; returns its exit status.
int in_child(const std::function<bool()>& body) {
  const ::pid_t child = ::fork();
  if (child == 0) ::_exit(body() && !::testing::Test::HasFailure() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// As an unprivileged user.
int as_nobody(const std::function<bool()>& body) {
  return in_child([&] {
    constexpr ::uid_t kNobody = 65534;
    if (::setresgid(kNobody, kNobody, kNobody) != 0 ||
        ::setresuid(kNobody, kNobody, kNobody) != 0) {
      return false;
    }
    return body();
  });
}

/// Whether stores of all kinds keep their promises, and leave no temporary file.
void expect_stores_work(const std::string& path) {
  OpenFs fs{path, "relative_tmp_dir=tmp"};
  fs.set("key", value_of(1));
  fs.set("key", value_of(2), SetMode::kIfAbsent, true);
  EXPECT_TRUE(fs.has("key", value_of(1)));
  fs.set("key", value_of(3), SetMode::kReplace);
  EXPECT_TRUE(fs.has("key", value_of(3)));
  write_file(path + "/" + file_name_of("empty").text, {});
  fs.set("empty", value_of(4));
  EXPECT_TRUE(fs.has("empty", value_of(4)));
  EXPECT_TRUE(*fs.client->remove("key"));
  EXPECT_TRUE(*fs.client->remove("empty"));
  EXPECT_EQ(names_in(path), std::vector<std::string>{"tmp"});
  EXPECT_TRUE(names_in(path + "/tmp").empty());
}

TEST(FsTroubleTest, WhereNoRenameKeepsWhatIsThereALinkDoes) {
  // As NFS reports it.
  const testing::TemporaryDirectory directory;
  EXPECT_EQ(in_child([&] {
              if (!testing::forbid_call(SYS_renameat2, EINVAL)) return false;
              expect_stores_work(directory.path());
              return true;
            }),
            0);
}

TEST(FsTroubleTest, WhereThereAreNoLinksEitherAnOrdinaryRenameDoes) {
  const testing::TemporaryDirectory directory;
  EXPECT_EQ(in_child([&] {
              if (!testing::forbid_call(SYS_renameat2, EINVAL) ||
                  !testing::forbid_call(SYS_linkat, EPERM)) {
                return false;
              }
              expect_stores_work(directory.path());
              return true;
            }),
            0);
}

TEST(FsTroubleTest, WithoutPermissionKeysFailByThemselves) {
  if (::getuid() != 0) GTEST_SKIP() << "SKIPPED (needs root, to become another user)";
  const testing::TemporaryDirectory directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms{0755});
  const std::string base = directory.path() + "/kv";
  std::filesystem::create_directory(base);
  write_file(base + "/" + file_name_of("readable").text, value_of(1));
  write_file(base + "/" + file_name_of("secret").text, value_of(2));
  std::filesystem::permissions(base + "/" + file_name_of("readable").text,
                               std::filesystem::perms{0644});
  std::filesystem::permissions(base + "/" + file_name_of("secret").text,
                               std::filesystem::perms{0600});
  std::filesystem::permissions(base, std::filesystem::perms{0555});
  EXPECT_EQ(as_nobody([&] {
              OpenFs fs{base};
              EXPECT_TRUE(fs.has("readable", value_of(1)));
              EXPECT_EQ(fs.client->get("secret").error().sys_errno(), EACCES);
              EXPECT_TRUE(fs.is_miss("secret"));
              EXPECT_EQ(fs.client->set("new", value_of(3)).error().sys_errno(), EACCES);
              EXPECT_EQ(fs.client->remove("readable").error().sys_errno(), EACCES);
              EXPECT_EQ(fs.connector->report().health, Health::kDegraded);
              return true;
            }),
            0);
  std::filesystem::permissions(base, std::filesystem::perms{0711});
  EXPECT_EQ(as_nobody([&] {
              Registry registry;
              registry.add(connector_type());
              const auto opened = registry.open("fs:" + base);
              return !opened && opened.error().text.find(base) != std::string::npos;
            }),
            0);
}

TEST(FsTroubleTest, WithoutDescriptorsKeysFailForThatTimeAndNothingIsEvicted) {
  constexpr std::uint64_t kKeys = 15;
  // With the first two every store has to evict, and a flat directory evicts without a descriptor.
  for (const char* const parameters :
       {"capacity=128KiB", "capacity=128KiB&staged=yes", "capacity=1MiB",
        "capacity=128KiB&sharded_dirs=yes", "capacity=128KiB&sharded_dirs=yes&staged=yes"}) {
    const testing::TemporaryDirectory directory;
    EXPECT_EQ(in_child([&] {
                OpenFs fs{directory.path() + "/kv",
                          std::string{"miss_after_failure=1ms&"} + parameters};
                for (std::uint64_t i = 0; i < kKeys; ++i) {
                  fs.set("key-" + std::to_string(i), value_of(i, 6000));
                }
                Bytes buffer(6000);
                const std::uint64_t evicted = fs.counter("evictions_total");
                const std::uint64_t keys = fs.connector->report().keys;
                {
                  const testing::NoDescriptors lack;
                  for (int i = 0; i < 40; ++i) {
                    const auto stored = fs.client->set("new", value_of(99, 6000));
                    EXPECT_TRUE(!stored && stored.error().is_retryable());
                    const auto value = fs.client->get_into("key-14", buffer);
                    EXPECT_TRUE(!value || !*value) << "a miss is what comes after the failure";
                  }
                  EXPECT_EQ(fs.connector->report().health, Health::kDegraded);
                }
                EXPECT_EQ(fs.connector->report().keys, keys);
                EXPECT_EQ(fs.counter("evictions_total"), evicted);
                EXPECT_TRUE(eventually([&] { return fs.has("key-14", value_of(14, 6000)); }));
                fs.set("new", value_of(99, 6000));
                EXPECT_TRUE(fs.has("new", value_of(99, 6000)));
                return true;
              }),
              0)
        << parameters;
  }
}

TEST(FsTroubleTest, WithoutDescriptorsAListingFailsAndThenGoesOnWithoutLosingAKey) {
  constexpr std::uint64_t kKeys = 40;
  const testing::TemporaryDirectory directory;
  EXPECT_EQ(in_child([&] {
              OpenFs fs{directory.path() + "/kv", "sharded_dirs=yes"};
              std::set<std::string> stored;
              for (std::uint64_t i = 0; i < kKeys; ++i) {
                // Some of them in files with a key file.
                const std::string key =
                    "key-" + std::to_string(i) + std::string(300 * (i % 2), 'x');
                fs.set(key, value_of(i, 100));
                stored.insert(key);
              }
              std::set<std::string> listed;
              bool is_done = false;
              for (ScanCursor cursor; !is_done;) {
                {
                  const testing::NoDescriptors lack;
                  if (cursor.words[0] != 0) {
                    const auto refused = fs.connector->scan(cursor, 3);
                    EXPECT_FALSE(refused.has_value());
                    if (refused) return false;
                    EXPECT_TRUE(refused.error().is_retryable());
                  }
                }
                const auto page = fs.connector->scan(cursor, 3);
                if (!page) return false;
                for (const auto& entry : page->entries) {
                  EXPECT_TRUE(listed.insert(entry.key).second) << entry.key;
                }
                is_done = page->done;
                cursor = page->next;
              }
              EXPECT_EQ(listed, stored);
              return true;
            }),
            0);
}

TEST(FsTroubleTest, StagedWithoutAThreadToStartKeysFailAndAreThereAgainAfterwards) {
  if (::getuid() != 0) GTEST_SKIP() << "SKIPPED (needs root, to become another user)";
  const testing::TemporaryDirectory directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms{0777});
  EXPECT_EQ(as_nobody([&] {
              const std::string base = directory.path() + "/kv";
              std::filesystem::create_directory(base);
              write_file(base + "/" + file_name_of("key").text, value_of(1));
              OpenFs fs{base, "staged=yes&miss_after_failure=1ms"};
              rlimit limit{};
              if (::getrlimit(RLIMIT_NPROC, &limit) != 0) return false;
              const rlimit none{.rlim_cur = 1, .rlim_max = limit.rlim_max};
              if (::setrlimit(RLIMIT_NPROC, &none) != 0) return false;
              const auto size = fs.client->exists("key");
              EXPECT_FALSE(size.has_value());
              const auto value = fs.client->get("key");
              EXPECT_FALSE(value.has_value());
              const auto stored = fs.client->set("other", value_of(2));
              EXPECT_FALSE(stored.has_value());
              if (size || value || stored) return false;
              for (const Error& error : {size.error(), value.error(), stored.error()}) {
                EXPECT_TRUE(error.is_retryable()) << error.to_string();
                EXPECT_EQ(error.sys_errno(), EAGAIN) << error.to_string();
              }
              if (::setrlimit(RLIMIT_NPROC, &limit) != 0) return false;
              EXPECT_TRUE(eventually([&] { return fs.has("key", value_of(1)); }));
              fs.set("other", value_of(2));
              return true;
            }),
            0);
}

// ---- A file system that does not answer -------------------------------------------------------

TEST(FsTroubleTest, StagedEveryOperationEndsAtItsDeadline) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path(), "stall=200ms"};
  EXPECT_EQ(property_of(fs.connector->report(), "staged"), "yes") << "FUSE counts as a network";
  fs.set("key", value_of(1));
  disk->stall(testing::kEverything);
  BlockingClient hasty{*fs.connector, kSecondNs / 10};
  Bytes buffer(10'000);
  const auto late = hasty.get_into("key", buffer);
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_FALSE(hasty.set("other", value_of(2)).has_value());
  EXPECT_FALSE(hasty.exists("other").has_value());
  // Once all threads of a kind hang, it is known that there is no answer.
  EXPECT_TRUE(eventually([&] {
    const auto size = hasty.exists("more");
    return !size && size.error().code() == ErrorCode::kUnavailable;
  }));
  EXPECT_EQ(fs.connector->report().health, Health::kDown);
  disk->heal();
  EXPECT_TRUE(eventually([&] {
    const auto stored = fs.client->set("key", value_of(3), SetMode::kReplace);
    return stored && fs.has("key", value_of(3));
  }));
  EXPECT_TRUE(eventually([&] { return fs.connector->report().health != Health::kDown; }));
}

TEST(FsTroubleTest, StagedAStopDoesNotWaitForAHungFileSystem) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path(), "stall=200ms"};
  disk->stall(testing::kEverything);
  const std::string key = "key";
  Item item;
  item.key = std::as_bytes(std::span{key});
  Batch batch;
  batch.items = {&item, 1};
  batch.op = Op::kExists;
  ASSERT_TRUE(fs.connector->submit(batch).has_value());
  EXPECT_TRUE(fs.connector->stop(RealClock::instance().now_ns() + 30 * kSecondNs).has_value());
  Batch* done = nullptr;
  EXPECT_EQ(fs.connector->reap({&done, 1}), 1U);
  EXPECT_EQ(item.outcome, Outcome::kFailed);
  disk->heal();
}

TEST(FsTroubleTest, NotStagedWhatIsQueuedIsAnsweredOnceEveryThreadHangs) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path(), "stall=100ms&staged=no&num_workers=2"};
  disk->stall(testing::kEverything);
  std::vector<std::string> keys;
  for (int i = 0; i < 6; ++i) keys.push_back("key-" + std::to_string(i));
  std::vector<Item> items(keys.size());
  std::vector<Batch> batches(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    items[i].key = std::as_bytes(std::span{keys[i]});
    batches[i].items = {&items[i], 1};
    batches[i].op = Op::kExists;
    ASSERT_TRUE(fs.connector->submit(batches[i]).has_value());
  }
  std::vector<Batch*> back;
  const auto reap_until = [&](std::size_t count) {
    return eventually([&] {
      Batch* done = nullptr;
      while (fs.connector->reap({&done, 1}) == 1) back.push_back(done);
      return back.size() >= count;
    });
  };
  // Two hang in the kernel; the others come back without an answer.
  ASSERT_TRUE(reap_until(4));
  EXPECT_EQ(back.size(), 4U);
  for (const Batch* batch : back) {
    EXPECT_EQ(batch->items[0].outcome, Outcome::kMiss);
    EXPECT_EQ(batch->items[0].miss_reason, MissReason::kDown);
  }
  EXPECT_EQ(fs.connector->report().health, Health::kDown);
  disk->heal();
  ASSERT_TRUE(reap_until(6));
  EXPECT_TRUE(eventually([&] { return fs.is_miss("key"); }));
}

TEST(FsTroubleTest, AStoreThatCannotBeMadeDurableFailsAndLeavesNothing) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path(), "staged=no&fsync=file"};
  fs.set("key", value_of(1));
  disk->fail(testing::kSyncs, EIO);
  EXPECT_EQ(fs.client->set("other", value_of(2)).error().sys_errno(), EIO);
  EXPECT_TRUE(fs.is_miss("other"));
  EXPECT_GT(disk->faults(), 0U);
  EXPECT_EQ(names_in(disk->path()), std::vector<std::string>{file_name_of("key").text});
  disk->heal();
  fs.set("other", value_of(2));
}

TEST(FsTroubleTest, ChecksumsWhereTheFileSystemHasNoAttributesAreAnErrorAtOpening) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  Registry registry;
  registry.add(connector_type());
  const auto opened = registry.open("fs:" + disk->path() + "?checksum=xattr");
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().text.find("checksum=xattr"), std::string::npos) << opened.error().text;
  EXPECT_TRUE(names_in(disk->path()).empty());
}

TEST(FsTroubleTest, ADiskThatFailsMostStoresIsDegradedThoughTheLastOnesWorked) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path()};
  std::uint64_t failed = 0;
  for (int i = 0; i < 200; ++i) {
    i % 25 < 19 ? disk->fail(testing::kCreates, EIO) : disk->heal();
    failed += fs.client->set("key" + std::to_string(i), value_of(1), SetMode::kIfAbsent) ? 0U : 1U;
  }
  ASSERT_EQ(failed, 152U);
  const Report report = fs.connector->report();
  EXPECT_EQ(report.health, Health::kDegraded);
  EXPECT_FALSE(report.is_failing());
  const auto& stores = report.recent(BatchClass::kStore);
  EXPECT_EQ(stores.failed, 152U);
  EXPECT_EQ(stores.succeeded, 48U);
  EXPECT_TRUE(std::ranges::any_of(report.reasons, [](const std::string& reason) {
    return reason.find("152") != std::string::npos && reason.find("200") != std::string::npos;
  }));
}

TEST(FsTroubleTest, ADiskThatKeepsNothingIsFailingThoughLookupsAndLoadsAnswer) {
  std::string skipped;
  const std::pair<std::uint32_t, int> faults[] = {
      {testing::kCreates, ENOSPC}, {testing::kChanges, EROFS}, {testing::kWrites, EIO}};
  for (const auto& [operations, sys_errno] : faults) {
    const auto disk = faulty(skipped);
    if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
    OpenFs fs{disk->path()};
    EXPECT_FALSE(fs.connector->report().is_failing()) << "nothing was asked for";
    disk->fail(operations, sys_errno);
    for (int i = 0; i < 200; ++i) {
      const std::string key = "key" + std::to_string(i);
      EXPECT_TRUE(fs.is_miss(key));
      EXPECT_FALSE(fs.client->set(key, value_of(1), SetMode::kIfAbsent).has_value());
    }
    EXPECT_TRUE(fs.connector->report().is_failing()) << sys_errno;
    EXPECT_NE(fs.connector->report().health, Health::kHealthy) << sys_errno;
    disk->heal();
    fs.set("key", value_of(1));
    EXPECT_FALSE(fs.connector->report().is_failing()) << "one value is there";
  }
}

TEST(FsTroubleTest, AReadErrorIsAFailureAndThenAMiss) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path(), "staged=no&use_odirect=yes"};
  fs.set("key", value_of(1));
  fs.set("other", value_of(2));
  disk->fail(testing::kOpens, EIO);
  const auto found = fs.client->get_into("key", *std::make_unique<Bytes>(10'000));
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code(), ErrorCode::kIo);
  EXPECT_EQ(fs.connector->report().health, Health::kDegraded);
  disk->heal();
  EXPECT_TRUE(fs.is_miss("key"));
  EXPECT_TRUE(fs.has("other", value_of(2)));
  fs.set("key", value_of(3));
  EXPECT_TRUE(fs.has("key", value_of(3)));
}

}  // namespace
}  // namespace larder::fs
