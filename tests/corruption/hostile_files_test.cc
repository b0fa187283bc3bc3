// Segment files that are no longer what larder made: of another length, of another kind, or in two
// places. On a real directory, through the registry.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/format/geometry.h"
#include "larder/connectors/log/log_connector_test_support.h"
#include "tests/corruption/golden_image.h"

namespace larder::log_store {
namespace {

constexpr int kKeys = 60;
constexpr std::uint32_t kDamaged = 1;  // The second of five segments.
/// More than the store holds, so that every segment is used again.
constexpr int kNewKeys = 500;
constexpr int kNewKeysKept = 60;

class HostileFilesTest : public LogConnectorTest {
 protected:
  /// A store of kKeys keys, each stored once, with the damaged segment's keys in damaged_.
  void make() {
    fs::remove_all(path_);
    damaged_.clear();
    make_store(kKeys);
    const auto map = corruption::StoreMap::make(corruption::load_image(path_));
    ASSERT_TRUE(map.has_value()) << map.error().text;
    for (const corruption::RecordInMap& record : map->records()) {
      if (map->segments()[record.segment].number != kDamaged) continue;
      damaged_.insert(record.keys.begin(), record.keys.end());
    }
    ASSERT_GT(damaged_.size(), 5U);
    ASSERT_LT(damaged_.size(), 20U);
    full_bytes_ = fs::file_size(segment(kDamaged));
  }

  /// Opens the store, reads all keys and looks for `reason` in the report. How many of the damaged
  /// segment's are left; all of the others must be.
  std::size_t open_and_count(Store& store, const std::string& reason) const {
    const std::string said = store.reasons();
    if (reason.empty()) {
      EXPECT_EQ(said, "");
    } else {
      EXPECT_NE(said.find(reason), std::string::npos) << said;
      EXPECT_EQ(store.report().health, Health::kDegraded);
    }
    std::size_t left = 0;
    for (int i = 0; i < kKeys; ++i) {
      const bool is_there = store.has(key_of(i));
      if (damaged_.contains(key_of(i))) {
        left += is_there ? 1 : 0;
      } else {
        EXPECT_TRUE(is_there) << key_of(i);
      }
    }
    return left;
  }
  /// Fills the store until every segment was used again: it goes on, within its capacity.
  void go_on(Store& store) const {
    store.fill(kKeys, kKeys + kNewKeys);
    expect_newest(store);
  }
  void expect_newest(Store& store) const {
    const int first_kept = kKeys + kNewKeys - kNewKeysKept;
    EXPECT_EQ(store.present(first_kept, kKeys + kNewKeys), numbers(first_kept, kKeys + kNewKeys));
  }
  void expect_healed() const {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->reasons(), "");
    expect_newest(*store);
  }

