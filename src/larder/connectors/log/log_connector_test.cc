// The log store through its door, on real directories: user errors, other options on an existing
// store, and sessions.
#include <poll.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "larder/connectors/log/log_connector_test_support.h"

namespace larder::log_store {
namespace {

// --- What a person gets wrong -------------------------------------------------------------------

TEST_F(LogConnectorTest, TooSmallACapacityIsRefusedAndTheAdviceWorks) {
  const SetupError error = refusal(spec("30MiB"));
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  expect_names(error, {"capacity=30MiB", "30 segments of 1MiB", "choose capacity=31MiB"});
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_NE(open(spec("32MiB")), nullptr);
}

TEST_F(LogConnectorTest, ARefusedSpecLeavesNoFolderBehind) {
  const std::string deep = directory_.path() + "/a/b/kv";
  for (const char* const parameters :
       {"capacity=30MiB&segment=1MiB", "capacity=100MiB", "max_value=1MiB",
        "capacity=1GiB&max_value=1GiB", "capacity=1GiB&segment=100KiB"}) {
    EXPECT_EQ(refusal("log:" + deep + "?min_free=0&" + parameters).code,
              ErrorCode::kInvalidArgument)
        << parameters;
    EXPECT_FALSE(fs::exists(directory_.path() + "/a")) << parameters;
  }
}

TEST_F(LogConnectorTest, WithCreateNoAMissingDirectoryIsRefused) {
  const std::string text = spec("32MiB", "&create=no");
  const SetupError error = refusal(text);
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  expect_names(error, {path_, "does not exist, and create=no", "mount its disk"});
  EXPECT_FALSE(fs::exists(path_));
  fs::create_directory(path_);
  EXPECT_NE(open(text), nullptr);
}

TEST_F(LogConnectorTest, WhatAnOpenMadeIsInItsReportAndForItsOwnerAlone) {
  const mode_t before = ::umask(0);
  const std::string deep = directory_.path() + "/a/kv";
  {
    const auto store =
        open("log:" + deep + "?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0");
    ASSERT_NE(store, nullptr);
    const auto properties = store->report().properties;
    EXPECT_NE(std::ranges::find(properties, std::pair<std::string, std::string>{"made", deep}),
              properties.end());
  }
  ::umask(before);
  for (const std::string& made : {directory_.path() + "/a", deep}) {
    EXPECT_EQ(fs::status(made).permissions(), fs::perms::owner_all) << made;
  }
  const auto store = open("log:" + deep + "?min_free=0");
  ASSERT_NE(store, nullptr);
  for (const auto& [name, value] : store->report().properties) EXPECT_NE(name, "made");
}

TEST_F(LogConnectorTest, TooLargeAValueForTheSegmentsIsRefusedAndTheAdviceWorks) {
  const std::string start = "log:" + path_ + "?capacity=32MiB&segment=1MiB&min_free=0&max_value=";
  const SetupError error = refusal(start + "1MiB");
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  expect_names(error, {"max_value=1MiB", "1MiB", "choose max_value="});
  const std::size_t at = error.text.find("choose max_value=") + std::strlen("choose max_value=");
  EXPECT_NE(open(start + error.text.substr(at, error.text.find(' ', at) - at)), nullptr);
}

TEST_F(LogConnectorTest, APathThatIsAFileIsRefusedAndTheFileIsLeft) {
  std::ofstream{path_} << "precious";
  const SetupError error = refusal(spec());
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  expect_names(error, {path_, "not a directory", "name a directory"});
  std::string text;
  std::ifstream{path_} >> text;
  EXPECT_EQ(text, "precious");
}

TEST_F(LogConnectorTest, ADirectoryWithOtherFilesIsRefusedAndLeftAsItIs) {
  fs::create_directory(path_);
  std::ofstream{file("thesis.tex")} << "precious";
  const auto before = content();
  const SetupError error = refusal(spec());
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  expect_names(error, {path_, "thesis.tex", "name an empty or a new directory"});
  EXPECT_EQ(content(), before);
}

TEST_F(LogConnectorTest, SegmentsWithoutASuperblockAreRefusedAndLeftAsTheyAre) {
  make_store(5);
  fs::remove(file("superblock"));
  const auto before = content();
  expect_names(refusal(spec()), {path_, "segment-0000000", "name an empty or a new directory"});
  EXPECT_EQ(content(), before);
}

TEST_F(LogConnectorTest, OtherFilesBesideAStoreAreNamedInTheReportAndLeftAlone) {
  make_store(3);
  std::ofstream{file("notes.txt")} << "precious";
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->present(0, 3), numbers(0, 3));
  EXPECT_EQ(store->report().health, Health::kDegraded);
  EXPECT_NE(store->reasons().find("notes.txt"), std::string::npos) << store->reasons();
  EXPECT_TRUE(fs::exists(file("notes.txt")));
}

TEST_F(LogConnectorTest, ADirectoryThatCannotBeMadeIsToldWithTheReason) {
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0500), 0);
  const std::string text = in_child([this]() -> std::string {
    return become_nobody() ? refusal(spec()).text : "cannot become nobody";
  });
  expect_names({ErrorCode::kIo, text}, {path_, "Permission denied", "name another directory"});
  EXPECT_EQ(::chmod(directory_.path().c_str(), 0700), 0);
}

