#include "larder/connectors/log/offline/inspection.h"

#include <sys/mount.h>

#include "larder/connectors/log/log_connector_test_support.h"
#include "tests/support/loop_mount.h"

namespace larder::log_store {
namespace {

class InspectionTest : public LogConnectorTest {
 protected:
  /// Keys of the list, after a check that everything else in it is right too.
  std::vector<std::string> keys_of(Inspection& inspection) const {
    std::vector<std::string> keys;
    inspection.for_each_live([&](const LiveRecord& record) {
      keys.emplace_back(record.key);
      EXPECT_EQ(record.value_bytes, kValueBytes) << record.key;
      EXPECT_GT(record.wall_seconds, 1'700'000'000U) << record.key;
      EXPECT_GE(record.offset, 4096U);
      return true;
    });
    EXPECT_EQ(keys.size(), inspection.keys());
    return keys;
  }
  std::unique_ptr<Inspection> inspect() const {
    auto inspection = Inspection::open(path_);
    if (!inspection) ADD_FAILURE() << inspection.error().text;
    return inspection ? std::move(*inspection) : nullptr;
  }
  SetupError no_inspection() const {
    const auto inspection = Inspection::open(path_);
    EXPECT_FALSE(inspection.has_value());
    return inspection ? SetupError{} : inspection.error();
  }
  /// The result of verify(); it must count every live record.
  static std::vector<Damage> verify(Inspection& inspection) {
    std::vector<Damage> damaged;
    std::uint64_t records = 0;
    const Inspection::Verified verified =
        inspection.verify([&](const Damage& damage) { damaged.push_back(damage); },
                          [&](const LiveRecord&) {
                            ++records;
                            return true;
                          });
    EXPECT_EQ(verified.records, inspection.keys());
    EXPECT_EQ(verified.records, records);
    EXPECT_EQ(verified.damaged, damaged.size());
    EXPECT_FALSE(verified.was_interrupted);
    return damaged;
  }
  /// The location of a key's record.
  static std::pair<std::uint32_t, std::uint64_t> place_of(Inspection& inspection,
                                                          const std::string& key) {
    std::pair<std::uint32_t, std::uint64_t> place{};
    inspection.for_each_live([&](const LiveRecord& record) {
      if (record.key == key) place = {record.segment, record.offset};
      return true;
    });
    EXPECT_GT(place.second, 0U) << key;
    return place;
  }
  static void expect_says(const std::vector<Damage>& damage, const std::string& part) {
    std::string all;
    for (const Damage& one : damage) all += one.what + "\n";
    EXPECT_NE(all.find(part), std::string::npos) << "'" << part << "' in: " << all;
  }
};

std::vector<std::string> keys(int from, int to) {
  std::vector<std::string> all;
  for (int i = from; i < to; ++i) all.push_back(key_of(i));
  return all;
}

// --- What it shows ------------------------------------------------------------------------------

TEST_F(InspectionTest, TellsKeysAndGeometryInTheOrderOfTheLogAndWritesNothing) {
  make_store(60);
  const auto before = content();
  const auto written_at = fs::last_write_time(path_);
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  const StoreFacts& facts = inspection->facts();
  EXPECT_EQ(facts.store_id.size(), 32U);
  EXPECT_EQ(facts.grain_bytes, 4096U);
  EXPECT_EQ(facts.slot_bytes, kMiB);
  EXPECT_EQ(facts.segment_count, 32U);
  EXPECT_EQ(facts.capacity_bytes, 32 * kMiB);
  EXPECT_EQ(facts.open_count, 1U);
  EXPECT_TRUE(facts.is_clean);
  EXPECT_TRUE(inspection->damage().empty());
  EXPECT_EQ(keys_of(*inspection), keys(0, 60));
  EXPECT_TRUE(verify(*inspection).empty());
  EXPECT_EQ(content(), before);
  EXPECT_EQ(fs::last_write_time(path_), written_at);
}

TEST_F(InspectionTest, SegmentsAddUpAndAreInTheOrderOfTheirGenerations) {
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    store->fill(0, 60);
    store->fill(0, 10);  // Replaced: dead where they were.
    ASSERT_TRUE(store->client().remove(key_of(20)).has_value());
  }
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  const std::vector<SegmentFacts> segments = inspection->segments();
  EXPECT_EQ(segments.size(), inspection->facts().segment_files);
  std::uint64_t records = 0;
  std::uint64_t live = 0;
  std::uint64_t tombstones = 0;
  std::uint64_t generation = 0;
  int open_segments = 0;
  for (const SegmentFacts& segment : segments) {
    records += segment.records;
    live += segment.live_records;
    tombstones += segment.tombstones;
    open_segments += segment.finding == SegmentFinding::kOpen ? 1 : 0;
    if (segment.finding == SegmentFinding::kFree) continue;
    EXPECT_GT(segment.generation, generation);
    generation = segment.generation;
    EXPECT_LE(segment.live_bytes, segment.appended_bytes);
    EXPECT_EQ(segment.live_bytes, segment.live_records * 16 * 4096);
  }
  EXPECT_EQ(records, 70U);
  EXPECT_EQ(live, 59U);
  EXPECT_EQ(tombstones, 1U);
  EXPECT_EQ(open_segments, 1);
  EXPECT_EQ(segments.front().live_records, 4U);  // 14 a segment, of which 10 were replaced.
}

TEST_F(InspectionTest, ReplacedAndDeletedKeysAreNotListedAndTheLaterPlaceCounts) {
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    store->fill(0, 40);
    store->fill(5, 6);
    ASSERT_TRUE(store->client().remove(key_of(7)).has_value());
  }
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  std::vector<std::string> expected = keys(0, 40);
  std::erase(expected, key_of(7));
  std::erase(expected, key_of(5));
  expected.push_back(key_of(5));
  EXPECT_EQ(keys_of(*inspection), expected);
}

TEST_F(InspectionTest, AKilledStoreIsReadFromItsGrains) {
  run_and_kill(spec(), [](Store& store) { store.fill(0, 40); });
  const auto before = content();
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  EXPECT_FALSE(inspection->facts().is_clean);
  EXPECT_EQ(keys_of(*inspection), keys(0, 40));
  const std::vector<SegmentFacts> segments = inspection->segments();
  EXPECT_EQ(std::ranges::count(segments, SegmentFinding::kScanned, &SegmentFacts::finding), 1);
  EXPECT_TRUE(inspection->damage().empty());  // A kill is none.
  EXPECT_TRUE(verify(*inspection).empty());
  EXPECT_EQ(content(), before);
}

TEST_F(InspectionTest, AFullStoreShowsNoMoreAndNoLessThanItsNextOpenServes) {
  make_store(600);
  std::vector<std::string> shown;
  {
    const auto inspection = inspect();
    ASSERT_NE(inspection, nullptr);
    shown = keys_of(*inspection);
    EXPECT_TRUE(inspection->damage().empty());
  }
  EXPECT_GT(shown.size(), 300U);
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  // It is not going to wait with the next reclaim, which takes the oldest segment.
  constexpr std::size_t kReclaimed = 14;
  for (std::size_t i = kReclaimed; i < shown.size(); ++i) EXPECT_TRUE(store->has(shown[i]));
  EXPECT_LE(store->report().keys, shown.size());
}

TEST_F(InspectionTest, AValueIsGivenBackProvenAndAMissingOneIsNone) {
  make_store(30);
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  const auto value = inspection->read_value(key_of(17));
  ASSERT_TRUE(value.has_value() && value->has_value());
  EXPECT_TRUE(std::ranges::equal((*value)->span(), value_of(key_of(17))));
  const auto missing = inspection->read_value("nobody's");
  ASSERT_TRUE(missing.has_value());
  EXPECT_FALSE(missing->has_value());
}

TEST_F(InspectionTest, ValuesLongerThanTheWindowAndEmptyOnesAreProven) {
  const std::string roomy =
      "log:" + path_ + "?capacity=1GiB&segment=32MiB&max_value=20MiB&min_free=0";
  constexpr std::size_t kLong = (std::size_t{19} << 20) + 123;
  {
    const auto store = open(roomy);
    ASSERT_NE(store, nullptr);
    store->set("long", kLong);
    store->set("empty", 0);
    store->set("long too", kLong);
  }
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  EXPECT_TRUE(verify(*inspection).empty());
  const auto value = inspection->read_value("long too");
  ASSERT_TRUE(value.has_value() && value->has_value());
  EXPECT_TRUE(std::ranges::equal((*value)->span(), value_of("long too", kLong)));
  const auto [segment_number, offset] = place_of(*inspection, "long");
  overwrite(segment(segment_number), offset + kLong, "x");
  const std::vector<Damage> damage = verify(*inspection);
  ASSERT_EQ(damage.size(), 1U);
  EXPECT_EQ(damage[0].key, "long");
}

TEST_F(InspectionTest, TheWalkEndsWhenItsCallerHasEnough) {
  make_store(60);
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  int seen = 0;
  inspection->for_each_live([&](const LiveRecord&) { return ++seen < 20; });
  EXPECT_EQ(seen, 20);
  const auto verified = inspection->verify(
      [](const Damage&) {}, [&](const LiveRecord& record) { return record.key != key_of(4); });
  EXPECT_EQ(verified.records, 5U);
  EXPECT_TRUE(verified.was_interrupted);
}

// --- Damage -------------------------------------------------------------------------------------

TEST_F(InspectionTest, EachDamagedRecordIsNamedWithItsPlaceAndTheOthersAreProven) {
  make_store(60);
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  const auto [first, first_at] = place_of(*inspection, key_of(3));
  const auto [second, second_at] = place_of(*inspection, key_of(40));
  overwrite(segment(first), first_at + kValueBytes - 1, "\xff");  // The last byte.
  overwrite(segment(second), second_at, "damage");
  const std::vector<Damage> damage = verify(*inspection);
  ASSERT_EQ(damage.size(), 2U);
  EXPECT_EQ(damage[0].segment, first);
  EXPECT_EQ(damage[0].offset, first_at);
  EXPECT_EQ(damage[0].key, key_of(3));
  EXPECT_NE(damage[0].what.find("checksum"), std::string::npos) << damage[0].what;
  EXPECT_EQ(damage[1].segment, second);
  EXPECT_EQ(damage[1].offset, second_at);
  EXPECT_EQ(damage[1].key, key_of(40));
  EXPECT_NE(damage[1].what.find("checksum"), std::string::npos) << damage[1].what;
  const auto value = inspection->read_value(key_of(3));
  ASSERT_FALSE(value.has_value());
  EXPECT_NE(value.error().text.find("checksum"), std::string::npos);
}

TEST_F(InspectionTest, ADamagedHeaderIsFoundWhereALoadReadsIt) {
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    store->fill(0, 1);
    ASSERT_TRUE(store->client().set("empty", {}).has_value());
  }
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  const auto [packed, packed_at] = place_of(*inspection, key_of(0));
  const auto [empty, empty_at] = place_of(*inspection, "empty");
  overwrite(segment(packed), packed_at - 4096 + 100, "damage");  // A load needs the value alone.
  overwrite(segment(empty), empty_at + 100, "damage");           // The key in the header.
  const std::vector<Damage> damage = verify(*inspection);
  ASSERT_EQ(damage.size(), 1U);
  EXPECT_EQ(damage[0].key, "empty");
  EXPECT_EQ(damage[0].offset, empty_at);
  EXPECT_NE(damage[0].what.find("MAC"), std::string::npos) << damage[0].what;
}

