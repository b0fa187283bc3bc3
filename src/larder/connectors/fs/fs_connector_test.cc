#include "larder/connectors/fs/fs_connector.h"

#include <gtest/gtest.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <set>

#include "larder/base/logging.h"
#include "larder/connectors/fs/fs_test_support.h"
#include "tests/support/forked_child.h"

namespace larder::fs {
namespace {

class FsConnectorTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name = kFile) const { return directory.path() + "/" + name; }
  mode_t mode_of(const std::string& name) const {
    struct stat status{};
    EXPECT_EQ(::lstat(path(name).c_str(), &status), 0) << name;
    return status.st_mode & 07777;
  }

  testing::TemporaryDirectory directory;
};

// ---- LMCache's format
// ------------------------------------------------------------------------------

TEST_F(FsConnectorTest, AValueIsOneFileOfItsBytesUnderLmcachesName) {
  OpenFs fs{directory.path()};
  fs.set(kKey, value_of(1));
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{kFile});
  EXPECT_EQ(content_of(path()), value_of(1));
  EXPECT_EQ(mode_of(kFile), 0600U);
}

TEST_F(FsConnectorTest, AFileThatLmcacheWroteIsAHit) {
  write_file(path(), value_of(1));
  OpenFs fs{directory.path()};
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
  EXPECT_EQ(fs.connector->report().keys, 1U);
  fs.set(kKey, value_of(1), SetMode::kIfAbsent, true);
}

TEST_F(FsConnectorTest, ALegacyNameIsReadRemovedAndNeverWritten) {
  const std::string legacy = "org-SEP-model@0x02010100@00010203aabb.data";
  write_file(path(legacy), value_of(1));
  OpenFs fs{directory.path()};
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
  EXPECT_EQ(fs.connector->scan({}, 10)->entries.at(0).key, kKey);
  fs.set(kKey, value_of(1), SetMode::kIfAbsent, true);
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{legacy});
  // The present name comes first once it is there.
  fs.set(kKey, value_of(2), SetMode::kReplace);
  EXPECT_TRUE(fs.has(kKey, value_of(2)));
  EXPECT_EQ(content_of(path(legacy)), value_of(1));
  EXPECT_TRUE(*fs.client->remove(kKey));
  EXPECT_TRUE(fs.is_miss(kKey));
  EXPECT_TRUE(names_in(directory.path()).empty());
  EXPECT_GE(fs.counter("legacy_hits_total"), 3U);
}

TEST_F(FsConnectorTest, WhereThereAreNoLegacyNamesNoneAreLookedFor) {
  OpenFs fs{directory.path()};
  const std::string legacy = "org-SEP-model@0x02010100@00010203aabb.data";
  write_file(path(legacy), value_of(1));
  EXPECT_TRUE(fs.is_miss(kKey));
  fs.close();
  OpenFs again{directory.path()};
  EXPECT_TRUE(again.has(kKey, value_of(1)));
}

TEST_F(FsConnectorTest, KeysThatLmcacheWouldConfuseAreKeptApart) {
  OpenFs fs{directory.path()};
  const std::vector<std::string> keys{"meta/llama@00000001@0@ff",
                                      "meta-SEP-llama@00000001@0@ff",
                                      "m@00000001@0@ff",
                                      "m@00000001@0@ff@",
                                      "m/../x@00000001@0@ff",
                                      std::string(900, 'x') + "@1@0@ff",
                                      std::string(900, 'x') + "@1@0@fe"};
  for (std::size_t i = 0; i < keys.size(); ++i) fs.set(keys[i], value_of(i));
  for (std::size_t i = 0; i < keys.size(); ++i)
    EXPECT_TRUE(fs.has(keys[i], value_of(i))) << keys[i];
  std::set<std::string> scanned;
  const auto page = fs.connector->scan({}, 100);
  ASSERT_TRUE(page.has_value());
  for (const auto& entry : page->entries) scanned.insert(entry.key);
  EXPECT_EQ(scanned, (std::set<std::string>{keys.begin(), keys.end()}));
  for (const std::string& key : keys) EXPECT_TRUE(*fs.client->remove(key)) << key;
  EXPECT_TRUE(names_in(directory.path()).empty()) << "a key file stayed";
}

