#include "larder/connectors/log/offline/store_maker.h"

#include <sys/stat.h>

#include <utility>

#include "larder/base/unique_fd.h"
#include "larder/connectors/log/log_connector_test_support.h"
#include "larder/connectors/log/offline/inspection.h"

namespace larder::log_store {
namespace {

class StoreMakerTest : public LogConnectorTest {
 protected:
  StoreMakerTest() {
    fs::create_directory(path_);
    options_.path.capacity_bytes = 32 * kMiB;
    options_.path.segment_bytes = kMiB;
    options_.path.value_bytes_max = 65536;
    options_.device.directory = path_;
  }
  SetupResult<MadeStore> make() const {
    return make_new_store(options_, [](std::uint64_t, std::uint64_t) { return true; });
  }
  std::string store_id() const {
    const auto inspection = Inspection::open(path_);
    if (!inspection) ADD_FAILURE() << inspection.error().text;
    return inspection ? (*inspection)->facts().store_id : "";
  }
  /// `keys` of more than 440 are more than a turn of the ring.
  void expect_serves(int keys = 50) const {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->report().health, Health::kHealthy) << store->reasons();
    EXPECT_EQ(store->report().keys, 0U);
    store->fill(0, keys);
    EXPECT_GE(store->present(0, keys).size(), static_cast<std::size_t>(std::min(keys, 350)));
    EXPECT_LE(disk_usage(), 32 * kMiB);
  }

  MakeOptions options_;
};

/// How much of the file was written: space that was only allocated reads as a hole.
std::uint64_t written_bytes(const std::string& name) {
  const UniqueFd fd{::open(name.c_str(), O_RDONLY | O_CLOEXEC)};
  const off_t hole = ::lseek(fd.get(), 0, SEEK_HOLE);
  EXPECT_GE(hole, 0) << name;
  return static_cast<std::uint64_t>(hole);
}

TEST_F(StoreMakerTest, AMadeStoreIsServedAsAnyOther) {
  const auto made = make();
  ASSERT_TRUE(made.has_value()) << made.error().text;
  EXPECT_EQ(made->geometry.segment_count, 32U);
  EXPECT_EQ(made->written_bytes, 0U);
  EXPECT_FALSE(fs::exists(segment(0)));
  expect_serves();
}

TEST_F(StoreMakerTest, PrefillingWritesEverySegmentOnceWithinTheCapacity) {
  options_.is_prefilled = true;
  std::uint64_t last_done = 0;
  std::uint64_t last_total = 0;
  const auto made = make_new_store(options_, [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_GT(done, last_done);
    last_done = done;
    last_total = total;
    return true;
  });
  ASSERT_TRUE(made.has_value()) << made.error().text;
  EXPECT_EQ(made->written_bytes, 32 * made->geometry.segment_bytes);
  EXPECT_EQ(last_done, last_total);
  EXPECT_EQ(last_total, made->written_bytes);
  for (std::uint32_t i = 0; i < 32; ++i) {
    EXPECT_EQ(fs::file_size(segment(i)), made->geometry.segment_bytes);
    EXPECT_EQ(written_bytes(segment(i)), made->geometry.segment_bytes) << i;
  }
  EXPECT_LE(disk_usage(), 32 * kMiB);
  expect_serves(500);
}

TEST_F(StoreMakerTest, WhatIsNotPrefilledIsAllocatedOnly) {
  make_store(3);
  EXPECT_LT(written_bytes(segment(0)), fs::file_size(segment(0)));
}

TEST_F(StoreMakerTest, AStoreIsReplacedOnlyByForce) {
  make_store(40);
  const std::string before = store_id();
  const auto content_before = content();
  const auto refused = make();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  expect_names(refused.error(), {path_, "holds a store already, of", "--force"});
  EXPECT_EQ(content(), content_before);

  options_.is_forced = true;
  const auto made = make();
  ASSERT_TRUE(made.has_value()) << made.error().text;
  EXPECT_GT(made->segments_removed, 2U);
  EXPECT_NE(store_id(), before);
  expect_serves();
}

TEST_F(StoreMakerTest, ARunningStoreIsNotReplacedByForce) {
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  store->fill(0, 20);
  options_.is_forced = true;
  const auto refused = make();
  ASSERT_FALSE(refused.has_value());
  expect_names(refused.error(), {path_, "in use", "pid " + std::to_string(::getpid())});
  EXPECT_EQ(store->present(0, 20), numbers(0, 20));
}

TEST_F(StoreMakerTest, ForeignFilesAreRefusedAndByForceLeftWhereTheyAre) {
  std::ofstream{file("notes.txt")} << "mine";
  const auto refused = make();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  expect_names(refused.error(), {path_, "'notes.txt'", "--force"});
  EXPECT_FALSE(fs::exists(file("superblock")));

  options_.is_forced = true;
  const auto made = make();
  ASSERT_TRUE(made.has_value()) << made.error().text;
  EXPECT_EQ(fs::file_size(file("notes.txt")), 4U);
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  store->fill(0, 20);
  EXPECT_EQ(store->present(0, 20), numbers(0, 20));
}

TEST_F(StoreMakerTest, ADamagedStoreOfWhichNothingCanBeProvenIsReplacedByForce) {
  make_store(40);
  for (const std::uint64_t copy : {std::uint64_t{0}, kSuperblockCopyStride}) {
    overwrite(file("superblock"), copy, garbage(4096));
  }
  options_.is_forced = options_.is_prefilled = true;
  const auto made = make();
  ASSERT_TRUE(made.has_value()) << made.error().text;
  expect_serves();
}

TEST_F(StoreMakerTest, SegmentsWithoutASuperblockAreRefusedAndByForceRemoved) {
  make_store(40);
  fs::remove(file("superblock"));
  const auto refused = make();
  ASSERT_FALSE(refused.has_value());
  expect_names(refused.error(), {"'segment-0000000'", "--force"});
  options_.is_forced = true;
  ASSERT_TRUE(make().has_value());
  expect_serves();
}

TEST_F(StoreMakerTest, WhatDoesNotFitIsRefusedBeforeAnythingIsChanged) {
  make_store(10);
  const auto before = content();
  options_.is_forced = true;
  options_.path.capacity_bytes = 8 * kMiB;
  EXPECT_EQ(make().error().code, ErrorCode::kInvalidArgument);
  options_.path.capacity_bytes = std::uint64_t{1} << 50;
  options_.path.segment_bytes = std::uint64_t{1} << 33;
  options_.is_prefilled = true;
  const auto refused = make();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  expect_names(refused.error(), {path_, "all segments take", "lower capacity or min_free"});
  EXPECT_EQ(content(), before);
}

TEST_F(StoreMakerTest, AnInterruptedPrefillLeavesAGoodStore) {
  options_.is_prefilled = true;
  const auto interrupted = make_new_store(
      options_, [&](std::uint64_t done, std::uint64_t total) { return done < total / 4; });
  ASSERT_FALSE(interrupted.has_value());
  EXPECT_EQ(interrupted.error().code, ErrorCode::kCancelled);
  expect_names(interrupted.error(), {path_, "interrupted after 8 of 32 segments"});
  EXPECT_TRUE(fs::exists(segment(7)));
  EXPECT_FALSE(fs::exists(segment(8)));
  expect_serves();
}

/// Takes the superblock's place; the store's own is beside it as "kept".
const std::pair<const char*, void (*)(const std::string&)> kInTheWay[] = {
    {"a symbolic link", [](const std::string& path) { fs::create_symlink("kept", path); }},
    {"a dangling link", [](const std::string& path) { fs::create_symlink("nowhere", path); }},
    {"a FIFO", [](const std::string& path) { ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); }},
    {"a directory", [](const std::string& path) { fs::create_directory(path); }},
};

