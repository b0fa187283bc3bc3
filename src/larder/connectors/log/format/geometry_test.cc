#include "larder/connectors/log/format/geometry.h"

#include <gtest/gtest.h>

#include <bit>
#include <optional>
#include <string>
#include <string_view>

#include "larder/base/random.h"
#include "larder/base/size_text.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
constexpr std::uint64_t kGiB = 1024 * kMiB;
constexpr std::uint64_t kTiB = 1024 * kGiB;

GeometryRequest request_of(std::uint64_t capacity_bytes, std::uint64_t value_bytes_max) {
  return {.capacity_bytes = capacity_bytes,
          .value_bytes_max = value_bytes_max,
          .offset_alignment = 512};
}

/// The number behind "choose ... `name`=" in an error text.
std::optional<std::uint64_t> advised(std::string_view text, const std::string& name) {
  const std::size_t choose = text.find("choose ");
  if (choose == std::string_view::npos) return std::nullopt;
  const std::size_t at = text.find(name + "=", choose);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view number = text.substr(at + name.size() + 1);
  const auto bytes = parse_bytes(number.substr(0, number.find_first_of(" ,")));
  EXPECT_TRUE(bytes.has_value()) << text;
  return bytes ? std::optional{*bytes} : std::nullopt;
}

Superblock superblock_of(const Geometry& geometry) {
  Superblock superblock;
  superblock.grain_bytes = geometry.grain_bytes;
  superblock.segment_count = geometry.segment_count;
  superblock.slot_bytes = geometry.slot_bytes;
  superblock.segment_bytes = geometry.segment_bytes;
  return superblock;
}

void expect_sound(const Geometry& geometry, const GeometryRequest& request) {
  EXPECT_TRUE(std::has_single_bit(geometry.grain_bytes));
  EXPECT_GE(geometry.grain_bytes, kGrainBytesMin);
  EXPECT_LE(geometry.grain_bytes, kGrainBytesMax);
  EXPECT_EQ(geometry.grain_bytes % request.offset_alignment, 0U);
  EXPECT_GE(geometry.segment_count, request.segments_min);
  EXPECT_LE(geometry.segment_count, kSegmentCountMax);
  EXPECT_LE(geometry.segment_count * geometry.slot_bytes, request.capacity_bytes);
  EXPECT_EQ(geometry.segment_bytes % geometry.grain_bytes, 0U);
  EXPECT_LE(geometry.segment_bytes + kSlotReserveMin, geometry.slot_bytes);
  EXPECT_GE(geometry.value_bytes_max(), request.value_bytes_max);
  // Every written table can be read again.
  const Superblock superblock = superblock_of(geometry);
  std::vector<std::byte> bytes(kGrainBytesMin);
  encode_superblock(superblock, bytes);
  std::uint32_t major = 0;
  EXPECT_TRUE(decode_superblock(bytes, major).has_value());
}

/// How many values of this size a segment holds beside its table, with keys of 110 bytes.
std::uint64_t values_in_segment(const Geometry& geometry, std::uint64_t value_bytes) {
  const std::uint32_t grain = geometry.grain_bytes;
  std::uint64_t count = 0;
  while (grain + (count + 1) * record_bytes(value_bytes, grain) +
             table_bytes(count + 1, (count + 1) * 110, grain) <=
         geometry.segment_bytes) {
    ++count;
  }
  return count;
}