TEST_F(FsConnectorTest, TemporaryFilesGoToTheFolderThatWasAskedFor) {
  OpenFs fs{directory.path(), "relative_tmp_dir=tmp/new"};
  fs.set(kKey, value_of(1));
  EXPECT_EQ(names_in(directory.path()), (std::vector<std::string>{kFile, "tmp"}));
  EXPECT_EQ(mode_of("tmp/new"), 0700U);
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
}

TEST_F(FsConnectorTest, ShardsAreLmcachesLayout) {
  OpenFs fs{directory.path(), "sharded_dirs=yes"};
  fs.set(kKey, value_of(1));
  fs.set("another key", value_of(2));
  EXPECT_EQ(content_of(path("00/01/" + kFile)), value_of(1));
  EXPECT_EQ(mode_of("00"), 0700U);
  EXPECT_EQ(fs.connector->scan({}, 10)->entries.size(), 2U);
  fs.close();
  OpenFs again{directory.path(), "sharded_dirs=yes"};
  EXPECT_TRUE(again.has(kKey, value_of(1)));
  EXPECT_TRUE(again.has("another key", value_of(2)));
  EXPECT_EQ(again.connector->report().keys, 2U);
}

TEST_F(FsConnectorTest, ModeIsThatOfFilesAndFolders) {
  const mode_t before = ::umask(077);
  OpenFs fs{directory.path() + "/made", "mode=0664&sharded_dirs=yes"};
  fs.set(kKey, value_of(1));
  ::umask(before);
  EXPECT_EQ(mode_of("made/00/01/" + kFile), 0664U);
  EXPECT_EQ(mode_of("made/00"), 0775U);
  EXPECT_EQ(mode_of("made/00/01"), 0775U);
}

TEST_F(FsConnectorTest, FoldersAreTheOwnersAloneWhateverTheUmaskIs) {
  for (const mode_t umask : {mode_t{0}, mode_t{077}}) {
    const std::string made = "made" + std::to_string(umask);
    std::filesystem::create_directory(path(made));
    const mode_t before = ::umask(umask);
    OpenFs fs{path(made), "sharded_dirs=yes&relative_tmp_dir=a/b"};
    fs.set(kKey, value_of(1));
    ::umask(before);
    for (const char* const folder : {"/00", "/00/01", "/a", "/a/b"}) {
      EXPECT_EQ(mode_of(made + folder), 0700U) << folder << " under " << umask;
    }
    EXPECT_EQ(mode_of(made + "/00/01/" + kFile), 0600U);
  }
}

TEST_F(FsConnectorTest, WhatAnOpenMadeIsForItsOwnerAloneAndInTheReport) {
  const mode_t before = ::umask(0);
  const OpenFs fs{directory.path() + "/a/kv"};
  ::umask(before);
  EXPECT_EQ(mode_of("a"), 0700U);
  EXPECT_EQ(mode_of("a/kv"), 0700U);
  const auto properties = fs.connector->report().properties;
  const std::pair<std::string, std::string> made{"made", directory.path() + "/a/kv"};
  EXPECT_NE(std::ranges::find(properties, made), properties.end());
}

TEST_F(FsConnectorTest, ARefusedSpecLeavesNoFolderBehindAndCreateNoMakesNone) {
  Registry registry;
  registry.add(connector_type());
  const std::string base = directory.path() + "/a/kv";
  for (const char* const wrong : {"relative_tmp_dir=/x", "lanes=load:0", "create=no"}) {
    const auto opened = registry.open("fs:" + base + "?" + wrong);
    ASSERT_FALSE(opened.has_value()) << wrong;
    EXPECT_FALSE(std::filesystem::exists(directory.path() + "/a")) << wrong;
  }
  EXPECT_NE(registry.open("fs:" + base + "?create=no").error().text.find("and create=no"),
            std::string::npos);
}

