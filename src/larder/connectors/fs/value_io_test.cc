#include "larder/connectors/fs/value_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/base/unique_fd.h"
#include "tests/support/temporary_directory.h"

namespace larder::fs {
namespace {

using Bytes = std::vector<std::byte>;

/// A value cut into slices that begin `offset` bytes behind an aligned address.
struct Cut {
  Cut(std::size_t value_bytes, const std::vector<std::size_t>& pieces, std::size_t offset,
      std::size_t alignment) {
    auto made = AlignedBuffer::create(value_bytes + (pieces.size() + 2) * alignment + offset,
                                      std::max<std::size_t>(alignment, 4096));
    memory = std::move(*made);
    std::byte* at = memory.data() + offset;
    std::size_t left = value_bytes;
    for (std::size_t i = 0; left > 0; ++i) {
      const std::size_t bytes = i < pieces.size() ? std::min(pieces[i], left) : left;
      slices.push_back({at, bytes});
      left -= bytes;
      at += (bytes + alignment - 1) / alignment * alignment;
    }
  }
  void fill(const Bytes& value) {
    std::size_t at = 0;
    for (const Slice& slice : slices) {
      std::copy_n(value.begin() + static_cast<std::ptrdiff_t>(at), slice.bytes, slice.data);
      at += slice.bytes;
    }
  }
  Bytes joined() const {
    Bytes value;
    for (const Slice& slice : slices)
      value.insert(value.end(), slice.data, slice.data + slice.bytes);
    return value;
  }
  AlignedBuffer memory;
  std::vector<Slice> slices;
};

/// An alignment stricter than any local disk's stands for file systems with large blocks (GPFS):
/// the transfers must keep to it, whatever the file below would allow.
class ValueTransferTest : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  io::Alignment alignment() const { return {std::min(GetParam(), 4096U), GetParam()}; }
  testing::TemporaryDirectory directory;
};

TEST_P(ValueTransferTest, AnyLengthAndAnySlicesComeBack) {
  const std::size_t grain = GetParam();
  Random random{grain};
  StagingBuffer staging;
  FsCounters counters;
  const std::vector<std::size_t> sizes{
      0, 1, grain - 1, grain, grain + 1, 3 * grain, 5 * grain + 77, 4096, 10'000'000};
  for (const std::size_t size : sizes) {
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, std::size_t{64}}) {
      const std::vector<std::size_t> pieces{grain, 2 * grain, 1 + random.below(grain + 1)};
      Cut out{size, pieces, offset, grain};
      Bytes value(size);
      random.fill(value);
      out.fill(value);
      const UniqueFd fd{
          ::open((directory.path() + "/file").c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600)};
      ValueTransfer write{out.slices, size, alignment()};
      ASSERT_TRUE(write.write(fd.get(), staging, counters).has_value());
      struct stat status{};
      ASSERT_EQ(::fstat(fd.get(), &status), 0);
      ASSERT_EQ(static_cast<std::size_t>(status.st_size), size);

      Cut in{size, pieces, offset, grain};
      ValueTransfer read{in.slices, size, alignment()};
      EXPECT_EQ(read.straight_bytes() % grain, 0U);
      ASSERT_TRUE(read.read_straight(fd.get()).has_value());
      ASSERT_TRUE(read.read_rest(fd.get(), staging, counters).has_value());
      ASSERT_EQ(in.joined(), value) << size << " bytes, offset " << offset;
    }
  }
}

TEST_P(ValueTransferTest, OnlyWhatDoesNotFitIsCopied) {
  const std::size_t grain = GetParam();
  const UniqueFd fd{::open((directory.path() + "/file").c_str(), O_RDWR | O_CREAT, 0600)};
  StagingBuffer staging;
  FsCounters counters;
  Cut fitting{4 * grain, {grain, 3 * grain}, 0, grain};
  ASSERT_TRUE(ValueTransfer(fitting.slices, 4 * grain, alignment())
                  .write(fd.get(), staging, counters)
                  .has_value());
  EXPECT_EQ(counters.bytes_staged.load(), 0U);
  Cut tail{4 * grain + 5, {}, 0, grain};
  ASSERT_TRUE(ValueTransfer(tail.slices, 4 * grain + 5, alignment())
                  .write(fd.get(), staging, counters)
                  .has_value());
  EXPECT_EQ(counters.bytes_staged.load(), 5U);
}

TEST_P(ValueTransferTest, AFileThatBecameShorterIsNoticed) {
  const std::size_t grain = GetParam();
  const std::size_t size = 2 * grain + 100;
  StagingBuffer staging;
  FsCounters counters;
  Cut cut{size, {}, 0, grain};
  const UniqueFd fd{::open((directory.path() + "/file").c_str(), O_RDWR | O_CREAT, 0600)};
  ASSERT_TRUE(
      ValueTransfer(cut.slices, size, alignment()).write(fd.get(), staging, counters).has_value());
  for (const std::size_t left : {size - 1, 2 * grain, grain, std::size_t{0}}) {
    ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(left)), 0);
    ValueTransfer read{cut.slices, size, alignment()};
    Status status = read.read_straight(fd.get());
    if (status) status = read.read_rest(fd.get(), staging, counters);
    ASSERT_FALSE(status.has_value()) << left;
    EXPECT_EQ(status.error().code(), ErrorCode::kCorruption);
  }
}

INSTANTIATE_TEST_SUITE_P(Grains, ValueTransferTest,
                         ::testing::Values(512U, 4096U, 65'536U, 1U << 20, 8U << 20));

TEST(ValueTransferBufferedTest, EverythingGoesStraight) {
  Cut cut{100'000, {1, 50, 3000}, 3, 1};
  const ValueTransfer transfer{cut.slices, 100'000, io::Alignment{}};
  EXPECT_FALSE(transfer.has_rest());
}

}  // namespace
}  // namespace larder::fs