TEST_F(LogConnectorTest, ADirectoryOfAnotherUserIsToldWithTheReasonAndLeftAsItIs) {
  make_store(3);
  const auto before = content();
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
  for (const ::mode_t mode : {0700U, 0555U}) {
    ASSERT_EQ(::chmod(path_.c_str(), ::geteuid() == 0 ? mode : mode & 0077U), 0);
    const std::string text = in_child([this]() -> std::string {
      return become_nobody() ? refusal(spec()).text : "cannot become nobody";
    });
    expect_names({ErrorCode::kIo, text}, {path_, "Permission denied", "name another directory"});
  }
  ASSERT_EQ(::chmod(path_.c_str(), 0700), 0);
  EXPECT_EQ(content(), before);
}

TEST_F(LogConnectorTest, AStoreThatAProcessHasNamesItsPidAndHost) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const ::pid_t holder = ::fork();
  if (holder == 0) {
    const auto store = open(spec());
    if (store != nullptr) store->fill(0, 3);
    const char byte = store != nullptr && !HasFailure() ? '+' : '-';
    if (::write(ends[1], &byte, 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1);
  ASSERT_EQ(byte, '+');
  // It has the store, and does nothing more with it.
  ASSERT_EQ(::kill(holder, SIGSTOP), 0);
  ASSERT_EQ(::waitpid(holder, nullptr, WUNTRACED), holder);
  const auto before = content();

  const SetupError error = refusal(spec());

  std::array<char, 256> host{};
  ASSERT_EQ(::gethostname(host.data(), host.size() - 1), 0);
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  expect_names(error, {path_, "pid " + std::to_string(holder), host.data(), "stop that process"});
  EXPECT_EQ(content(), before);
  ASSERT_EQ(::kill(holder, SIGKILL), 0);
  ASSERT_EQ(::waitpid(holder, nullptr, 0), holder);
  ::close(ends[0]);
  ::close(ends[1]);
  const auto store = open(spec());  // The lock went with the process.
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->present(0, 3), numbers(0, 3));
}