TEST_F(InspectionTest, ADamagedCopyOfTheSuperblockIsReported) {
  make_store(20);
  overwrite(file("superblock"), kSuperblockCopyStride + 30, "damage");
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  EXPECT_EQ(keys_of(*inspection), keys(0, 20));
  expect_says(inspection->damage(), "one copy of the superblock, at 65536, is damaged");
}

TEST_F(InspectionTest, ADamagedSegmentHeaderAndAForeignFileAreReportedAndTheRestIsShown) {
  make_store(60);
  overwrite(segment(1), 0, garbage(4096));
  std::ofstream{file("notes.txt")} << "mine";
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  EXPECT_EQ(keys_of(*inspection).size(), 46U);
  expect_says(inspection->damage(), "segment-0000001 was set aside");
  expect_says(inspection->damage(), "notes.txt");
  const std::vector<SegmentFacts> segments = inspection->segments();
  const auto aside = std::ranges::find(segments, SegmentFinding::kSetAside, &SegmentFacts::finding);
  ASSERT_NE(aside, segments.end());
  EXPECT_EQ(aside->segment, 1U);
}

TEST_F(InspectionTest, ADamagedTableOfACleanStoreIsReportedAndItsRecordsAreFound) {
  make_store(60);
  overwrite(segment(1), fs::file_size(segment(1)) - 4096, garbage(4096));
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  EXPECT_EQ(keys_of(*inspection), keys(0, 60));
  ASSERT_EQ(inspection->damage().size(), 1U);
  EXPECT_EQ(inspection->damage()[0].segment, 1U);
  expect_says(inspection->damage(), "no table that counts");
}