TEST(GeometryTest, SegmentHoldsAPowerOfTwoWithinBoundsAndFourValues) {
  struct Case {
    std::uint64_t capacity_bytes;
    std::uint64_t value_bytes_max;
    std::uint64_t data_bytes;
    std::uint32_t segment_count;
  };
  const Case cases[] = {
      {128 * kMiB, 64 * kKiB, 2 * kMiB, 57},      // The smallest segment.
      {256 * kMiB, 64 * kKiB, 2 * kMiB, 115},     //
      {512 * kMiB, 1 * kMiB, 4 * kMiB, 125},      // From here on the share decides.
      {512 * kMiB, 2 * kMiB, 8 * kMiB, 63},       // Four values.
      {1 * kGiB, 1 * kMiB, 8 * kMiB, 126},        //
      {2 * kGiB - 1, 1 * kMiB, 8 * kMiB, 252},    // Up to twice as many segments.
      {2 * kGiB, 1 * kMiB, 16 * kMiB, 126},       //
      {4 * kGiB, 1 * kMiB, 32 * kMiB, 127},       //
      {128 * kGiB, 1 * kMiB, 1 * kGiB, 127},      // From here on the largest segment.
      {10 * kTiB, 128 * kMiB, 1 * kGiB, 10186},   //
      {16 * kGiB, 128 * kMiB, 512 * kMiB, 31},    // Four of the largest values.
      {100 * kGiB, 128 * kMiB, 512 * kMiB, 198},  //
      {256 * kGiB, 1 * kGiB, 4 * kGiB, 63},       // Also beyond the largest segment.
  };
  for (const Case& one : cases) {
    const auto request = request_of(one.capacity_bytes, one.value_bytes_max);
    const auto geometry = make_geometry(request);
    ASSERT_TRUE(geometry) << geometry.error().text;
    EXPECT_EQ(values_in_segment(*geometry, one.value_bytes_max),
              one.data_bytes / one.value_bytes_max)
        << one.capacity_bytes;
    EXPECT_EQ(geometry->segment_count, one.segment_count) << one.capacity_bytes;
    expect_sound(*geometry, request);
  }
}

TEST(GeometryTest, WholeValuesOfAPowerOfTwoFillTheCapacity) {
  for (std::uint64_t capacity = kGiB; capacity <= kTiB; capacity *= 2) {
    for (const std::uint64_t value_bytes_max : {std::uint64_t{0}, capacity / 512, capacity / 256}) {
      const auto geometry =
          make_geometry({.capacity_bytes = capacity, .value_bytes_max = value_bytes_max});
      ASSERT_TRUE(geometry) << geometry.error().text;
      const std::uint64_t largest = std::min(geometry->value_bytes_limit, geometry->segment_bytes);
      for (std::uint64_t value = kMiB; value <= largest; value *= 2) {
        const std::uint64_t held =
            values_in_segment(*geometry, value) * value * geometry->segment_count;
        EXPECT_GE(static_cast<double>(held), 0.97 * static_cast<double>(capacity))
            << capacity << ' ' << value_bytes_max << ' ' << value;
      }
    }
  }
}

TEST(GeometryTest, WholeValuesOfAnOddSizeFillTheirSegments) {
  Random random{20261201};
  for (int round = 0; round < 1'000; ++round) {
    const std::uint64_t value = 64 * kKiB + random.below(64 * kMiB);
    const auto geometry = make_geometry(request_of(64 * kGiB, value));
    ASSERT_TRUE(geometry) << geometry.error().text;
    const std::uint64_t left = geometry->segment_bytes - values_in_segment(*geometry, value) *
                                                             record_bytes(value, kGrainBytesMin);
    EXPECT_LT(left, geometry->segment_bytes / 50) << value;
  }
}

TEST(GeometryTest, OneByteLessThanThirtyOneSegmentsIsRefused) {
  const std::uint64_t needed = 31 * make_geometry(request_of(256 * kMiB, kMiB))->slot_bytes;
  EXPECT_TRUE(make_geometry(request_of(needed, kMiB)));
  const auto geometry = make_geometry(request_of(needed - 1, kMiB));
  ASSERT_FALSE(geometry);
  EXPECT_EQ(geometry.error().code, ErrorCode::kInvalidArgument);
}

TEST(GeometryTest, TooSmallCapacityIsToldWithWhatToChoose) {
  const auto geometry = make_geometry(request_of(1 * kGiB, 128 * kMiB));
  ASSERT_FALSE(geometry);
  EXPECT_EQ(geometry.error().text,
            "log: capacity=1GiB holds 1 segment of 527064KiB, and at least 31 are needed: choose "
            "capacity=15957MiB or more, or max_value=8MiB or less");
}

