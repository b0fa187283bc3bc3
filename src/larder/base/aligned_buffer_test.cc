#include "larder/base/aligned_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace larder {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

TEST(AlignedBufferTest, IsAlignedZeroedAndWritableAtEverySize) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{511}, std::size_t{4096}, kMiB - 1,
                                  kMiB, kMiB + 1, 2 * kMiB, 3 * kMiB + 5}) {
    for (const std::size_t alignment :
         {std::size_t{1}, std::size_t{64}, std::size_t{512}, std::size_t{4096}, kMiB, 8 * kMiB}) {
      auto buffer = AlignedBuffer::create(bytes, alignment);
      ASSERT_TRUE(buffer) << bytes << " " << alignment;
      EXPECT_EQ(buffer->size(), bytes);
      EXPECT_EQ(buffer->span().size(), bytes);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % alignment, 0U)
          << bytes << " " << alignment;
      EXPECT_TRUE(is_zero(buffer->span())) << bytes << " " << alignment;
      std::ranges::fill(buffer->span(), std::byte{0xFF});  // Sanitizers see whether it is all ours.
    }
  }
}

TEST(AlignedBufferTest, MemoryThatWasUsedBeforeIsZeroedToo) {
  for (int i = 0; i < 16; ++i) {
    auto buffer = AlignedBuffer::create(4096, 512);
    ASSERT_TRUE(buffer);
    ASSERT_TRUE(is_zero(buffer->span()));
    std::ranges::fill(buffer->span(), std::byte{0xFF});
  }
}

TEST(AlignedBufferTest, MovingKeepsTheAddressAndEmptiesTheSource) {
  for (const std::size_t bytes : {std::size_t{4096}, std::size_t{4} << 20}) {
    auto first = AlignedBuffer::create(bytes, 4096).value();
    auto second = AlignedBuffer::create(bytes, 4096).value();
    const std::byte* address = first.data();
    second = std::move(first);
    EXPECT_EQ(second.data(), address);
    const AlignedBuffer third{std::move(second)};
    EXPECT_EQ(third.data(), address);
    EXPECT_EQ(third.size(), bytes);
  }
}

TEST(AlignedBufferTest, NoBytesGiveAnEmptyBuffer) {
  const auto buffer = AlignedBuffer::create(0, 4096);
  ASSERT_TRUE(buffer);
  EXPECT_EQ(buffer->size(), 0U);
  EXPECT_TRUE(buffer->span().empty());
}

TEST(AlignedBufferTest, AnAlignmentThatIsNoPowerOfTwoIsRefused) {
  for (const std::size_t alignment : {0U, 3U, 4095U}) {
    const auto buffer = AlignedBuffer::create(4096, alignment);
    ASSERT_FALSE(buffer) << alignment;
    EXPECT_EQ(buffer.error().code(), ErrorCode::kInvalidArgument);
  }
}

TEST(AlignedBufferTest, MoreThanThereIsIsAnErrorThatMayPass) {
  for (const std::size_t bytes : {std::size_t{1} << 60, SIZE_MAX, SIZE_MAX - 4096}) {
    const auto buffer = AlignedBuffer::create(bytes, 4096);
    ASSERT_FALSE(buffer) << bytes;
    EXPECT_EQ(buffer.error().code(), ErrorCode::kResourceExhausted);
  }
}

}  // namespace
}  // namespace larder