TEST_F(InspectionTest, DamagedKeysInATableAreReportedOnceAndTheirRecordsAreStillProven) {
  make_store(60);
  overwrite(segment(1), fs::file_size(segment(1)) - 8192 + 3, "damage");
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  for (int i = 0; i < 2; ++i) {
    std::size_t nameless = 0;
    inspection->for_each_live([&](const LiveRecord& record) {
      nameless += record.key.empty() ? 1 : 0;
      return true;
    });
    EXPECT_EQ(nameless, 14U);
  }
  ASSERT_EQ(inspection->damage().size(), 1U);
  expect_says(inspection->damage(), "keys in its table cannot be read");
  EXPECT_TRUE(verify(*inspection).empty());
}

TEST_F(InspectionTest, ATruncatedSegmentShowsWhatIsLeftOfIt) {
  make_store(60);
  const std::uint64_t cut = fs::file_size(segment(1)) / 2 + 100;
  fs::resize_file(segment(1), cut);
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  const std::size_t shown = keys_of(*inspection).size();
  EXPECT_GT(shown, 50U);
  EXPECT_LT(shown, 60U);
  expect_says(inspection->damage(), "segment-0000001 was cut short");
  EXPECT_TRUE(verify(*inspection).empty());
  EXPECT_EQ(fs::file_size(segment(1)), cut);
}

