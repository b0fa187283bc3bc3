// The log store through its door, on real directories: damage of a disk to superblock and segments.
#include <sys/resource.h>

#include <iterator>

#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/log_connector_test_support.h"
#include "larder/connectors/log/offline/inspection.h"
#include "tests/support/sanitizers.h"

namespace larder::log_store {
namespace {

class LogDamageTest : public LogConnectorTest {};

// --- Superblock ---------------------------------------------------------------------------------

TEST_F(LogDamageTest, ALaterFormatIsRefusedWithBothVersionsAndNotTouched) {
  make_store(20);
  for (const std::uint64_t copy : {std::uint64_t{0}, kSuperblockCopyStride}) {
    overwrite(file("superblock"), copy + 24, std::string_view{"\x03\0\0\0", 4});
  }
  const auto before = content();
  const auto written_at = fs::last_write_time(file("superblock"));
  const SetupError error = refusal(spec());
  EXPECT_EQ(error.code, ErrorCode::kUnimplemented);
  expect_names(error, {path_, "format version 3", "up to version 2", "use a newer larder"});
  EXPECT_EQ(content(), before);
  EXPECT_EQ(fs::last_write_time(file("superblock")), written_at);
}

TEST_F(LogDamageTest, EitherCopyOfTheSuperblockIsEnough) {
  make_store(20);
  for (const std::uint64_t copy : {std::uint64_t{0}, kSuperblockCopyStride}) {
    overwrite(file("superblock"), copy, garbage(4096));
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->present(0, 20), numbers(0, 20));
  }
}

TEST_F(LogDamageTest, WithoutAnIntactSuperblockNothingIsOpenedOrTouched) {
  make_store(20);
  for (const std::uint64_t copy : {std::uint64_t{0}, kSuperblockCopyStride}) {
    overwrite(file("superblock"), copy, garbage(4096));
  }
  const auto before = content();
  const SetupError error = refusal(spec());
  EXPECT_EQ(error.code, ErrorCode::kCorruption);
  expect_names(error, {path_, "neither copy of the superblock", "empty the directory"});
  EXPECT_EQ(content(), before);
}

TEST_F(LogDamageTest, ABlankSuperblockBesideSegmentsIsNotTakenForANewStore) {
  make_store(5);
  overwrite(file("superblock"), 0, std::string(kSuperblockFileBytes, '\0'));
  const auto before = content();
  EXPECT_EQ(refusal(spec()).code, ErrorCode::kCorruption);
  EXPECT_EQ(content(), before);
}

TEST_F(LogDamageTest, AStoreWhoseMakerDiedBeforeTheFirstWriteIsMadeAnew) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{kSuperblockFileBytes}}) {
    fs::remove_all(path_);
    fs::create_directory(path_);
    std::ofstream{file("superblock")} << std::string(bytes, '\0');
    const auto store = open(spec());
    ASSERT_NE(store, nullptr) << bytes;
    store->fill(0, 2);
    EXPECT_EQ(store->present(0, 2), numbers(0, 2));
  }
}

TEST_F(LogDamageTest, AFileThatIsNoSuperblockIsNotOverwritten) {
  fs::create_directory(path_);
  std::ofstream{file("superblock")} << "a precious text of somebody else";
  const auto before = content();
  EXPECT_EQ(refusal(spec()).code, ErrorCode::kCorruption);
  EXPECT_EQ(content(), before);
}

// --- Damaged segments ---------------------------------------------------------------------------

TEST_F(LogDamageTest, ADamagedSegmentIsSetAsideAndTheRestIsServed) {
  make_store(60);
  overwrite(segment(1), 0, garbage(4096));
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->counter("segments_set_aside"), 1U);
    EXPECT_EQ(store->report().health, Health::kDegraded);
    EXPECT_NE(store->reasons().find("segment-0000001 was set aside"), std::string::npos)
        << store->reasons();
    const std::vector<int> present = store->present(0, 60);
    EXPECT_GT(present.size(), 40U);
    EXPECT_LT(present.size(), 60U);
    EXPECT_EQ(store->report().keys, present.size());
    store->fill(0, 60);  // It continues, and reuses the space.
    EXPECT_EQ(store->present(0, 60), numbers(0, 60));
  }
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->report().health, Health::kHealthy) << store->reasons();
  EXPECT_EQ(store->present(0, 60), numbers(0, 60));
}

