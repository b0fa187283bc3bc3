#include "larder/connectors/fs/padding.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "larder/base/key_text.h"
#include "larder/connectors/fs/fs_test_support.h"

namespace larder::fs {
namespace {

constexpr std::uint64_t kSizes[] = {1,    7,    31,   32,   33,    4063,  4064,   4065,
                                    4095, 4096, 4097, 4128, 7'488, 8'191, 10'000, 100'001};

TEST(PaddingTest, ATrailerTellsItsLengthAndAnythingElseIsNone) {
  const Trailer trailer = trailer_of(7'488);
  EXPECT_EQ(parse_trailer(trailer, 8'192 + 32), 7'488U);
  EXPECT_EQ(parse_trailer(trailer, 8'192), std::nullopt) << "not at the end of such a file";
  EXPECT_EQ(parse_trailer(trailer, 4'096 + 32), std::nullopt) << "longer than its file";
  EXPECT_EQ(parse_trailer(Trailer{}, 8'192 + 32), std::nullopt);
  for (std::size_t byte = 0; byte < trailer.size(); ++byte) {
    Trailer flipped = trailer;
    flipped[byte] ^= std::byte{1};
    EXPECT_EQ(parse_trailer(flipped, 8'192 + 32), std::nullopt) << byte;
  }
}

TEST(PaddingTest, TheBytesOfATrailerStayAsTheyAre) {
  // Files outlive releases.
  EXPECT_EQ(hex_text(trailer_of(7'488)),
            "f16c6172646572207061646465640d0a401d00000000000018071d7a01c32b74");
}

class PaddedFilesTest : public ::testing::Test {
 protected:
  std::string path() const { return directory.path() + "/" + kFile; }
  testing::TemporaryDirectory directory;
};

TEST_F(PaddedFilesTest, WhatLmcachePaddedIsRead) {
  OpenFs fs{directory.path(), "use_odirect=yes"};
  for (const std::uint64_t size : kSizes) {
    const Bytes value = value_of(size, size);
    Bytes padded = value;
    padded.resize(padded_to(size, 4096), std::byte{0xAB});
    write_file(path(), padded);
    Bytes buffer(size);
    const auto found = fs.client->get_into(kKey, buffer);
    ASSERT_TRUE(found && *found) << size;
    EXPECT_EQ(**found, size);
    EXPECT_EQ(buffer, value);
    // The file does not tell which bytes are padding.
    EXPECT_EQ(*fs.client->exists(kKey), padded.size());
    fs.set(kKey, value_of(1, size), SetMode::kIfAbsent, true);
    EXPECT_EQ(content_of(path()), padded) << "LMCache's file was replaced";
  }
}

TEST_F(PaddedFilesTest, ValuesArePaddedForLmcacheAndKeepTheirLength) {
  for (const char* mode : {"use_odirect=yes", "use_odirect=yes&capacity=10MiB&exclusive=yes",
                           "use_odirect=yes&checksum=xattr", "use_odirect=yes&staged=yes"}) {
    OpenFs fs{directory.path(), mode};
    for (const std::uint64_t size : kSizes) {
      const Bytes value = value_of(size, size);
      fs.set(kKey, value, SetMode::kReplace);
      EXPECT_TRUE(fs.has(kKey, value)) << size;
      const Bytes content = content_of(path());
      const std::uint64_t padded = padded_to(size, 4096);
      ASSERT_GE(content.size(), padded) << "LMCache would not read it";
      EXPECT_EQ(content.size(), padded + (size == padded ? 0 : kTrailerBytes));
      EXPECT_TRUE(std::equal(value.begin(), value.end(), content.begin()));
      EXPECT_EQ(fs.connector->scan({}, 1)->entries.at(0).value_bytes, size);
      fs.set(kKey, value, SetMode::kIfAbsent, true);
    }
  }
}

TEST_F(PaddedFilesTest, WhatIsPaddedWithATrailerIsReadWithoutUseOdirectToo) {
  for (const std::uint64_t size : kSizes) {
    OpenFs{directory.path(), "use_odirect=yes"}.set(kKey, value_of(size, size), SetMode::kReplace);
    OpenFs fs{directory.path()};
    EXPECT_TRUE(fs.has(kKey, value_of(size, size))) << size;
    fs.set(kKey, value_of(1, size), SetMode::kIfAbsent, true);
    fs.set(kKey, value_of(2, size), SetMode::kReplace);
    EXPECT_EQ(content_of(path()), value_of(2, size)) << "and nothing is padded without it";
  }
}

TEST_F(PaddedFilesTest, AnotherLengthIsAMismatchAllTheSame) {
  OpenFs fs{directory.path(), "use_odirect=yes"};
  const auto expect_mismatch = [&](std::size_t asked) {
    Bytes buffer(asked);
    const auto found = fs.client->get_into(kKey, buffer);
    ASSERT_FALSE(found.has_value()) << asked;
    EXPECT_EQ(found.error().code(), ErrorCode::kSizeMismatch) << asked;
  };
  write_file(path(), value_of(1, 8'192));
  for (const std::size_t asked : {1U, 4'095U, 4'096U, 8'193U, 12'288U}) expect_mismatch(asked);
  // If the length is known, a wrong one is detected.
  fs.set(kKey, value_of(1, 7'488), SetMode::kReplace);
  for (const std::size_t asked : {7'487U, 7'489U, 8'192U, 8'224U}) expect_mismatch(asked);
  write_file(path(), value_of(1, 7'488));
  for (const std::size_t asked : {7'487U, 7'489U, 4'096U, 8'192U}) expect_mismatch(asked);
}

TEST_F(PaddedFilesTest, WithoutUseOdirectALongerFileIsAMismatch) {
  write_file(path(), value_of(1, 8'192));
  OpenFs fs{directory.path()};
  Bytes buffer(7'488);
  EXPECT_EQ(fs.client->get_into(kKey, buffer).error().code(), ErrorCode::kSizeMismatch);
}

TEST_F(PaddedFilesTest, ValuesThatLookPaddedAreNotTakenForShorterOnes) {
  for (const char* mode : {"use_odirect=no", "use_odirect=yes"}) {
    OpenFs fs{directory.path(), mode};
    for (const std::uint64_t told : {1U, 4'096U, 7'488U, 8'192U}) {
      Bytes value = value_of(told, 8'192 + kTrailerBytes);
      std::ranges::copy(trailer_of(told), value.end() - kTrailerBytes);
      fs.set(kKey, value, SetMode::kReplace);
      EXPECT_TRUE(fs.has(kKey, value)) << told;
    }
    // Only the length looks so.
    fs.set(kKey, value_of(3, 8'192 + kTrailerBytes), SetMode::kReplace);
    EXPECT_TRUE(fs.has(kKey, value_of(3, 8'192 + kTrailerBytes)));
  }
}

TEST_F(PaddedFilesTest, AnotherAlignmentIsAParameter) {
  OpenFs fs{directory.path(), "use_odirect=yes&l1_align_bytes=64KiB"};
  for (const std::uint64_t size : {7'488U, 8'192U, 65'536U, 65'537U}) {
    fs.set(kKey, value_of(size, size), SetMode::kReplace);
    EXPECT_TRUE(fs.has(kKey, value_of(size, size))) << size;
    const std::uint64_t padded = padded_to(size, 65'536);
    EXPECT_EQ(content_of(path()).size(), padded + (size == padded ? 0 : kTrailerBytes));
    write_file(path(), value_of(size, padded));
    Bytes buffer(size);
    EXPECT_TRUE(fs.client->get_into(kKey, buffer).value().has_value()) << size;
  }
  // 8192 bytes, and known to be: not 7488 that were padded.
  fs.set(kKey, value_of(1, 8'192), SetMode::kReplace);
  OpenFs other{directory.path(), "use_odirect=yes"};
  Bytes buffer(7'488);
  EXPECT_EQ(other.client->get_into(kKey, buffer).error().code(), ErrorCode::kSizeMismatch);
}

TEST_F(PaddedFilesTest, ALengthThatCannotBeReadIsNotTold) {
  std::string skipped;
  const auto disk = faulty(skipped);
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  OpenFs fs{disk->path(), "use_odirect=yes"};
  fs.set(kKey, value_of(1, 7'488));
  disk->fail(testing::kReads, EIO);
  EXPECT_EQ(fs.client->exists(kKey).error().sys_errno(), EIO);
  disk->fail(testing::kFileOpens, EACCES);
  EXPECT_EQ(fs.client->exists(kKey).error().sys_errno(), EACCES);
  EXPECT_TRUE(fs.connector->scan({}, 10)->entries.empty());
  disk->heal();
  EXPECT_TRUE(fs.has(kKey, value_of(1, 7'488)));
}

}  // namespace
}  // namespace larder::fs
