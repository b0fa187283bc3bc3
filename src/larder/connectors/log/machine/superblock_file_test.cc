#include "larder/connectors/log/machine/superblock_file.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "larder/connectors/log/format/file_names.h"
#include "tests/support/io/simulated_device.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

/// A simulated disk and the superblock's file on it, for one owner after the other.
class SuperblockFileTest : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  struct Owner {
    std::unique_ptr<io::SimulatedDevice> device;
    std::unique_ptr<SuperblockFile> file;
  };

  Owner mount() {
    Owner owner{.device = disk_.mount(), .file = nullptr};
    owner.file = std::make_unique<SuperblockFile>(*owner.device, *owner.device, clock_, "/data/kv");
    return owner;
  }
  Geometry geometry() const {
    const auto made = make_geometry({.capacity_bytes = std::uint64_t{1} << 30,
                                     .value_bytes_max = 1U << 20,
                                     .offset_alignment = GetParam()});
    EXPECT_TRUE(made.has_value());
    return *made;
  }
  Superblock make() {
    Owner owner = mount();
    auto made = owner.file->create(geometry(), 77);
    EXPECT_TRUE(made.has_value()) << made.error().text;
    return *made;
  }
  void damage(std::uint64_t offset) { disk_.flip_bit(kSuperblockFileName, offset, 3); }

  ManualClock clock_;
  io::SimulatedDisk disk_{{.alignment = {GetParam(), GetParam()}}, clock_};
};

TEST_P(SuperblockFileTest, WhatWasMadeIsOpenedAgain) {
  const Superblock made = make();
  EXPECT_EQ(made.grain_bytes, std::max(4096U, GetParam()));
  EXPECT_EQ(made.open_count, 0U);
  EXPECT_FALSE(made.is_clean);
  EXPECT_NE(made.store_id, made.path_id);
  Owner owner = mount();
  const auto opened = owner.file->open(0);
  ASSERT_TRUE(opened.has_value()) << opened.error().text;
  EXPECT_EQ(opened->store_id, made.store_id);
  EXPECT_EQ(opened->path_id, made.path_id);
  EXPECT_EQ(opened->sequence, 2U);
  EXPECT_EQ(opened->segment_bytes, made.segment_bytes);
}

TEST_P(SuperblockFileTest, TheNewerCopyCountsAndTheOlderOneIsEnough) {
  Superblock superblock = make();
  {
    Owner owner = mount();
    ASSERT_TRUE(owner.file->open(0).has_value());
    superblock.open_count = 9;
    ASSERT_TRUE(owner.file->write(superblock).has_value());
  }
  EXPECT_EQ(superblock.sequence, 4U);
  for (const std::uint64_t newer_first : {kSuperblockCopyStride, std::uint64_t{0}}) {
    Owner owner = mount();
    auto opened = owner.file->open(0);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    EXPECT_EQ(opened->open_count, 9U);
    if (newer_first == 0) break;
    damage(newer_first + 100);
  }
  Owner owner = mount();
  EXPECT_EQ(owner.file->open(0)->sequence, 3U);
}

TEST_P(SuperblockFileTest, WithBothCopiesDamagedItIsRefusedAndNotBlank) {
  make();
  damage(100);
  damage(kSuperblockCopyStride + 100);
  Owner owner = mount();
  const auto opened = owner.file->open(0);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ErrorCode::kCorruption);
  EXPECT_FALSE(owner.file->is_blank());
}

TEST_P(SuperblockFileTest, AFileThatWasNeverWrittenIsBlankAndCanBeFilled) {
  // A full disk may give less than was asked for.
  for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{4096}, kSuperblockCopyStride,
                                    kSuperblockCopyStride + 4096, kSuperblockFileBytes}) {
    SCOPED_TRACE(bytes);
    {
      const auto device = disk_.mount();
      const auto file = device->open(kSuperblockFileName, io::OpenMode::kCreate);
      ASSERT_TRUE(file.has_value());
      if (bytes > 0) {
        ASSERT_TRUE(device->allocate(*file, bytes).has_value());
      }
    }
    {
      Owner owner = mount();
      ASSERT_FALSE(owner.file->open(0).has_value());
      ASSERT_TRUE(owner.file->is_blank());
      EXPECT_TRUE(owner.file->fill(geometry(), 77).has_value());
    }
    Owner owner = mount();
    EXPECT_TRUE(owner.file->open(0).has_value());
    EXPECT_FALSE(owner.file->is_blank());
    ASSERT_TRUE(owner.device->remove(kSuperblockFileName).has_value());
  }
}