TEST_F(LogDamageTest, ADamagedTableIsMadeAgainFromTheRecords) {
  make_store(60);
  const std::uint64_t trailer_at = fs::file_size(segment(1)) - 4096;
  overwrite(segment(1), trailer_at, garbage(4096));
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_GT(store->counter("recovered_by_scan"), 10U);
    EXPECT_EQ(store->present(0, 60), numbers(0, 60));
  }
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->counter("recovered_by_scan"), 0U);
  EXPECT_EQ(store->present(0, 60), numbers(0, 60));
}

// An open reads the grains of a segment whose table is damaged. A running store has to search the
// index, which is a walk over all of it: no more than one for each damaged segment.
TEST_F(LogDamageTest, TablesThatAreDamagedWhileTheStoreRunsCostAWalkEach) {
  constexpr std::uint32_t kDamaged = 5;
  make_store(400);
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    const std::uint64_t reclaimed = store->counter("segments_reclaimed_total");
    for (std::uint32_t number = 0; number < kDamaged; ++number) {
      overwrite(segment(number), fs::file_size(segment(number)) - 4096, garbage(4096));
    }
    store->fill(400, 900);  // Every segment is used again.
    EXPECT_GT(store->counter("segments_reclaimed_total"), reclaimed + 30);
    EXPECT_GT(store->counter("index_walks_total"), 0U);
    EXPECT_LE(store->counter("index_walks_total"), kDamaged);
    EXPECT_NE(store->reasons().find("its table cannot be read"), std::string::npos)
        << store->reasons();
    EXPECT_EQ(store->present(880, 900), numbers(880, 900));
  }
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->present(880, 900), numbers(880, 900));
}

TEST_F(LogDamageTest, TablesThatAreDamagedBeforeAnOpenThatShrinksCostNoMoreThanAWalkEach) {
  constexpr std::uint32_t kDamaged = 5;
  make_store(500, "64MiB");
  for (std::uint32_t number = 0; number < kDamaged; ++number) {
    overwrite(segment(number), fs::file_size(segment(number)) - 4096, garbage(4096));
  }
  const auto store = open(spec("32MiB"));
  ASSERT_NE(store, nullptr);
  EXPECT_LE(store->counter("index_walks_total"), kDamaged);
  EXPECT_EQ(store->present(480, 500), numbers(480, 500));
}

TEST_F(LogDamageTest, ADamagedValueIsAFailedLoadThenAMissAndNobodyElses) {
  make_store(40);
  overwrite(segment(0), 4096 + 4096 + 30'000, "damage");  // In the value of the first record.
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  const auto damaged = store->client().get(key_of(0));
  ASSERT_FALSE(damaged.has_value());
  EXPECT_EQ(damaged.error().code(), ErrorCode::kCorruption);
  EXPECT_EQ(store->present(0, 40), numbers(1, 40));
  EXPECT_EQ(store->counter("corruptions_total"), 1U);
  EXPECT_EQ(store->report().keys, 39U) << "what is no value takes no place in the index";
  store->set(key_of(0));
  EXPECT_TRUE(store->has(key_of(0)));
}

TEST_F(LogDamageTest, ATruncatedSegmentServesWhatIsLeftOfItAndIsReported) {
  make_store(60);
  const std::uint64_t full_bytes = fs::file_size(segment(1));
  fs::resize_file(segment(1), full_bytes / 2);
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  const std::vector<int> present = store->present(0, 60);
  EXPECT_GT(present.size(), 60U - 10U);
  EXPECT_LT(present.size(), 60U);
  EXPECT_EQ(store->report().health, Health::kDegraded);
  EXPECT_NE(store->reasons().find("segment-0000001 was cut short"), std::string::npos)
      << store->reasons();
  EXPECT_EQ(fs::file_size(segment(1)), full_bytes);
}

TEST_F(LogDamageTest, AnEmptySegmentFileIsOneThatIsFree) {
  make_store(60);
  fs::resize_file(segment(1), 0);
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_NE(store->reasons().find("1 segment file of "), std::string::npos) << store->reasons();
  EXPECT_GT(store->present(0, 60).size(), 40U);
  store->fill(60, 100);
  EXPECT_EQ(store->present(60, 100), numbers(60, 100));
}

TEST_F(LogDamageTest, AMissingSegmentFileCostsItsRecordsAndNoOthers) {
  make_store(60);
  fs::remove(segment(1));
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->report().health, Health::kDegraded);
    EXPECT_NE(store->reasons().find("went since the store was closed"), std::string::npos)
        << store->reasons();
    const std::vector<int> present = store->present(0, 60);
    EXPECT_GT(present.size(), 40U);
    EXPECT_LT(present.size(), 60U);
    store->fill(0, 60);
    EXPECT_EQ(store->present(0, 60), numbers(0, 60));
  }
  EXPECT_EQ(open(spec())->report().health, Health::kHealthy);  // It was reported, and is over.
}