TEST_F(StoreMakerTest, ForceTouchesNothingWhereTheSuperblockCannotBeLocked) {
  for (const auto& [what, put] : kInTheWay) {
    const auto store = open(spec());
    ASSERT_NE(store, nullptr);
    store->fill(0, 20);
    fs::rename(file("superblock"), file("kept"));
    put(file("superblock"));
    options_.is_forced = true;
    const auto refused = make();
    ASSERT_FALSE(refused.has_value()) << what;
    expect_names(refused.error(), {path_, "regular file", "move that away"});
    EXPECT_TRUE(fs::exists(segment(0))) << what;
    EXPECT_EQ(store->present(0, 20), numbers(0, 20)) << what;
    fs::remove(file("superblock"));
    fs::rename(file("kept"), file("superblock"));
  }
}

TEST_F(StoreMakerTest, ASegmentThatCannotBeRemovedLeavesNothingOfTheOldStore) {
  make_store(100);
  fs::create_directory(file("segment-0000001.away"));
  fs::rename(segment(1), file("segment-0000001.away") + "/file");
  fs::rename(file("segment-0000001.away"), segment(1));  // A directory: unlink() refuses it.
  ASSERT_TRUE(fs::exists(segment(3)));
  options_.is_forced = true;
  const auto refused = make();
  ASSERT_FALSE(refused.has_value());
  expect_names(refused.error(), {path_, "cannot remove segment-0000001"});
  fs::remove_all(segment(1));
  const auto store = open(spec());
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->report().keys, 0U);
  store->fill(0, 50);
  EXPECT_EQ(store->present(0, 50), numbers(0, 50));
}

}  // namespace
}  // namespace larder::log_store