TEST_F(LogConnectorTest, AProcessThatWasStoppedIsNotDownForIt) {
  constexpr int kKeys = 20;
  make_store(kKeys);
  std::array<int, 2> loads{};
  std::array<int, 2> end{};
  ASSERT_EQ(::pipe(loads.data()), 0);
  ASSERT_EQ(::pipe(end.data()), 0);
  const ::pid_t child = ::fork();
  if (child == 0) {
    ::close(end[1]);
    ::setenv("LARDER_IO", "threads", 1);
    const auto store = open(spec("32MiB", "&stall=1s"));
    ::pollfd wanted{.fd = end[0], .events = POLLIN, .revents = 0};
    do {
      EXPECT_EQ(store->present(0, kKeys), numbers(0, kKeys));
      EXPECT_EQ(::write(loads[1], "+", 1), 1);
    } while (::poll(&wanted, 1, 0) == 0);
    EXPECT_EQ(store->present(0, kKeys), numbers(0, kKeys));
    EXPECT_EQ(store->counter("stalls_total"), 0U);
    EXPECT_EQ(store->report().health, Health::kHealthy) << store->reasons();
    ::_exit(HasFailure() ? 1 : 0);
  }
  ::close(loads[1]);
  char byte = 0;
  ASSERT_EQ(::read(loads[0], &byte, 1), 1);
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  std::this_thread::sleep_for(std::chrono::milliseconds{1500});  // Longer than its stall=.
  ASSERT_EQ(::kill(child, SIGCONT), 0);
  ::close(end[1]);
  while (::read(loads[0], &byte, 1) == 1) {
  }
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  ::close(loads[0]);
  ::close(end[0]);
}

// --- Other options on an existing store ---------------------------------------------------------

