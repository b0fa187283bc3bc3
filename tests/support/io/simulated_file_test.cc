#include "tests/support/io/simulated_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace larder::io {
namespace {

constexpr std::size_t kSector = SimulatedFile::kSectorBytes;

std::vector<std::byte> sectors(std::size_t count, unsigned value) {
  return std::vector<std::byte>(count * kSector, static_cast<std::byte>(value));
}

/// The value of the first byte of a sector.
unsigned durable(const SimulatedFile& file, std::uint64_t sector) {
  std::byte value{};
  file.durable().read(sector * kSector, {&value, 1});
  return std::to_integer<unsigned>(value);
}

unsigned current(const SimulatedFile& file, std::uint64_t sector) {
  std::byte value{};
  file.current().read(sector * kSector, {&value, 1});
  return std::to_integer<unsigned>(value);
}

TEST(SimulatedFileTest, SyncMakesDurableWhatItCovers) {
  SimulatedFile file{1};
  file.write(0, sectors(2, 1));
  const std::uint64_t covered = file.last_write();
  const std::uint64_t bytes = file.bytes();
  file.write(kSector, sectors(2, 2));

  file.sync(covered, bytes);

  EXPECT_EQ(durable(file, 0), 1U);
  EXPECT_EQ(durable(file, 1), 1U);
  EXPECT_EQ(current(file, 1), 2U);
  EXPECT_EQ(file.durable_bytes(), 2 * kSector);
  EXPECT_EQ(file.unsynced().size(), 1U);
}

TEST(SimulatedFileTest, AbandonedWriteNeverComesBackOverALaterDurableOne) {
  SimulatedFile file{1};
  file.write(0, sectors(2, 1));
  EXPECT_EQ(file.abandon(file.last_write(), [] { return true; }), 1U);
  file.write(kSector, sectors(1, 2));
  file.sync(file.last_write(), file.bytes());
  EXPECT_EQ(durable(file, 0), 0U);  // The failed sync's write is still only in memory.
  EXPECT_EQ(durable(file, 1), 2U);
  EXPECT_EQ(current(file, 0), 1U);

  file.cut_power(true, [](const auto&, std::uint64_t) { return true; });

  EXPECT_EQ(current(file, 0), 1U);
  EXPECT_EQ(current(file, 1), 2U);
}

TEST(SimulatedFileTest, PowerCutKeepsTheSectorsThatAreChosen) {
  SimulatedFile file{1};
  file.write(0, sectors(4, 1));
  file.sync(file.last_write(), file.bytes());
  file.write(0, sectors(4, 2));

  file.cut_power(true, [](const auto&, std::uint64_t sector) { return sector % 2 == 1; });

  EXPECT_EQ(current(file, 0), 1U);
  EXPECT_EQ(current(file, 1), 2U);
  EXPECT_EQ(current(file, 2), 1U);
  EXPECT_EQ(current(file, 3), 2U);
  EXPECT_TRUE(file.unsynced().empty());
}

TEST(SimulatedFileTest, PowerCutCanTakeAnUnsyncedLength) {
  SimulatedFile file{1};
  file.write(0, sectors(1, 1));
  file.sync(file.last_write(), file.bytes());
  file.write(kSector, sectors(1, 2));

  file.cut_power(false, [](const auto&, std::uint64_t) { return true; });

  EXPECT_EQ(file.bytes(), kSector);
  file.extend(2 * kSector);
  EXPECT_EQ(current(file, 1), 0U);  // Behind the old end nothing is left.
}

TEST(SimulatedFileTest, WritesSmallerThanASectorTakeTheWholeSectorAlong) {
  SimulatedFile file{1};
  file.write(10, std::vector<std::byte>(4, std::byte{1}));
  file.write(100, std::vector<std::byte>(4, std::byte{2}));
  // Only the second one survives, with the sector as it was then.
  std::uint64_t last = file.last_write();
  file.cut_power(true, [last](const auto& write, std::uint64_t) { return write.sequence == last; });
  std::vector<std::byte> bytes(104);
  file.current().read(0, bytes);
  EXPECT_EQ(bytes[10], std::byte{1});
  EXPECT_EQ(bytes[100], std::byte{2});
}

TEST(SimulatedFileTest, PatchIsDurableAndWinsOverUnsyncedWrites) {
  SimulatedFile file{1};
  file.write(0, sectors(2, 1));
  file.patch(5, std::vector<std::byte>(1, std::byte{9}));

  file.cut_power(true, [](const auto&, std::uint64_t) { return false; });

  EXPECT_EQ(current(file, 0), 1U);
  std::byte patched{};
  file.current().read(5, {&patched, 1});
  EXPECT_EQ(patched, std::byte{9});
  EXPECT_EQ(current(file, 1), 0U);  // Not touched by the patch, so lost.
}

TEST(SparseImageTest, CopiesAreIndependentAndTruncationLeavesZeros) {
  SparseImage image;
  image.write(4000, std::vector<std::byte>(5000, std::byte{1}));
  SparseImage copy = image;
  copy.write(4000, std::vector<std::byte>(1, std::byte{2}));
  image.truncate(5000);

  std::vector<std::byte> bytes(6000);
  image.read(3500, bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    ASSERT_EQ(bytes[i], (i >= 500 && i < 1500) ? std::byte{1} : std::byte{0}) << i;
  }
  copy.read(4000, bytes);
  EXPECT_EQ(bytes[0], std::byte{2});
  EXPECT_TRUE(std::all_of(bytes.begin() + 1, bytes.begin() + 5000,
                          [](std::byte byte) { return byte == std::byte{1}; }));
}

}  // namespace
}  // namespace larder::io