TEST_F(LogDamageTest, AnyMissingSegmentFileIsNoticedAfterACleanCloseAndNoneThatLarderGaveBack) {
  make_store(500, "64MiB");
  {
    const auto smaller = open(spec("32MiB"));  // Removes files itself.
    ASSERT_NE(smaller, nullptr);
  }
  {
    const auto inspection = Inspection::open(path_);
    ASSERT_TRUE(inspection.has_value()) << inspection.error().text;
    EXPECT_TRUE((*inspection)->damage().empty());
  }
  std::uint32_t files = 0;
  for (std::uint32_t i = 0; i < 64; ++i) {
    if (!fs::exists(segment(i))) continue;
    ++files;
    fs::rename(segment(i), file("away"));
    const auto inspection = Inspection::open(path_);
    ASSERT_TRUE(inspection.has_value()) << inspection.error().text;
    const bool is_noticed = std::ranges::any_of((*inspection)->damage(), [](const Damage& damage) {
      return damage.what.find("1 segment file of ") != std::string::npos;
    });
    EXPECT_TRUE(is_noticed) << i;
    fs::rename(file("away"), segment(i));
  }
  EXPECT_GT(files, 20U);
}

TEST_F(LogDamageTest, AfterAKillNothingIsSaidOfFilesThatMayNeverHaveBeen) {
  run_and_kill(spec(), [](Store& store) { store.fill(0, 60); });
  fs::remove(segment(1));
  EXPECT_EQ(open(spec())->report().health, Health::kHealthy);
}

// --- Segments that cannot be read, or only be read ----------------------------------------------