TEST(GeometryTest, FollowingTheAdviceOfAnyErrorWorks) {
  Random random{20260131};
  std::uint32_t refused = 0;
  std::uint32_t advised_capacity = 0;
  std::uint32_t advised_value = 0;
  std::uint32_t advised_segment = 0;
  for (int round = 0; round < 20'000; ++round) {
    GeometryRequest request;
    // Every order of magnitude is as likely as any other.
    request.capacity_bytes = kMiB + random.below(std::uint64_t{1} << (20 + random.below(28)));
    request.value_bytes_max = 4 * kKiB + random.below(std::uint64_t{1} << (12 + random.below(19)));
    request.value_bytes_max = std::min(request.value_bytes_max, kGiB);
    request.offset_alignment = 1U << random.below(17);
    if (random.one_in(2)) {
      request.segment_bytes = 1 + random.below(std::uint64_t{1} << (10 + random.below(25)));
    }
    const auto geometry = make_geometry(request);
    if (geometry) {
      expect_sound(*geometry, request);
      continue;
    }
    ++refused;
    const std::string text = geometry.error().text;
    const auto capacity = advised(text, "capacity");
    const auto value = advised(text, "max_value");
    const auto segment = advised(text, "segment");
    ASSERT_TRUE(capacity || value || segment) << text;
    if (capacity) {
      ++advised_capacity;
      GeometryRequest changed = request;
      changed.capacity_bytes = *capacity;
      auto again = make_geometry(changed);
      // Where the value does not fit either, the next error says so, and ends there.
      if (!again) {
        changed.value_bytes_max = advised(again.error().text, "max_value").value_or(0);
        ASSERT_GT(changed.value_bytes_max, 0U) << text << "\n" << again.error().text;
        again = make_geometry(changed);
      }
      ASSERT_TRUE(again) << text << "\n" << again.error().text;
      changed.capacity_bytes += random.below(kTiB);
      EXPECT_TRUE(make_geometry(changed)) << text;  // "or more"
    }
    if (value) {
      ++advised_value;
      GeometryRequest changed = request;
      changed.value_bytes_max = *value;
      EXPECT_GE(*value, 4 * kKiB) << text;  // What the parameter accepts.
      EXPECT_TRUE(make_geometry(changed)) << text;
      changed.value_bytes_max = 4 * kKiB;
      EXPECT_TRUE(make_geometry(changed)) << text;  // "or less"
    }
    if (segment) {
      ++advised_segment;
      GeometryRequest changed = request;
      changed.segment_bytes = *segment;
      changed.value_bytes_max = 4 * kKiB;
      changed.capacity_bytes = kTiB;
      EXPECT_TRUE(make_geometry(changed)) << text;
    }
  }
  EXPECT_GT(refused, 1000U);
  EXPECT_GT(advised_capacity, 100U);
  EXPECT_GT(advised_value, 100U);
  EXPECT_GT(advised_segment, 100U);
}

TEST(GeometryTest, WithoutAMaxValueTheGeometryFollowsTheCapacity) {
  struct Case {
    std::uint64_t capacity_bytes;
    std::uint32_t segment_count;
    std::uint64_t slot_bytes;
    std::uint64_t value_bytes_limit;
  };
  // As docs/specs.md says.
  const Case cases[] = {
      {256 * kMiB, 62, 4192 * kKiB, 4108 * kKiB},     //
      {512 * kMiB, 63, 8304 * kKiB, 8220 * kKiB},     //
      {1 * kGiB, 126, 8304 * kKiB, 8220 * kKiB},      //
      {4 * kGiB, 127, 32980 * kKiB, 32896 * kKiB},    //
      {16 * kGiB, 127, 131820 * kKiB, 128 * kMiB},    // The most that is chosen unasked.
      {32 * kGiB, 127, 263568 * kKiB, 128 * kMiB},    //
      {128 * kGiB, 127, 1054056 * kKiB, 128 * kMiB},  //
      {1 * kTiB, 1018, 1054056 * kKiB, 128 * kMiB},   //
  };
  for (const Case& one : cases) {
    const GeometryRequest request{.capacity_bytes = one.capacity_bytes};
    const auto geometry = make_geometry(request);
    ASSERT_TRUE(geometry) << geometry.error().text;
    EXPECT_EQ(geometry->segment_count, one.segment_count) << one.capacity_bytes;
    EXPECT_EQ(geometry->slot_bytes, one.slot_bytes) << one.capacity_bytes;
    EXPECT_EQ(geometry->value_bytes_limit, one.value_bytes_limit) << one.capacity_bytes;
    expect_sound(*geometry, request);
  }
}