TEST_F(LogConnectorTest, AStoreRemembersItsCapacityAndItsLargestValue) {
  make_store(20, "48MiB");
  const std::string plain = "log:" + path_ + "?min_free=0";
  {
    const auto store = open(plain);
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->report().capacity_bytes, 48 * kMiB);
    EXPECT_EQ(store->capabilities().value_bytes_max, 64U << 10);
    EXPECT_EQ(store->present(0, 20), numbers(0, 20));
  }
  {  // The spec's values win, and are remembered from then on.
    const auto store = open(plain + "&capacity=40MiB&max_value=32KiB");
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->report().capacity_bytes, 40 * kMiB);
  }
  run_and_kill(plain + "&max_value=128KiB", [](Store& store) { store.set("x", 100'000); });
  const auto store = open(plain);
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->report().capacity_bytes, 40 * kMiB);
  EXPECT_EQ(store->capabilities().value_bytes_max, 128U << 10);
  EXPECT_TRUE(store->has("x", 100'000));
}

TEST_F(LogConnectorTest, ARefusedParameterIsNotRemembered) {
  make_store(20, "48MiB");
  const std::string plain = "log:" + path_ + "?min_free=0";
  refusal(plain + "&capacity=20MiB");
  refusal(plain + "&max_value=2MiB");
  const auto store = open(plain);
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->report().capacity_bytes, 48 * kMiB);
  EXPECT_EQ(store->capabilities().value_bytes_max, 64U << 10);
}

TEST_F(LogConnectorTest, ANewStoreNeedsACapacityAndNothingElse) {
  const SetupError error = refusal("log:" + path_);
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  expect_names(error, {"no store in " + path_ + " yet", "'capacity'", "capacity=200GiB"});
  EXPECT_FALSE(fs::exists(path_));
  const auto store = open("log:" + path_ + "?capacity=512MiB&min_free=0");
  ASSERT_NE(store, nullptr);
  EXPECT_GT(store->capabilities().value_bytes_max, 7 * kMiB);
  store->set("large", 7 * kMiB);
  EXPECT_TRUE(store->has("large", 7 * kMiB));
}

TEST_F(LogConnectorTest, ASmallerCapacityThatDropsKeysIsSaidWithTheirNumber) {
  make_store(500, "64MiB");
  std::uint64_t keys = 0;
  {
    const auto store = open(spec("64MiB"));
    ASSERT_NE(store, nullptr);
    EXPECT_TRUE(store->report().reasons.empty()) << store->reasons();
    keys = store->report().keys;
  }
  set_log_level(LogLevel::kWarning);
  ::testing::internal::CaptureStderr();
  const auto store = open(spec("32MiB"));
  const std::string lines = ::testing::internal::GetCapturedStderr();
  set_log_level(LogLevel::kError);
  ASSERT_NE(store, nullptr);
  // Reclaim may have continued since, independent of the open.
  std::uint64_t left = 0;
  std::uint64_t evicted = 0;
  do {
    evicted = store->counter("records_evicted_total");
    left = store->report().keys;
  } while (store->counter("records_evicted_total") != evicted);
  const std::uint64_t gone = keys - left - evicted;
  ASSERT_GT(gone, 0U);
  const std::string said =
      "capacity=32MiB is less than what the store held: " + std::to_string(gone) + " keys of " +
      std::to_string(keys) + " went";
  EXPECT_NE(store->reasons().find(said), std::string::npos) << store->reasons();
  EXPECT_NE(lines.find(path_ + ": " + said), std::string::npos) << lines;
  EXPECT_EQ(store->report().health, Health::kHealthy);
  EXPECT_EQ(store->counter("index_walks_total"), 0U) << "the tables tell the keys of each segment";
}

TEST_F(LogConnectorTest, ACapacityBeyondTheDiskIsTakenAndSaid) {
  set_log_level(LogLevel::kWarning);
  ::testing::internal::CaptureStderr();
  const auto store = open(spec("8EiB", ""));
  const std::string lines = ::testing::internal::GetCapturedStderr();
  set_log_level(LogLevel::kError);
  ASSERT_NE(store, nullptr);
  for (const std::string& text : {lines, store->reasons()}) {
    EXPECT_NE(text.find("capacity=8EiB is more than the whole file system ("), std::string::npos)
        << text;
  }
  EXPECT_EQ(store->report().health, Health::kHealthy);
}

TEST_F(LogConnectorTest, FilesThatOthersCouldReadAreClosedToThem) {
  make_store(20);
  ASSERT_EQ(::chmod(file("superblock").c_str(), 0644), 0);
  ASSERT_EQ(::chmod(segment(0).c_str(), 0660), 0);
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  for (const auto& entry : fs::directory_iterator{path_}) {
    EXPECT_EQ(entry.status().permissions(), fs::perms::owner_read | fs::perms::owner_write)
        << entry.path();
  }
  EXPECT_NE(store->reasons().find("others could use 2 files of the store"), std::string::npos)
      << store->reasons();
  EXPECT_EQ(store->report().health, Health::kHealthy);
}

TEST_F(LogConnectorTest, TooLargeAMaxValueForAnExistingStoreIsRefusedAndTheAdviceWorks) {
  make_store(20);
  const auto before = content();
  const std::string start = "log:" + path_ + "?capacity=32MiB&min_free=0&max_value=";
  const SetupError error = refusal(start + "2MiB");
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  expect_names(error,
               {"max_value=2MiB", "segments of 1MiB", "choose max_value=", "empty directory"});
  EXPECT_EQ(content(), before);
  const std::size_t at = error.text.find("choose max_value=") + std::strlen("choose max_value=");
  const auto store = open(start + error.text.substr(at, error.text.find(' ', at) - at));
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->present(0, 20), numbers(0, 20));
}

TEST_F(LogConnectorTest, ACapacityTooSmallForAnExistingStoreIsRefusedAndNothingIsLost) {
  make_store(20, "64MiB");
  const auto before = content();
  const SetupError error = refusal(spec("20MiB"));
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  expect_names(error, {"capacity=20MiB", "choose capacity=31MiB"});
  EXPECT_EQ(content(), before);
}

TEST_F(LogConnectorTest, ALoweredCapacityDropsTheOldestAndHoldsFromTheOpenOn) {
  {
    const auto store = open(spec("64MiB"));
    ASSERT_NE(store, nullptr);
    store->fill(0, 1500);  // Past eviction: every file is there.
    EXPECT_GT(disk_usage(), 55 * kMiB);
    EXPECT_LE(disk_usage(), 64 * kMiB);
  }
  {
    const auto store = open(spec("40MiB"));
    ASSERT_NE(store, nullptr);
    EXPECT_LE(disk_usage(), 40 * kMiB);
    // The newest stay, 14 in each segment that may stay.
    EXPECT_EQ(store->present(1050, 1500), numbers(1050, 1500));
    EXPECT_TRUE(store->present(0, 900).empty());
    store->fill(1500, 2200);
    EXPECT_LE(disk_usage(), 40 * kMiB);
    EXPECT_TRUE(store->has(key_of(2199)));
  }
  const auto store = open(spec("64MiB"));
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(store->has(key_of(2199)));
  store->fill(2200, 3700);
  EXPECT_GT(disk_usage(), 55 * kMiB);
  EXPECT_LE(disk_usage(), 64 * kMiB);
}

TEST_F(LogConnectorTest, AnotherSyncModeIsOnlyAnotherPromise) {
  const auto mode_of = [](const Store& store) {
    for (const auto& [name, value] : store.report().properties) {
      if (name == "sync") return value;
    }
    return std::string{};
  };
  int keys = 0;
  for (const std::string mode : {"none", "batch", "none"}) {
    const auto store = open(spec("32MiB", "&sync=" + mode));
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(mode_of(*store), mode);
    EXPECT_EQ(store->present(0, keys), numbers(0, keys));
    store->fill(keys, keys + 20);
    keys += 20;
    EXPECT_EQ(store->present(0, keys), numbers(0, keys));
  }
}

// --- Sessions -----------------------------------------------------------------------------------

TEST_F(LogConnectorTest, ManyShortSessionsShareOneSegment) {
  for (int i = 0; i < 40; ++i) {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    store->set(key_of(i), 100);
    EXPECT_EQ(store->counter("recovered_by_scan"), 0U);
  }
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(store->has(key_of(i), 100)) << i;
  EXPECT_LE(store->counter("segments_used"), 2U);
}

TEST_F(LogConnectorTest, AcknowledgedStoresReplacementsAndDeletesOutliveAKill) {
  run_and_kill(spec(), [](Store& store) {
    store.fill(0, 30);
    const auto replaced = store.client().set(key_of(1), value_of("other"));
    EXPECT_TRUE(replaced.has_value());
    EXPECT_TRUE(store.client().remove(key_of(2)).value_or(false));
  });
  run_and_kill(spec(), [](Store& store) { store.fill(30, 33); });
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  const auto replaced = store->client().get(key_of(1));
  ASSERT_TRUE(replaced.has_value() && replaced->has_value());
  EXPECT_EQ(**replaced, value_of("other"));
  EXPECT_FALSE(store->has(key_of(2)));
  EXPECT_EQ(store->present(3, 33), numbers(3, 33));
  EXPECT_TRUE(store->has(key_of(0)));
}

TEST_F(LogConnectorTest, AfterAKillNoOldSegmentIsAppendedTo) {
  make_store(3);
  run_and_kill(spec(), [](Store& store) { store.fill(3, 5); });  // Goes on in the first segment.
  const auto before = content().at("segment-0000000");
  run_and_kill(spec(), [](Store& store) {
    EXPECT_EQ(store.present(0, 5), numbers(0, 5));
    store.fill(5, 8);
  });
  const auto table_written = content().at("segment-0000000");
  EXPECT_NE(before, table_written);  // Recovery wrote the table that was missing.
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->present(0, 8), numbers(0, 8));
  EXPECT_EQ(content().at("segment-0000000"), table_written);
}