/// As the user nobody, who owns the store but not its segments.
class LogRightsTest : public LogDamageTest {
 protected:
  static constexpr std::array<std::uint32_t, 4> kForeign = {2, 3, 6, 7};
  static constexpr int kKeys = 200;
  static constexpr int kDeleted = 100;

  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "SKIPPED (needs root, to give files to another user)";
    make_store(kKeys);
    ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
    ASSERT_EQ(::chown(path_.c_str(), kNobody, kNobody), 0);
    for (const auto& entry : fs::directory_iterator{path_}) {
      ASSERT_EQ(::chown(entry.path().c_str(), kNobody, kNobody), 0);
    }
  }
  void give_to_root(::mode_t mode) const {
    for (const std::uint32_t number : kForeign) {
      ASSERT_EQ(::chown(segment(number).c_str(), 0, 0), 0);
      ASSERT_EQ(::chmod(segment(number).c_str(), mode), 0);
    }
  }
  void give_back() const {
    for (const std::uint32_t number : kForeign) {
      ASSERT_EQ(::chown(segment(number).c_str(), kNobody, kNobody), 0);
      ASSERT_EQ(::chmod(segment(number).c_str(), 0600), 0);
    }
  }
  static std::string as_nobody(const std::function<void()>& work) {
    return in_child([&]() -> std::string {
      if (!become_nobody()) return "cannot become nobody";
      work();
      return HasFailure() ? "failed" : "well";
    });
  }
  /// Deletes half of the keys and replaces the others by values of another size.
  static void outrank_all(Store& store) {
    for (int i = 0; i < kDeleted; ++i) {
      ASSERT_TRUE(store.client().remove(key_of(i)).has_value()) << i;
    }
    for (int i = kDeleted; i < kKeys; ++i) store.set(key_of(i), 100);
  }
  /// More than the ring holds, some of it in vain.
  static int go_round(Store& store) {
    int stored = 0;
    for (int i = 0; i < 1000; ++i) {
      const std::string key = "more-" + std::to_string(i);
      stored += store.client().set(key, value_of(key)).has_value() ? 1 : 0;
    }
    return stored;
  }
  /// Deleted values stay away, and replaced ones do not come back.
  static void expect_nothing_old(Store& store) {
    for (int i = 0; i < kDeleted; ++i) EXPECT_FALSE(store.has(key_of(i))) << i;
    for (int i = kDeleted; i < kKeys; ++i) store.has(key_of(i), 100);
  }
};

TEST_F(LogRightsTest, ASegmentThatMayNotBeReadRefusesTheOpenUntilItMay) {
  give_to_root(0600);
  const auto before = content();
  EXPECT_EQ(as_nobody([this] {
              const SetupError error = refusal(spec());
              expect_names(error, {path_, "segment-0000002 cannot be opened", "Permission denied",
                                   "chown", "not opened"});
            }),
            "well");
  EXPECT_EQ(content(), before);
  give_back();
  EXPECT_EQ(as_nobody([this] {
              const auto store = open(spec());
              ASSERT_NE(store, nullptr);
              EXPECT_EQ(store->present(0, kKeys), numbers(0, kKeys));
            }),
            "well");
}

TEST_F(LogRightsTest, ASegmentThatMayOnlyBeReadIsServedAndIsNotOutlivedByWhatOutranksIt) {
  give_to_root(0644);
  EXPECT_EQ(
      as_nobody([this] {
        const auto store = open(spec());
        ASSERT_NE(store, nullptr);
        EXPECT_NE(store->reasons().find("segment-0000002 can only be read"), std::string::npos)
            << store->reasons();
        EXPECT_EQ(store->present(0, kKeys), numbers(0, kKeys));
        outrank_all(*store);
        expect_nothing_old(*store);
        EXPECT_LT(go_round(*store), 900) << "the ring does not go over what it cannot write";
        EXPECT_NE(store->reasons().find("cannot be used again"), std::string::npos)
            << store->reasons();
        expect_nothing_old(*store);
      }),
      "well");
  give_back();
  EXPECT_EQ(as_nobody([this] {
              const auto store = open(spec());
              ASSERT_NE(store, nullptr);
              EXPECT_EQ(store->reasons(), "");
              expect_nothing_old(*store);
              EXPECT_EQ(go_round(*store), 1000);
              expect_nothing_old(*store);
            }),
            "well");
}

TEST_F(LogRightsTest, ASegmentThatBecomesWritableIsUsedAgainWithoutARestart) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  give_to_root(0644);
  const ::pid_t child = ::fork();
  if (child == 0) {
    if (!become_nobody()) ::_exit(2);
    auto store = open(spec());
    if (store == nullptr) ::_exit(3);
    outrank_all(*store);
    if (::write(ends[1], "x", 1) != 1) ::_exit(4);  // Opened: now the owner mends it.
    while (go_round(*store) < 1000 && !HasFailure()) {
    }
    expect_nothing_old(*store);
    if (store->reasons().find("segment-") != std::string::npos) ::_exit(5);
    store.reset();
    ::_exit(HasFailure() ? 1 : 0);
  }
  char opened = 0;
  ASSERT_EQ(::read(ends[0], &opened, 1), 1);
  give_back();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  expect_nothing_old(*store);
}