  std::set<std::string> damaged_;
  std::uint64_t full_bytes_ = 0;
};

TEST_F(HostileFilesTest, AShorterSegmentFileServesWhatIsLeftAndIsReported) {
  constexpr std::uint64_t kGrain = 4096;
  struct Length {
    std::uint64_t bytes = 0;
    const char* reason = "";
    bool keeps_some = false;
    bool keeps_all = false;
  };
  make();
  const std::vector<Length> lengths = {
      {.bytes = 0, .reason = "1 segment file of 6 went since the store was closed"},
      // Its only byte may come back as a zero once, and then there is no header to set aside.
      {.bytes = 1, .reason = "1 segment file of 6 went since the store was closed"},
      {.bytes = kSegmentHeaderUsedBytes / 2, .reason = "segment-0000001 was set aside"},
      {.bytes = kSegmentHeaderUsedBytes, .reason = "segment-0000001 was cut short"},
      {.bytes = kGrain, .reason = "segment-0000001 was cut short"},
      {.bytes = kGrain + 1, .reason = "segment-0000001 was cut short"},
      {.bytes = full_bytes_ / 2, .reason = "segment-0000001 was cut short", .keeps_some = true},
      {.bytes = full_bytes_ - kGrain, .reason = "segment-0000001 was cut short", .keeps_all = true},
      {.bytes = full_bytes_ - 1, .reason = "segment-0000001 was cut short", .keeps_all = true},
  };
  for (const Length& length : lengths) {
    SCOPED_TRACE("cut to " + std::to_string(length.bytes) + " bytes");
    make();
    fs::resize_file(segment(kDamaged), length.bytes);
    {
      const auto store = open(spec());
      ASSERT_NE(store, nullptr);
      const std::size_t left = open_and_count(*store, length.reason);
      EXPECT_EQ(left == damaged_.size(), length.keeps_all);
      EXPECT_EQ(left > 0, length.keeps_all || length.keeps_some);
      EXPECT_EQ(fs::file_size(segment(kDamaged)), full_bytes_);
      go_on(*store);
    }
    expect_healed();
  }
}

TEST_F(HostileFilesTest, ALongerSegmentFileServesAllAndIsReported) {
  make();
  for (const std::uint64_t more : {std::uint64_t{1}, std::uint64_t{4096}, 8 * full_bytes_}) {
    SCOPED_TRACE(std::to_string(more) + " bytes longer");
    make();
    fs::resize_file(segment(kDamaged), full_bytes_ + more);
    overwrite(segment(kDamaged), full_bytes_,
              garbage(static_cast<std::size_t>(std::min<std::uint64_t>(more, 4096))));
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(open_and_count(*store, "segment-0000001 is longer than a segment"), damaged_.size());
    go_on(*store);
  }
}

TEST_F(HostileFilesTest, WhatIsNoRegularFileIsNotOpenedAndReported) {
  using Make = void (*)(const std::string& name, const std::string& other);
  const std::vector<std::pair<const char*, Make>> kinds = {
      {"a directory",
       [](const std::string& name, const std::string&) { fs::create_directory(name); }},
      {"a FIFO", [](const std::string& name,
                    const std::string&) { ASSERT_EQ(::mkfifo(name.c_str(), 0600), 0); }},
      {"a link to another segment",
       [](const std::string& name, const std::string& other) { fs::create_symlink(other, name); }},
      {"a link to an endless device",
       [](const std::string& name, const std::string&) { fs::create_symlink("/dev/zero", name); }},
      {"a link to nothing",
       [](const std::string& name, const std::string&) { fs::create_symlink("/nowhere", name); }},
  };
  for (const auto& [what, make_kind] : kinds) {
    SCOPED_TRACE(what);
    make();
    fs::remove(segment(kDamaged));
    make_kind(segment(kDamaged), segment(2));
    {
      const auto store = open(spec());
      ASSERT_NE(store, nullptr);
      EXPECT_EQ(open_and_count(*store, "segment-0000001 cannot be opened"), 0U);
      go_on(*store);
      EXPECT_FALSE(fs::is_regular_file(fs::symlink_status(segment(kDamaged))));
    }
    fs::remove_all(segment(kDamaged));
    expect_healed();
  }
}

/// Files with holes: a directory of some hundred KiB whose signed tables claim millions of entries.
TEST_F(HostileFilesTest, TablesThatTheirFilesCannotHoldTakeNoMemory) {
  constexpr std::uint32_t kSegments = 32;
  constexpr std::uint64_t kBytesMax = 64 * kMiB;
  Geometry geometry{.grain_bytes = 4096,
                    .segment_count = kSegments,
                    .slot_bytes = 64 * kMiB,
                    .segment_bytes = 63 * kMiB};
  Superblock superblock;
  superblock.grain_bytes = geometry.grain_bytes;
  superblock.segment_count = geometry.segment_count;
  superblock.slot_bytes = geometry.slot_bytes;
  superblock.segment_bytes = geometry.segment_bytes;
  superblock.open_count = 1;
  fs::create_directories(path_);
  std::vector<std::byte> grain(geometry.grain_bytes);
  const auto as_text = [&grain] {
    return std::string_view{reinterpret_cast<const char*>(grain.data()), grain.size()};
  };
  std::ofstream{file("superblock")}.close();
  fs::resize_file(file("superblock"), kSuperblockFileBytes);
  for (const std::uint64_t copy : {std::uint64_t{0}, kSuperblockCopyStride}) {
    ++superblock.sequence;
    encode_superblock(superblock, grain);
    overwrite(file("superblock"), copy, as_text());
  }
  TableTrailer trailer;
  trailer.entry_count = 1'900'000;  // 58 MiB of entries.
  trailer.append_offset = geometry.grain_bytes;
  trailer.open_count = 1;
  trailer.entries_offset =
      geometry.segment_bytes - table_bytes(trailer.entry_count, 0, geometry.grain_bytes);
  for (std::uint32_t number = 0; number < kSegments; ++number) {
    const Identity identity{.path_id = superblock.path_id,
                            .segment = number,
                            .generation = (std::uint64_t{1} << 32) + number + 1};
    std::ofstream{segment(number)}.close();
    fs::resize_file(segment(number), geometry.segment_bytes);
    encode_segment_header(identity, 0, superblock.secret, grain);
    overwrite(segment(number), 0, as_text());
    encode_table_trailer(trailer, identity, superblock.secret, grain);
    overwrite(segment(number), geometry.segment_bytes - geometry.grain_bytes, as_text());
  }
  ASSERT_LT(disk_usage(), 2 * kMiB) << "the file system keeps no holes";

  const std::string text = in_child([this]() -> std::string {
    rusage before{};
    ::getrusage(RUSAGE_SELF, &before);
    std::string said;
    {
      auto connector = registry().open("log:" + path_ + "?capacity=2GiB&max_value=1MiB&min_free=0");
      if (!connector) said = connector.error().text;
      if (connector && (*connector)->report().keys != 0) said = "there are keys";
      if (connector) (*connector)->stop(kNever).ignore("it is empty");
    }
    rusage after{};
    ::getrusage(RUSAGE_SELF, &after);
    const auto grown = static_cast<std::uint64_t>(after.ru_maxrss - before.ru_maxrss) * 1024;
    if (grown > kBytesMax) said += std::to_string(grown / kMiB) + " MiB were taken";
    return said;
  });
  EXPECT_EQ(text, "");
}

// One file under two numbers: the store overwrites itself, and finds it out on every read.
TEST_F(HostileFilesTest, ASegmentUnderTwoNumbersGivesNoWrongBytes) {
  make();
  fs::create_hard_link(segment(kDamaged), segment(20));
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_NE(store->reasons().find("segment-0000020 was set aside"), std::string::npos)
        << store->reasons();
    store->fill(kKeys, kKeys + kNewKeys);
    std::vector<std::byte> value(kValueBytes);
    int hits = 0;
    for (int i = 0; i < kKeys + kNewKeys; ++i) {
      const auto found = store->client().get_into(key_of(i), value);
      if (!found) {
        EXPECT_EQ(found.error().code(), ErrorCode::kCorruption) << key_of(i);
      } else if (*found) {
        EXPECT_EQ(value, value_of(key_of(i))) << key_of(i);
        ++hits;
      }
    }
    EXPECT_GT(hits, kNewKeysKept);
  }
  fs::remove(segment(20));
  {
    const auto store = open(spec());  // The file may be set aside once more, as number 20's.
    ASSERT_NE(store, nullptr);
    go_on(*store);
  }
  expect_healed();
}