TEST_F(LogConnectorTest, DiskUsageNeverExceedsTheCapacityPastEviction) {
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  std::uint64_t most = 0;
  for (int i = 0; i < 1400; ++i) {  // Three times the capacity.
    store->set(key_of(i), 1000 + static_cast<std::size_t>(i) * 37 % kValueBytes);
    most = std::max(most, disk_usage());
    ASSERT_LE(most, 32 * kMiB) << "after " << i << " stores";
  }
  EXPECT_GT(store->counter("records_evicted_total"), 0U);
  EXPECT_EQ(store->report().evictions.keys, store->counter("records_evicted_total"));
  EXPECT_EQ(store->counter("index_walks_total"), 0U);
  EXPECT_GT(most, 28 * kMiB);  // And most of it is used.
  EXPECT_GE(store->report().bytes_used, most - kMiB);
}

constexpr int kHotKeys = 24;
constexpr int kScannedKeys = 4000;  ///< About ten times the store's content.

/// Keys that are read now and then, among four times as many that are stored once; a missing key is
/// stored again. Returns how often one was.
int scan_among_hot_keys(Store& store) {
  int misses = 0;
  for (int i = 0; i < kScannedKeys; ++i) {
    const std::string hot = key_of(i / 4 % kHotKeys);
    if (i % 4 == 0 && !store.has(hot)) {
      ++misses;
      EXPECT_TRUE(store.client().set(hot, value_of(hot), SetMode::kIfAbsent).has_value());
    }
    const std::string once = key_of(1'000'000 + i);
    EXPECT_TRUE(store.client().set(once, value_of(once), SetMode::kIfAbsent).has_value());
  }
  return misses;
}