TEST(GeometryTest, WithoutAMaxValueAnyCapacityFrom127MiBOnWorks) {
  for (std::uint64_t capacity = 127 * kMiB; capacity <= 65536 * kMiB; capacity += 97 * kMiB) {
    const auto made = make_geometry({.capacity_bytes = capacity});
    ASSERT_TRUE(made.has_value()) << made.error().text;
    EXPECT_GE(made->segment_count, kSegmentCountMin);
    EXPECT_EQ(made->value_bytes_limit, std::min(kValueBytesMaxDefault, made->value_bytes_max()));
    EXPECT_EQ(made->capacity_bytes, capacity);
  }
  const auto refused = make_geometry({.capacity_bytes = 126 * kMiB});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().text.find("choose capacity=127MiB or more"), std::string::npos)
      << refused.error().text;
}

TEST(GeometryTest, WhatIsNotAskedForIsRemembered) {
  Superblock superblock{.grain_bytes = 4096,
                        .segment_count = 40,
                        .slot_bytes = 1U << 20,
                        .segment_bytes = (1U << 20) - 65536};
  const auto old = geometry_of(superblock, {});  // Of minor version 0.
  ASSERT_TRUE(old.has_value()) << old.error().text;
  EXPECT_EQ(old->capacity_bytes, 40U << 20);
  EXPECT_EQ(old->value_bytes_limit, old->value_bytes_max());
  superblock.capacity_bytes = (50U << 20) + 7;
  superblock.value_bytes_max = 4096;
  const auto remembered = geometry_of(superblock, {});
  EXPECT_EQ(remembered->capacity_bytes, (50U << 20) + 7);
  EXPECT_EQ(remembered->segment_count, 50U);
  EXPECT_EQ(remembered->value_bytes_limit, 4096U);
  const auto asked =
      geometry_of(superblock, {.capacity_bytes = 33U << 20, .value_bytes_max = 8192});
  EXPECT_EQ(asked->capacity_bytes, 33U << 20);
  EXPECT_EQ(asked->value_bytes_limit, 8192U);
  // A superblock is believed as far as it can be true.
  superblock.value_bytes_max = ~0U;
  EXPECT_EQ(geometry_of(superblock, {})->value_bytes_limit, old->value_bytes_max());
}

TEST(GeometryTest, GrainIsTheAlignmentOfDirectIo) {
  for (const std::uint32_t alignment : {1U, 512U, 4096U}) {
    auto request = request_of(kGiB, kMiB);
    request.offset_alignment = alignment;
    EXPECT_EQ(make_geometry(request)->grain_bytes, 4096U);
  }
  for (const std::uint32_t alignment : {8192U, 16384U, 65536U}) {
    auto request = request_of(kGiB, kMiB);
    request.offset_alignment = alignment;
    EXPECT_EQ(make_geometry(request)->grain_bytes, alignment);
  }
}

TEST(GeometryTest, AnAlignmentBeyondTheLargestGrainIsRefusedWithTheWayOut) {
  auto request = request_of(kGiB, kMiB);
  request.offset_alignment = 131072;
  const auto geometry = make_geometry(request);
  ASSERT_FALSE(geometry);
  EXPECT_NE(geometry.error().text.find("131072"), std::string::npos) << geometry.error().text;
  EXPECT_NE(geometry.error().text.find("direct=no"), std::string::npos) << geometry.error().text;
}