TEST_F(HostileFilesTest, AFileOfTheHighestNumberThereIsCostsNothing) {
  make();
  const std::string highest = segment(kSegmentCountMax - 1);
  fs::copy_file(segment(kDamaged), highest);
  {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(open_and_count(*store, "segment-1048575 was set aside"), damaged_.size());
    go_on(*store);
  }
  expect_healed();
  EXPECT_LE(disk_usage(), 32 * kMiB);
}

TEST_F(HostileFilesTest, NamesThatAreAlmostThoseOfSegmentsAreReportedAndLeftAlone) {
  make();
  const std::vector<std::string> names = {
      "segment-000001",      "segment-00000001", "segment-000000x", "segment-9999999",
      "segment-0000001.old", "Segment-0000001",  "segment-+000001", "superblock.old"};
  for (const std::string& name : names) fs::copy_file(segment(kDamaged), file(name));
  const auto before = content();
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  for (const std::string& name : names) {
    EXPECT_NE(store->reasons().find("'" + name + "'"), std::string::npos) << store->reasons();
  }
  EXPECT_EQ(open_and_count(*store, "which is not larder's"), damaged_.size());
  go_on(*store);
  const auto after = content();
  for (const std::string& name : names) EXPECT_EQ(after.at(name), before.at(name)) << name;
}

}  // namespace
}  // namespace larder::log_store