TEST_F(LogConnectorTest, WhatIsReadAgainOutlastsAScanAndTheOldestNeedNotGoFirst) {
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_LE(scan_among_hot_keys(*store), kHotKeys + 2);
  EXPECT_GT(store->counter("segments_reclaimed_early_total"), 0U);
  EXPECT_EQ(store->counter("bytes_not_written_total"),
            0U);  // Never unless requested. At most 1.2 writes a miss.
  EXPECT_LE(store->counter("records_readmitted_total"), (kScannedKeys + kHotKeys) / 5);
}

TEST_F(LogConnectorTest, EvictionOfTheOldestTakesNoOtherFirst) {
  const auto store = open(spec("32MiB", "&eviction=oldest"));
  ASSERT_NE(store, nullptr);
  EXPECT_LE(scan_among_hot_keys(*store), kHotKeys + 2);
  EXPECT_EQ(store->counter("segments_reclaimed_early_total"), 0U);
}

TEST_F(LogConnectorTest, LearnedAdmissionLeavesAScanOutAndKeepsWhatIsRead) {
  const auto store = open(spec("32MiB", "&admission=learned&events=65536"));
  ASSERT_NE(store, nullptr);
  EXPECT_LE(scan_among_hot_keys(*store), 2 * kHotKeys);
  const std::uint64_t left_out = store->counter("records_not_written_total");
  EXPECT_GT(left_out,
            static_cast<std::uint64_t>(kScannedKeys / 3));  // It fills, and learns, first.
  EXPECT_EQ(store->counter("bytes_not_written_total"), left_out * kValueBytes);
  // Such a key is as one that was evicted at once.
  int there = 0;
  for (int i = kScannedKeys - 100; i < kScannedKeys; ++i) {
    there += store->has(key_of(1'000'000 + i)) ? 1 : 0;
  }
  EXPECT_LT(there, 60);
  for (int i = 0; i < kHotKeys; ++i) EXPECT_TRUE(store->has(key_of(i))) << i;
  // A replacing store is always written.
  store->set("replaced");
  EXPECT_TRUE(store->has("replaced"));
}

TEST_F(LogConnectorTest, FilesAreForTheirOwnerOnlyAlsoBelowNewDirectories) {
  EXPECT_NE(open("log:" + path_ + "/a/b//?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0"),
            nullptr);
  struct stat status{};
  ASSERT_EQ(::stat((path_ + "/a/b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
  fs::remove_all(path_);

  make_store(3);
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
  for (const auto& entry : fs::directory_iterator{path_}) {
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U) << entry.path();
  }
}

TEST_F(LogConnectorTest, AScanListsWhatASegmentGotAfterAnEarlierScan) {
  constexpr int kKeys = 60;  // Of 60 KiB: several segments.
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  for (int i = 0; i < 4; ++i) store->set(key_of(i), 60 << 10);
  const auto first = store->scan({}, 2);  // It stops in the segment that is being written.
  ASSERT_TRUE(first.has_value());
  ASSERT_FALSE(first->done);
  for (int i = 4; i < kKeys; ++i) store->set(key_of(i), 60 << 10);

  const auto all = store->scan({}, 1000);

  ASSERT_TRUE(all.has_value());
  EXPECT_TRUE(all->done);
  EXPECT_EQ(all->entries.size(), static_cast<std::size_t>(kKeys));
}

}  // namespace
}  // namespace larder::log_store
