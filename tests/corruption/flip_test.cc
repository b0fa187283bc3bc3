// One bit turned over in every byte that means something: the store opens, every key is as the
// format says it must be, and no hit has other bytes than a record of its key.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/logging.h"
#include "tests/corruption/flips.h"

namespace larder::corruption {
namespace {

constexpr std::uint64_t kValueStride = 64;
/// Values have most bytes by far, and one is like the other: a default run takes every so manieth
/// of the flips that a full one makes.
constexpr std::uint64_t kShortRunShare = 16;
constexpr std::uint64_t kUnusedStride = 9973;

bool is_full_run() {
  const char* const text = std::getenv("LARDER_FULL");
  return text != nullptr && std::string_view{text} == "1";
}

/// Headers are many, too.
std::uint64_t stride_of_headers() {
  return is_full_run() ? 1 : 5;
}

/// Decides which bit of a byte is turned over; LARDER_SEED replays what a failure printed.
std::uint64_t seed() {
  const char* const text = std::getenv("LARDER_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

class FlipTest : public ::testing::TestWithParam<std::string> {
 protected:
  FlipTest() {
    set_log_level(LogLevel::kOff);
    auto golden = golden_image(GetParam());
    EXPECT_TRUE(golden.has_value()) << golden.error().text;
    if (!golden) return;
    golden_ = *golden;
    flipper_ = std::make_unique<Flipper>(golden_);
  }

  static bool is_first_version() { return GetParam().starts_with("v1"); }
  std::vector<Range> ranges_of(Part part) const {
    std::vector<Range> found;
    for (const Range& range : golden_->map.ranges()) {
      if (range.part == part) found.push_back(range);
    }
    return found;
  }

  /// Flips every `stride`-th byte of all parts, counted through all ranges.
  void flip_all(std::initializer_list<Part> parts, std::uint64_t stride = 1) {
    ASSERT_NE(flipper_, nullptr);
    for (const Part part : parts) {
      const std::vector<Range> ranges = ranges_of(part);
      ASSERT_FALSE(ranges.empty()) << "the store has no " << name_of(part);
      std::uint64_t skip = 0;
      for (const Range& range : ranges) {
        for (; skip < range.bytes; skip += stride) check(flipper_->flip(range, skip, seed()));
        skip -= range.bytes;
      }
    }
  }
  void check(const std::string& wrong) {
    if (wrong.empty()) return;
    ADD_FAILURE() << GetParam() << ": " << wrong << " (LARDER_SEED=" << seed() << ")";
    if (++failures_ == kFailuresMax) {
      print();
      FAIL() << "and so on";
    }
  }
  void print() const {
    const FlipCounts& counts = flipper_->counts();
    const double seconds =
        std::chrono::duration<double>{std::chrono::steady_clock::now() - begun_}.count();
    std::printf(
        "%s: %llu flips; %llu hits compared byte for byte (%llu of them older values), %llu "
        "misses, "
        "%llu failed loads, %llu set aside, %llu scanned; %.1f s, seed %llu\n",
        GetParam().c_str(), as_printed(counts.flips), as_printed(counts.hits),
        as_printed(counts.older_values), as_printed(counts.misses), as_printed(counts.failed_loads),
        as_printed(counts.set_aside), as_printed(counts.scanned), seconds, as_printed(seed()));
  }
  const FlipCounts& counts() const { return flipper_->counts(); }

  static unsigned long long as_printed(std::uint64_t number) { return number; }

  static constexpr int kFailuresMax = 10;
  std::shared_ptr<const GoldenImage> golden_;
  std::unique_ptr<Flipper> flipper_;
  int failures_ = 0;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

TEST_P(FlipTest, TheIntactStoreIsAsItsMapAndItsManifestSay) {
  ASSERT_NE(flipper_, nullptr);
  EXPECT_EQ(flipper_->check_intact(), "");
  // The map covers every byte once, and the stores have everything that can be damaged.
  std::array<std::uint64_t, kPartCount> bytes{};
  std::string file;
  std::uint64_t end = 0;
  for (const Range& range : golden_->map.ranges()) {
    if (range.file != file) end = 0;
    file = range.file;
    EXPECT_EQ(range.offset, end) << file;
    end = range.offset + range.bytes;
    bytes[static_cast<std::size_t>(range.part)] += range.bytes;
  }
  for (std::size_t i = 0; i < kPartCount; ++i) {
    const bool is_there = !is_first_version() || static_cast<Part>(i) != Part::kPackHeader;
    EXPECT_EQ(bytes[i] > 0, is_there) << name_of(static_cast<Part>(i));
    std::printf("%s: %llu bytes of %s\n", GetParam().c_str(), as_printed(bytes[i]),
                std::string{name_of(static_cast<Part>(i))}.c_str());
  }
  EXPECT_GT(counts().misses, 0U) << "no deleted key";
}

TEST_P(FlipTest, OneCopyOfTheSuperblockCostsNothing) {
  flip_all({Part::kSuperblock});
  print();
  EXPECT_EQ(counts().flips, 2 * log_store::kSuperblockUsedBytes);
  EXPECT_EQ(counts().failed_loads + counts().older_values + counts().scanned, 0U);
}

TEST_P(FlipTest, BothCopiesOfTheSuperblockAreARefusalThatTouchesNothing) {
  ASSERT_NE(flipper_, nullptr);
  for (std::uint64_t at = 0; at < log_store::kSuperblockUsedBytes; ++at) {
    check(flipper_->flip_both_superblocks(at, seed()));
  }
  print();
}

TEST_P(FlipTest, ASegmentHeaderCostsItsSegmentAndNoOther) {
  flip_all({Part::kSegmentHeader});
  print();
  EXPECT_EQ(counts().set_aside, counts().flips);
}

TEST_P(FlipTest, ARecordHeaderCostsItsKeyAndNoOther) {
  flip_all({Part::kRecordHeader}, stride_of_headers());
  print();
  EXPECT_GT(counts().failed_loads, 0U);
}

// A load of a packed value does not read the header. Without a table its values never were.
TEST_P(FlipTest, APackHeaderCostsNothingWhereATableTellsOfItsValues) {
  if (is_first_version()) {
    EXPECT_TRUE(ranges_of(Part::kPackHeader).empty());
    return;
  }
  flip_all({Part::kPackHeader}, stride_of_headers());
  print();
  EXPECT_EQ(counts().failed_loads, 0U);
  EXPECT_GT(counts().hits, 0U);
}

TEST_P(FlipTest, ATombstoneGrainCostsNothingWhereATableTellsOfIt) {
  flip_all({Part::kTombstones});
  print();
}

TEST_P(FlipTest, ATableCostsNothing) {
  flip_all({Part::kTableEntries, Part::kTableKeys, Part::kTableTrailer});
  print();
  EXPECT_EQ(counts().failed_loads + counts().older_values, 0U);
  EXPECT_GT(counts().scanned, 0U);
}

TEST_P(FlipTest, AValueCostsItsKeyAndNoOther) {
  flip_all({Part::kValue}, is_full_run() ? kValueStride : kValueStride * kShortRunShare);
  if (!is_full_run()) {
    std::printf("every %lluth of the flips of a full run (LARDER_FULL=1)\n",
                as_printed(kShortRunShare));
  }
  print();
  EXPECT_GT(counts().failed_loads, 0U);
}

TEST_P(FlipTest, WhatNothingWasWrittenToCostsNothing) {
  ASSERT_NE(flipper_, nullptr);
  // What stands right behind something, and some of the rest.
  for (const Range& range : ranges_of(Part::kUnused)) check(flipper_->flip(range, 0, seed()));
  flip_all({Part::kUnused}, kUnusedStride);
  print();
  EXPECT_EQ(counts().failed_loads + counts().older_values + counts().scanned, 0U);
}

// What is compared is not what is there: the comparison can fail.
TEST_P(FlipTest, DamageThatTheMapDoesNotTellOfIsFound) {
  ASSERT_NE(flipper_, nullptr);
  for (const Part part : {Part::kSegmentHeader, Part::kTableTrailer}) {
    Range range = ranges_of(part).front();
    range.part = Part::kUnused;
    EXPECT_NE(flipper_->flip(range, 20, seed()), "") << name_of(part);
  }
  Range undamaged = ranges_of(Part::kUnused).front();
  undamaged.part = Part::kSegmentHeader;
  undamaged.segment = 0;
  EXPECT_NE(flipper_->flip(undamaged, 0, seed()), "");
}

INSTANTIATE_TEST_SUITE_P(Golden, FlipTest, ::testing::ValuesIn(kGoldenNames),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace larder::corruption