TEST(GeometryTest, TheLargestValueFitsBesideItsHeaderAndTable) {
  const auto geometry = make_geometry(request_of(kGiB, kMiB));
  ASSERT_TRUE(geometry);
  const std::uint64_t value_bytes = geometry->value_bytes_max();
  const std::uint64_t used = geometry->grain_bytes +
                             record_bytes(value_bytes, geometry->grain_bytes) +
                             table_bytes(1, 1024, geometry->grain_bytes);
  EXPECT_EQ(used, geometry->segment_bytes);
}

TEST(GeometryTest, AGeometryTooSmallForAnythingHoldsNoValue) {
  const Geometry geometry{.grain_bytes = 65536, .segment_bytes = std::uint64_t{3} * 65536};
  EXPECT_EQ(geometry.value_bytes_max(), 0U);
}

// --- Existing stores ----------------------------------------------------------------------------

TEST(GeometryTest, AnExistingStoreKeepsItsSegmentSizeWhateverTheCapacityIsNow) {
  const auto made = make_geometry(request_of(4 * kGiB, kMiB));
  ASSERT_TRUE(made);
  for (const std::uint64_t capacity_bytes : {1 * kGiB, 4 * kGiB, 100 * kGiB}) {
    const auto request = request_of(capacity_bytes, kMiB);
    const auto geometry = geometry_of(superblock_of(*made), request);
    ASSERT_TRUE(geometry) << geometry.error().text;
    EXPECT_EQ(geometry->slot_bytes, made->slot_bytes);
    EXPECT_EQ(geometry->segment_bytes, made->segment_bytes);
    EXPECT_EQ(geometry->segment_count, capacity_bytes / made->slot_bytes);
    expect_sound(*geometry, request);
  }
}

TEST(GeometryTest, TheSegmentParameterIsForNewStoresOnly) {
  const auto made = make_geometry(request_of(4 * kGiB, kMiB));
  ASSERT_TRUE(made);
  auto request = request_of(4 * kGiB, kMiB);
  request.segment_bytes = 16 * kMiB;
  const auto geometry = geometry_of(superblock_of(*made), request);
  ASSERT_TRUE(geometry);
  EXPECT_EQ(geometry->slot_bytes, made->slot_bytes);
}

TEST(GeometryTest, TooSmallACapacityForAnExistingStoreIsToldWithWhatToChoose) {
  const auto made = make_geometry(request_of(4 * kGiB, kMiB));
  ASSERT_TRUE(made);
  auto request = request_of(512 * kMiB, kMiB);
  const auto geometry = geometry_of(superblock_of(*made), request);
  ASSERT_FALSE(geometry);
  request.capacity_bytes = advised(geometry.error().text, "capacity").value_or(0);
  EXPECT_EQ(request.capacity_bytes, (31 * made->slot_bytes + kMiB - 1) / kMiB * kMiB)
      << geometry.error().text;
  EXPECT_TRUE(geometry_of(superblock_of(*made), request));
}

TEST(GeometryTest, TooLargeAValueForAnExistingStoreIsToldWithWhatToChoose) {
  const auto made = make_geometry(request_of(4 * kGiB, kMiB));
  ASSERT_TRUE(made);
  auto request = request_of(4 * kGiB, 33 * kMiB);
  const auto geometry = geometry_of(superblock_of(*made), request);
  ASSERT_FALSE(geometry);
  request.value_bytes_max = advised(geometry.error().text, "max_value").value_or(0);
  EXPECT_EQ(request.value_bytes_max, made->value_bytes_max()) << geometry.error().text;
  EXPECT_TRUE(geometry_of(superblock_of(*made), request));
}

TEST(GeometryTest, AnAlignmentBeyondTheStoresGrainIsRefusedWithTheWayOut) {
  const auto made = make_geometry(request_of(4 * kGiB, kMiB));
  ASSERT_TRUE(made);
  auto request = request_of(4 * kGiB, kMiB);
  request.offset_alignment = 16384;
  const auto geometry = geometry_of(superblock_of(*made), request);
  ASSERT_FALSE(geometry);
  EXPECT_NE(geometry.error().text.find("4096"), std::string::npos) << geometry.error().text;
  EXPECT_NE(geometry.error().text.find("direct=no"), std::string::npos) << geometry.error().text;
}

}  // namespace
}  // namespace larder::log_store
