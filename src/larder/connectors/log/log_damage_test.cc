// The log store through its door, on real directories: what a disk does to superblock and segments.
#include "larder/connectors/log/format.h"
#include "larder/connectors/log/inspection.h"
#include "larder/connectors/log/log_connector_test_support.h"

namespace larder::log_store {
namespace {

class LogDamageTest : public LogConnectorTest {};

// --- Superblock ---------------------------------------------------------------------------------

TEST_F(LogDamageTest, ALaterFormatIsRefusedWithBothVersionsAndNotTouched) {
  make_store(20);
  for (const std::uint64_t copy : {std::uint64_t{0}, kSuperblockCopyStride}) {
    overwrite(file("superblock"), copy + 24, std::string_view{"\x02\0\0\0", 4});
  }
  const auto before = content();
  const auto written_at = fs::last_write_time(file("superblock"));
  const SetupError error = refusal(spec());
  EXPECT_EQ(error.code, ErrorCode::kUnimplemented);
  expect_names(error, {path_, "format version 2", "up to version 1", "use a newer larder"});
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
    store->fill(0, 60);  // It goes on, and uses the space again.
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
  EXPECT_EQ(open(spec())->report().health, Health::kHealthy);  // It was said, and is over.
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

TEST_F(LogDamageTest, ASegmentFileThatCannotBeOpenedIsReportedAndCountsForTheCapacity) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a file to another user";
  constexpr std::uint32_t kLost = 5;  // More than the reserve of all slots together.
  make_store(100);
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chown(path_.c_str(), kNobody, kNobody), 0);
  for (const auto& entry : fs::directory_iterator{path_}) {
    ASSERT_EQ(::chown(entry.path().c_str(), kNobody, kNobody), 0);
  }
  for (std::uint32_t i = 0; i < kLost; ++i) ASSERT_EQ(::chown(segment(i).c_str(), 0, 0), 0);
  const std::string text = in_child([this]() -> std::string {
    if (!become_nobody()) return "cannot become nobody";
    const auto store = open(spec());
    if (store == nullptr) return "not opened";
    std::string said = store->reasons();
    if (store->present(0, 100).size() < 20) said += "too few are left\n";
    store->fill(100, 700);
    if (disk_usage() > 32 * kMiB) said += "over capacity\n";
    if (HasFailure()) said += "something failed\n";
    return said;
  });
  for (std::uint32_t i = 0; i < kLost; ++i) {
    EXPECT_NE(text.find(segment_file_name(i) + " cannot be opened"), std::string::npos) << text;
  }
  EXPECT_EQ(std::ranges::count(text, '\n'), kLost) << text;
}

}  // namespace
}  // namespace larder::log_store