TEST_F(LogDamageTest, WithTooFewDescriptorsTheOpenIsRefusedAndNothingIsLost) {
  make_store(200);
  const std::string text = in_child([this]() -> std::string {
    constexpr ::rlim_t kDescriptorsMax = 4096;
    std::string said;
    bool has_opened = false;
    for (::rlim_t descriptors = 0; descriptors < kDescriptorsMax && !has_opened; ++descriptors) {
      const rlimit limit{.rlim_cur = descriptors, .rlim_max = kDescriptorsMax};
      if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return "cannot set the limit";
      auto connector = registry().open(spec());
      if (!connector) {
        if (connector.error().text.find("ulimit -n") == std::string::npos) {
          said += connector.error().text + "\n";
        }
        continue;
      }
      has_opened = true;
      Store store{std::move(*connector)};
      if (!store.reasons().empty()) said += "opened, but: " + store.reasons();
      if (store.present(0, 200) != numbers(0, 200)) said += "something is lost\n";
    }
    if (!has_opened) said += "never opened\n";
    return said;
  });
  EXPECT_EQ(text, "");
}

TEST_F(LogDamageTest, WithoutMemoryForStagingTheOpenIsRefused) {
  if (testing::kHasShadowMemory) {
    GTEST_SKIP() << "SKIPPED (needs a bound on address space, which a sanitizer's shadow exceeds)";
  }
  const std::string text = in_child([this]() -> std::string {
    const rlimit limit{.rlim_cur = std::uint64_t{1} << 30, .rlim_max = std::uint64_t{1} << 30};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) return "cannot set the limit";
    return refusal(spec("32MiB", "&staging=4GiB")).text;
  });
  for (const std::string part : {"staging=4GiB", "ulimit -v", "lower staging"}) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

// --- Opens with something of another time ------------------------------------------------------

TEST_F(LogDamageTest, AnOlderSuperblockIsNoticedAndOutranksNothing) {
  constexpr int kKeys = 20;
  make_store(kKeys);
  fs::copy_file(file("superblock"), path_ + "-backup");
  for (const std::size_t bytes : {std::size_t{200}, std::size_t{300}}) {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    for (int i = 0; i < kKeys; ++i) store->set(key_of(i), bytes);
  }
  fs::copy_file(path_ + "-backup", file("superblock"), fs::copy_options::overwrite_existing);
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_NE(store->reasons().find("the superblock is older than the segments"), std::string::npos)
        << store->reasons();
    for (int i = 0; i < kKeys; ++i) EXPECT_TRUE(store->has(key_of(i), 300)) << i;
    for (int i = 0; i < kKeys / 2; ++i) store->set(key_of(i), 400);
    for (int i = kKeys / 2; i < kKeys; ++i) ASSERT_TRUE(store->client().remove(key_of(i)));
  }
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->reasons(), "");
  for (int i = 0; i < kKeys / 2; ++i) EXPECT_TRUE(store->has(key_of(i), 400)) << i;
  for (int i = kKeys / 2; i < kKeys; ++i) EXPECT_FALSE(store->has(key_of(i))) << i;
}

TEST_F(LogDamageTest, AValueAboveTodaysMaxValueIsStillServed) {
  make_store(20);
  const std::string smaller =
      "log:" + path_ + "?capacity=32MiB&segment=1MiB&max_value=4KiB" + "&min_free=0";
  {
    const auto store = open(smaller);
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->present(0, 20), numbers(0, 20));
    EXPECT_EQ(store->client().set("new", value_of("new")).error().code(),
              ErrorCode::kInvalidArgument);
    // Around the ring: the larger ones were read, and are moved or dropped.
    for (int i = 0; i < 9000; ++i) {
      ASSERT_TRUE(store->client().set("small-" + std::to_string(i), value_of("x", 4000))) << i;
      if (i % 100 == 0) store->present(0, 20);
    }
    store->present(0, 20);
  }
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  store->present(0, 20);
}

}  // namespace
}  // namespace larder::log_store