// --- What it refuses ----------------------------------------------------------------------------

TEST_F(InspectionTest, ARunningStoreIsRefusedAndItsOwnerNamed) {
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  const SetupError error = no_inspection();
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  expect_names(error, {path_, "in use", "pid " + std::to_string(::getpid()) + " on host "});
}

TEST_F(InspectionTest, NobodyOpensTheStoreMeanwhile) {
  make_store(5);
  const auto inspection = inspect();
  ASSERT_NE(inspection, nullptr);
  const auto again = Inspection::open(path_);
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, ErrorCode::kUnavailable);
}

TEST_F(InspectionTest, ADirectoryWithoutAStoreIsRefusedForWhatItIs) {
  EXPECT_EQ(no_inspection().code, ErrorCode::kIo);  // There is none.
  fs::create_directory(path_);
  expect_names(no_inspection(), {path_, "holds no larder store", "is empty"});
  std::ofstream{file("notes.txt")} << "mine";
  expect_names(no_inspection(), {path_, "holds no larder store", "'notes.txt'"});
  const auto before = content();
  EXPECT_EQ(no_inspection().code, ErrorCode::kUnavailable);
  EXPECT_EQ(content(), before);
}

TEST_F(InspectionTest, ALaterFormatIsRefusedWithBothVersions) {
  make_store(5);
  for (const std::uint64_t copy : {std::uint64_t{0}, kSuperblockCopyStride}) {
    overwrite(file("superblock"), copy + 24, std::string_view{"\x03\0\0\0", 4});
  }
  const SetupError error = no_inspection();
  EXPECT_EQ(error.code, ErrorCode::kUnimplemented);
  expect_names(error, {"format version 3", "up to version 2"});
}

TEST_F(InspectionTest, AStoreOnAReadOnlyFileSystemIsShown) {
  auto loop = testing::LoopMount::create("ext4", 128 * kMiB, 512, false);
  if (!loop && loop.error().code == ErrorCode::kUnimplemented) {
    GTEST_SKIP() << "SKIPPED (" << loop.error().text << ")";
  }
  ASSERT_TRUE(loop.has_value()) << loop.error().text;
  const std::string there = (*loop)->path() + "/store";
  {
    const auto store =
        open("log:" + there + "?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0");
    ASSERT_NE(store, nullptr);
    store->fill(0, 20);
  }
  const Clock& clock = RealClock::instance();
  const std::uint64_t deadline_ns = clock.now_ns() + 10'000'000'000;
  // Busy until the kernel has released the files of the closed ring.
  while (::mount(nullptr, (*loop)->path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
    ASSERT_TRUE(errno == EBUSY && clock.now_ns() < deadline_ns) << std::strerror(errno);
  }
  auto inspection = Inspection::open(there);
  ASSERT_TRUE(inspection.has_value()) << inspection.error().text;
  EXPECT_EQ(keys_of(**inspection), keys(0, 20));
  EXPECT_TRUE(verify(**inspection).empty());
}

}  // namespace
}  // namespace larder::log_store