TEST_P(SuperblockFileTest, IdsAndSecretsAreNotTheSameTwice) {
  Superblock first;
  {
    Owner owner = mount();
    const auto made = owner.file->create(geometry(), 0);  // From the kernel.
    ASSERT_TRUE(made.has_value());
    first = *made;
    ASSERT_TRUE(owner.device->remove(kSuperblockFileName).has_value());
  }
  Owner owner = mount();
  const auto second = owner.file->create(geometry(), 0);
  ASSERT_TRUE(second.has_value());
  EXPECT_NE(first.store_id, second->store_id);
  EXPECT_NE(first.path_id, second->path_id);
  EXPECT_NE(first.secret.k0, second->secret.k0);
  EXPECT_NE(first.secret.k1, second->secret.k1);
  EXPECT_NE(first.fingerprint_seed, second->fingerprint_seed);
}

TEST_P(SuperblockFileTest, TheNextOwnerIsToldWhoHasIt) {
  make();
  Owner owner = mount();
  ASSERT_TRUE(owner.file->open(0).has_value());
  owner.file->write_owner_note("pid 7 on host a");
  Owner next = mount();
  const std::uint64_t before_ns = clock_.now_ns();
  const auto opened = next.file->open(5 * kSecond);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(opened.error().text.find("(pid 7 on host a)"), std::string::npos)
      << opened.error().text;
  EXPECT_GE(clock_.now_ns(), before_ns + 5 * kSecond);
  EXPECT_LT(clock_.now_ns(), before_ns + 6 * kSecond);
}

TEST_P(SuperblockFileTest, ANoteThatIsNoTextIsNotPrinted) {
  make();
  Owner owner = mount();
  ASSERT_TRUE(owner.file->open(0).has_value());
  owner.file->write_owner_note("pid 7\x1b[2J");
  Owner next = mount();
  const auto opened = next.file->open(0);
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().text.find("(pid 7)"), std::string::npos) << opened.error().text;
  EXPECT_EQ(opened.error().text.find('\x1b'), std::string::npos);
}

TEST_P(SuperblockFileTest, ALongNoteIsCut) {
  make();
  Owner owner = mount();
  ASSERT_TRUE(owner.file->open(0).has_value());
  owner.file->write_owner_note(std::string(100'000, 'x'));
  Owner next = mount();
  const auto opened = next.file->open(0);
  ASSERT_FALSE(opened.has_value());
  EXPECT_LT(opened.error().text.size(), 500U);
}

TEST_P(SuperblockFileTest, AWriteThatFailsLeavesTheOnlyWholeCopy) {
  make();
  const std::vector<std::byte> nothing(kSuperblockUsedBytes);
  for (const std::uint64_t torn : {std::uint64_t{0}, kSuperblockCopyStride}) {
    const std::uint64_t whole = kSuperblockCopyStride - torn;
    const auto image = disk_.read_image(kSuperblockFileName, whole, kSuperblockUsedBytes);
    for (int i = 0; i < 20; ++i) {  // After a failed write, any part of it may be on the disk.
      disk_.write_image(kSuperblockFileName, torn, nothing);
      Owner owner = mount();
      auto opened = owner.file->open(0);
      ASSERT_TRUE(opened.has_value()) << opened.error().text;
      disk_.faults().write_error = 1;
      EXPECT_FALSE(owner.file->write(*opened).has_value());
      disk_.faults().write_error = 0;
      ASSERT_EQ(disk_.read_image(kSuperblockFileName, whole, kSuperblockUsedBytes), image) << torn;
    }
    disk_.write_image(kSuperblockFileName, torn, nothing);
    Owner owner = mount();
    auto opened = owner.file->open(0);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    EXPECT_TRUE(owner.file->write(*opened).has_value());
  }
}

TEST_P(SuperblockFileTest, ASyncThatFailsIsAnError) {
  Superblock superblock = make();
  Owner owner = mount();
  ASSERT_TRUE(owner.file->open(0).has_value());
  disk_.faults().sync_error = 1;
  const Status written = owner.file->write(superblock);
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code(), ErrorCode::kIo);
}

INSTANTIATE_TEST_SUITE_P(Alignments, SuperblockFileTest,
                         ::testing::Values(512, 4096, 16384, 65536));

}  // namespace
}  // namespace larder::log_store