TEST_F(FsConnectorTest, ACapacityBelowWhatIsThereOrBeyondTheDiskIsSaid) {
  {
    OpenFs fs{directory.path()};
    for (int i = 0; i < 20; ++i) fs.set("key" + std::to_string(i), value_of(1, 100'000));
  }
  const auto reasons = [](OpenFs& fs) {
    std::string text;
    for (const std::string& reason : fs.connector->report().reasons) text += reason + "\n";
    return text;
  };
  // Both in the report and in a line of the log at the default level.
  const auto expect_is_said = [&](const char* parameters, const std::string& said) {
    set_log_level(LogLevel::kWarning);
    ::testing::internal::CaptureStderr();
    OpenFs fs{directory.path(), parameters};
    EXPECT_TRUE(eventually([&] { return reasons(fs).find(said) != std::string::npos; }))
        << reasons(fs);
    const std::string lines = ::testing::internal::GetCapturedStderr();
    set_log_level(LogLevel::kError);
    EXPECT_NE(lines.find("W [fs] " + directory.path() + ": " + said), std::string::npos) << lines;
    EXPECT_EQ(fs.connector->report().health, Health::kHealthy);
  };
  expect_is_said("capacity=1MiB", "capacity=1MiB is less than what the directory held: ");
  expect_is_said("capacity=8EiB", "capacity=8EiB is more than the whole file system");
}

// ---- What is found instead of a value
// --------------------------------------------------------------

TEST_F(FsConnectorTest, AFileThatWasCutShortOrGrewTellsItsSizeAndAReplacementRepairsIt) {
  for (const std::size_t wrong : {1U, 4096U, 9'999U, 10'001U, 50'000U}) {
    write_file(path(), value_of(1, wrong));
    OpenFs fs{directory.path()};
    Bytes buffer(10'000);
    const auto found = fs.client->get_into(kKey, buffer);
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().code(), ErrorCode::kSizeMismatch);
    EXPECT_EQ(fs.counter("files_wrong_size_total"), 1U);
    EXPECT_EQ(fs.client->exists(kKey).value(), std::optional<std::uint64_t>{wrong});
    EXPECT_TRUE(fs.client->set(kKey, value_of(2), SetMode::kReplace).has_value());
    EXPECT_TRUE(fs.has(kKey, value_of(2))) << wrong;
  }
}

TEST_F(FsConnectorTest, AnEmptyFileIsReplacedAtOnce) {
  write_file(path(), {});
  OpenFs fs{directory.path()};
  fs.set(kKey, value_of(2));
  EXPECT_TRUE(fs.has(kKey, value_of(2)));
  EXPECT_EQ(fs.counter("files_repaired_total"), 1U);
}

TEST_F(FsConnectorTest, ASymbolicLinkIsNotFollowedAndIsReplaced) {
  const testing::TemporaryDirectory elsewhere;
  const std::string secret = elsewhere.path() + "/secret";
  write_file(secret, value_of(9));
  for (const SetMode mode : {SetMode::kIfAbsent, SetMode::kReplace}) {
    std::filesystem::remove(path());
    std::filesystem::create_symlink(secret, path());
    OpenFs fs{directory.path()};
    EXPECT_TRUE(fs.is_miss(kKey));
    EXPECT_FALSE(*fs.client->touch(kKey));
    EXPECT_FALSE(*fs.client->remove(kKey));
    EXPECT_GE(fs.counter("files_not_regular_total"), 2U);
    EXPECT_TRUE(fs.connector->scan({}, 10)->entries.empty());
    fs.set(kKey, value_of(2), mode);
    EXPECT_TRUE(fs.has(kKey, value_of(2)));
    EXPECT_EQ(content_of(secret), value_of(9));
    EXPECT_FALSE(std::filesystem::is_symlink(path()));
  }
}

TEST_F(FsConnectorTest, AnEmptyDirectoryMakesWayAndAFullOneFailsItsKeyAlone) {
  for (const SetMode mode : {SetMode::kIfAbsent, SetMode::kReplace}) {
    std::filesystem::remove_all(path());
    std::filesystem::create_directory(path());
    OpenFs fs{directory.path()};
    EXPECT_TRUE(fs.is_miss(kKey));
    EXPECT_FALSE(*fs.client->remove(kKey));
    fs.set(kKey, value_of(2), mode);
    EXPECT_TRUE(fs.has(kKey, value_of(2)));

    std::filesystem::remove(path());
    std::filesystem::create_directories(path() + "/inner");
    EXPECT_TRUE(fs.is_miss(kKey));
    const auto stored = fs.client->set(kKey, value_of(3), mode);
    ASSERT_FALSE(stored.has_value());
    EXPECT_EQ(stored.error().code(), ErrorCode::kIo);
    fs.set("beside", value_of(4), SetMode::kReplace);
    EXPECT_TRUE(fs.has("beside", value_of(4)));
    for (const std::string& name : names_in(directory.path())) {
      EXPECT_NE(parse_entry_name(name).kind, EntryKind::kTemporary) << name;
    }
    EXPECT_TRUE(*fs.client->remove("beside"));
  }
}

TEST_F(FsConnectorTest, APipeIsAMissThatNobodyWaitsFor) {
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  OpenFs fs{directory.path()};
  EXPECT_TRUE(fs.is_miss(kKey));
  fs.set(kKey, value_of(2));
  EXPECT_TRUE(fs.has(kKey, value_of(2)));
}

TEST_F(FsConnectorTest, LeftOverTemporaryFilesGoAfterAnHour) {
  const std::string ours = temporary_name();
  const std::string lmcaches = "m@0x000000ff@0@aabb.tmp";
  const std::string fresh = temporary_name();
  const std::string hashed = file_name_of(std::string(900, 'x')).text;
  for (const std::string& name : {ours, lmcaches, std::string{"notes.tmp"}, key_file_of(hashed)}) {
    write_file(path(name), value_of(1));
    make_older(path(name), 3700);
  }
  write_file(path(fresh), value_of(1));
  {
    const OpenFs fs{directory.path()};
    EXPECT_EQ(fs.counter("temporaries_swept_total"), 3U);
  }
  std::vector<std::string> expected{fresh, "notes.tmp"};
  std::ranges::sort(expected);
  EXPECT_EQ(names_in(directory.path()), expected);
}

TEST_F(FsConnectorTest, ATemporaryFolderThatIsAnotherStoresKeepsItsValues) {
  const std::vector<std::string> keys{kKey, "m@000000ff@0@0011", "plain", std::string(900, 'x')};
  {
    OpenFs other{path("other")};
    for (const std::string& key : keys) other.set(key, value_of(1));
  }
  for (const std::string& name : names_in(path("other"))) make_older(path("other/" + name), 7200);
  // A definite draft is removed.
  for (const char* const name : {"m@0x000000ff@0@aabb.tmp", ".larder-1-2.tmp"}) {
    write_file(path("other/") + name, value_of(1));
    make_older(path("other/") + name, 7200);
  }
  {
    OpenFs fs{directory.path(), "relative_tmp_dir=other&capacity=1MiB"};
    EXPECT_TRUE(eventually([&] { return fs.counter("temporaries_swept_total") == 2; }));
    EXPECT_TRUE(fs.is_miss(kKey));
    fs.set(kKey, value_of(2));
  }
  OpenFs other{path("other")};
  for (const std::string& key : keys) EXPECT_TRUE(other.has(key, value_of(1))) << key;
}

TEST_F(FsConnectorTest, ATemporaryFileWithATimeInTheFutureGoesAnHourAfterItWasSeen) {
  write_file(path(".larder-1-2.tmp"), value_of(1));
  make_older(path(".larder-1-2.tmp"), -1'000'000);
  {
    const OpenFs fs{directory.path()};
  }
  struct stat status{};
  ASSERT_EQ(::stat(path(".larder-1-2.tmp").c_str(), &status), 0);
  EXPECT_LE(status.st_mtim.tv_sec, std::time(nullptr) + 60);
  make_older(path(".larder-1-2.tmp"), 3700);
  {
    const OpenFs fs{directory.path()};
  }
  EXPECT_TRUE(names_in(directory.path()).empty());
}

// ---- Checksums
// -------------------------------------------------------------------------------------

TEST_F(FsConnectorTest, WithAChecksumAFlippedBitAndAnotherKeysFileAreNoticed) {
  OpenFs fs{directory.path(), "checksum=xattr"};
  EXPECT_EQ(fs.connector->capabilities().integrity, Integrity::kChecked);
  fs.set(kKey, value_of(1));
  ASSERT_TRUE(fs.has(kKey, value_of(1)));
  Bytes flipped = value_of(1);
  flipped[5000] ^= std::byte{4};
  {
    std::fstream file{path(), std::ios::in | std::ios::out | std::ios::binary};
    file.seekp(5000);
    file.put(static_cast<char>(flipped[5000]));
  }
  EXPECT_EQ(fs.client->get(kKey).error().code(), ErrorCode::kCorruption);
  EXPECT_TRUE(fs.is_miss(kKey));
  fs.set(kKey, value_of(1));
  EXPECT_TRUE(fs.has(kKey, value_of(1)));

  const std::string other = "org/model@02010100@0@ffff";
  std::filesystem::rename(path(), path(file_name_of(other).text));
  EXPECT_EQ(fs.client->get(other).error().code(), ErrorCode::kCorruption);
  EXPECT_EQ(fs.counter("corruptions_total"), 2U);
}

TEST_F(FsConnectorTest, WithAChecksumAFileWithoutOneIsStoredAgain) {
  write_file(path(), value_of(1));
  OpenFs fs{directory.path(), "checksum=xattr"};
  EXPECT_EQ(fs.client->get(kKey).error().code(), ErrorCode::kCorruption);
  EXPECT_TRUE(fs.is_miss(kKey));
  fs.set(kKey, value_of(1));
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
}

// ---- Capacity
// --------------------------------------------------------------------------------------

std::uint64_t blocks_in(const std::string& path) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator{path}) {
    struct stat status{};
    if (::lstat(entry.path().c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
    }
  }
  return bytes;
}

std::string numbered(int number) {
  return "m@00000001@0@" + std::to_string(100000 + number);
}

TEST_F(FsConnectorTest, ExclusiveBlocksNeverExceedTheCapacity) {
  OpenFs fs{directory.path(), "capacity=1MiB&exclusive=yes"};
  for (int i = 0; i < 100; ++i) {
    fs.set(numbered(i), value_of(static_cast<std::uint64_t>(i), 50'000));
    ASSERT_LE(blocks_in(directory.path()), std::uint64_t{1} << 20) << i;
    ASSERT_LE(fs.connector->report().bytes_used, std::uint64_t{1} << 20);
    // A file that was just used is not evicted.
    ASSERT_TRUE(fs.has(numbered(std::max(0, i - 5)),
                       value_of(static_cast<std::uint64_t>(std::max(0, i - 5)), 50'000)));
  }
  EXPECT_GT(fs.counter("evictions_total"), 70U);
  EXPECT_GT(fs.connector->report().keys, 10U);
}

TEST_F(FsConnectorTest, AccountingAndOrderSurviveARestart) {
  {
    OpenFs fs{directory.path(), "capacity=1MiB"};
    for (int i = 0; i < 10; ++i)
      fs.set(numbered(i), value_of(static_cast<std::uint64_t>(i), 50'000));
  }
  for (int i = 0; i < 10; ++i) {
    make_older(path(file_name_of(numbered(i)).text), 100'000 - i * 1000);
  }
  {
    // Reading the oldest makes it the youngest, and the file tells.
    OpenFs fs{directory.path(), "capacity=1MiB"};
    EXPECT_EQ(fs.connector->report().keys, 10U);
    EXPECT_GE(fs.connector->report().bytes_used, 500'000U);
    EXPECT_TRUE(fs.has(numbered(0), value_of(0, 50'000)));
  }
  // Room for 5 of them: the surplus is removed while it opens, the oldest first.
  OpenFs fs{directory.path(), "capacity=300KiB"};
  EXPECT_TRUE(eventually([&] { return fs.connector->report().bytes_used <= 300U << 10; }));
  EXPECT_TRUE(fs.has(numbered(0), value_of(0, 50'000)));
  EXPECT_TRUE(fs.is_miss(numbered(1)));
  EXPECT_TRUE(fs.has(numbered(9), value_of(9, 50'000)));
  EXPECT_LE(blocks_in(directory.path()), 300U << 10);
}

TEST_F(FsConnectorTest, IdleFilesWithTimesInTheFutureGoFirst) {
  constexpr std::int64_t kYear = 365L * 24 * 3600;
  {
    OpenFs fs{directory.path(), "capacity=1MiB"};
    for (int i = 0; i < 8; ++i)
      fs.set(numbered(i), value_of(static_cast<std::uint64_t>(i), 50'000));
  }
  const auto name = [&](int i) { return path(file_name_of(numbered(i)).text); };
  // Further in the future than clocks differ: 4, 5, 6 and 7, of which 6 is the oldest.
  const std::array<std::int64_t, 8> ages{7200, 3600, 0, -1800, -90 * kYear, -kYear, -7200, -kYear};
  for (int i = 0; i < 8; ++i) make_older(name(i), ages.at(static_cast<std::size_t>(i)));
  {
    // A use makes it one of today.
    OpenFs fs{directory.path(), "capacity=1MiB"};
    EXPECT_TRUE(fs.has(numbered(7), value_of(7, 50'000)));
    struct stat status{};
    ASSERT_EQ(::stat(name(7).c_str(), &status), 0);
    EXPECT_LE(status.st_mtim.tv_sec, std::time(nullptr) + 60);
  }
  const auto left = [&](int kept) {
    constexpr std::uint64_t kBlocks = 53'248;
    const std::uint64_t capacity = static_cast<std::uint64_t>(kept) * kBlocks;
    OpenFs fs{directory.path(), "capacity=" + std::to_string(capacity)};
    EXPECT_TRUE(eventually([&] { return fs.connector->report().bytes_used <= capacity; }));
    std::vector<int> there;
    for (int i = 0; i < 8; ++i) {
      if (std::filesystem::exists(name(i))) there.push_back(i);
    }
    return there;
  };
  EXPECT_EQ(left(7), (std::vector<int>{0, 1, 2, 3, 4, 5, 7}));
  EXPECT_EQ(left(6), (std::vector<int>{0, 1, 2, 3, 4, 7}));
  EXPECT_EQ(left(5), (std::vector<int>{0, 1, 2, 3, 7}));
  EXPECT_EQ(left(4), (std::vector<int>{1, 2, 3, 7}));
  EXPECT_EQ(left(2), (std::vector<int>{3, 7}));
}

TEST_F(FsConnectorTest, AYoungFileIsNotWrittenToByAReader) {
  OpenFs fs{directory.path(), "capacity=1MiB"};
  fs.set(kKey, value_of(1));
  make_older(path(), 1000);
  struct stat before{};
  ASSERT_EQ(::stat(path().c_str(), &before), 0);
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
  struct stat after{};
  ASSERT_EQ(::stat(path().c_str(), &after), 0);
  EXPECT_EQ(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
}

TEST_F(FsConnectorTest, WhatOthersRemovedIsNotCountedForEver) {
  OpenFs fs{directory.path(), "capacity=1MiB"};
  fs.set(kKey, value_of(1));
  std::filesystem::remove(path());
  EXPECT_TRUE(fs.is_miss(kKey));
  EXPECT_EQ(fs.connector->report().bytes_used, 0U);
  EXPECT_EQ(fs.connector->report().keys, 0U);
}

TEST_F(FsConnectorTest, AValueLargerThanTheCapacityIsRefused) {
  OpenFs fs{directory.path(), "capacity=64KiB"};
  fs.set(kKey, value_of(1));
  EXPECT_EQ(fs.client->set("large", value_of(2, 70'000)).error().code(),
            ErrorCode::kResourceExhausted);
  EXPECT_TRUE(fs.has(kKey, value_of(1)));
}

TEST_F(FsConnectorTest, AnExclusiveDirectoryHasOneOwner) {
  OpenFs fs{directory.path(), "exclusive=yes"};
  Registry registry;
  registry.add(connector_type());
  const auto second = registry.open("fs:" + directory.path() + "?exclusive=yes");
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().text.find(directory.path()), std::string::npos) << second.error().text;
  EXPECT_NE(second.error().text.find("this process itself"), std::string::npos)
      << second.error().text;
  const testing::ForkedChild child{[&](int /*hold*/) {
    return registry.open("fs:" + directory.path() + "?exclusive=yes").error().text;
  }};
  EXPECT_NE(child.said().find("another process"), std::string::npos) << child.said();
  fs.close();  // The child lives, and has no share in it.
  const OpenFs third{directory.path(), "exclusive=yes"};
}

// ---- Options
// ---------------------------------------------------------------------------------------

TEST_F(FsConnectorTest, AWrongOptionNamesItselfItsValueAndTheRemedy) {
  Registry registry;
  registry.add(connector_type());
  registry.add(native_connector_type());
  const std::map<std::string, std::string> wrong{
      {"relative_tmp_dir=../x", "without '..'"},
      {"relative_tmp_dir=/x", "below base_path"},
      {"relative_tmp_dir=k-a.data", "is a value's"},
      {"max_capacity_gb=-1", "number of GiB"},
      {"max_capacity_gb=many", "many"},
      {"max_capacity_gb=1&capacity=1GiB", "both"},
      {"mode=0400", "0640"},
      {"mode=999", "octal"},
      {"lanes=load:0", "load:8"},
      {"lanes=delete:2", "lookup, load or store"},
      {"num_workers=0", "num_workers"},
  };
  for (const auto& [parameter, expected] : wrong) {
    const auto opened = registry.open("fs:" + directory.path() + "?" + parameter);
    ASSERT_FALSE(opened.has_value()) << parameter;
    EXPECT_NE(opened.error().text.find(expected), std::string::npos) << opened.error().text;
  }
  EXPECT_FALSE(registry.open("fs:").has_value());
  write_file(path("file"), {});
  const auto file = registry.open("fs_native:" + path("file"));
  ASSERT_FALSE(file.has_value());
  EXPECT_NE(file.error().text.find(path("file")), std::string::npos) << file.error().text;
}

TEST_F(FsConnectorTest, LmcachesJsonOpens) {
  Registry registry;
  registry.add(native_connector_type());
  const auto opened = registry.open(R"({"type": "fs_native", "base_path": ")" + directory.path() +
                                    R"(/a/b", "num_workers": 8, "relative_tmp_dir": "tmp",
      "use_odirect": true, "read_ahead_size": 65536, "max_capacity_gb": 0.5})");
  ASSERT_TRUE(opened.has_value()) << opened.error().text;
  EXPECT_EQ((*opened)->report().capacity_bytes, std::uint64_t{1} << 29);
  EXPECT_TRUE((*opened)->stop(kNever).has_value());
}

}  // namespace
}  // namespace larder::fs
