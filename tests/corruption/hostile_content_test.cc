// Segments with any content that nobody signed: noise, and bytes from elsewhere.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "larder/base/random.h"
#include "tests/corruption/hostile_test_support.h"

namespace larder::corruption {
namespace {

std::uint64_t seed() {
  const char* const text = std::getenv("LARDER_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

std::vector<std::byte> noise(std::size_t bytes, std::uint64_t of) {
  std::vector<std::byte> content(bytes);
  Random{of}.fill(content);
  return content;
}

class HostileContentTest : public HostileTest {};

/// The other one of the same version.
std::string other_than(const std::string& name) {
  const std::string version = name.substr(0, name.find('_') + 1);
  return version + (name == version + "clean" ? "killed" : "clean");
}

TEST_P(HostileContentTest, ASegmentOfNoiseIsSetAside) {
  for (std::size_t i = 0; i < golden(GetParam())->map.segments().size(); ++i) {
    Survival store = survival();
    const std::string& file = store.map().segments()[i].file;
    store.touch(i).write(file, 0, noise(static_cast<std::size_t>(store.segment_bytes()), i));
    expect_survives(store, file + " is noise", {set_aside(store, i)});
  }
}

TEST_P(HostileContentTest, ASegmentOfOneByteValueIsSetAsideOrFree) {
  for (const unsigned value : {0x00U, 0xFFU, 0x4CU}) {
    for (std::size_t i = 0; i < golden(GetParam())->map.segments().size(); ++i) {
      Survival store = survival();
      const std::string& file = store.map().segments()[i].file;
      const std::vector<std::byte> content(static_cast<std::size_t>(store.segment_bytes()),
                                           static_cast<std::byte>(value));
      store.touch(i).write(file, 0, content);
      // Zeros are what a segment has that was never used.
      const std::vector<std::string> reasons =
          value == 0 ? std::vector<std::string>{} : std::vector{set_aside(store, i)};
      expect_survives(store, file + " is all " + std::to_string(value), reasons);
    }
  }
}

TEST_P(HostileContentTest, AnotherSegmentsBytesAreSetAside) {
  const StoreMap& map = golden(GetParam())->map;
  for (std::size_t to = 0; to < map.segments().size(); ++to) {
    for (std::size_t from = 0; from < map.segments().size(); ++from) {
      if (from == to) continue;
      Survival store = survival();
      const std::string& file = map.segments()[to].file;
      store.touch(to).write(file, 0, store.intact().read(map.segments()[from].file));
      expect_survives(store, map.segments()[from].file + " copied over " + file,
                      {set_aside(store, to)}, from == to + 1);
    }
  }
}

TEST_P(HostileContentTest, ACopyOfASegmentUnderANumberOfItsOwnIsSetAside) {
  Survival store = survival();
  store.image().write("segment-0000020", 0, store.intact().read(store.map().segments()[0].file));
  expect_survives(store, "a copy as segment-0000020", {"segment-0000020 was set aside"});
}

TEST_P(HostileContentTest, AnotherStoresSegmentIsSetAside) {
  const auto other = golden(other_than(GetParam()));
  for (std::size_t i = 0; i < golden(GetParam())->map.segments().size(); ++i) {
    Survival store = survival();
    const std::string& file =
        store.map().segments()[i].file;  // The same number: only the path differs.
    if (!other->image.files().contains(file)) continue;
    store.touch(i).write(file, 0, other->image.read(file));
    expect_survives(store, file + " of another store", {set_aside(store, i)});
  }
}

TEST_P(HostileContentTest, TwoSegmentsInEachOthersPlaceAreBothSetAside) {
  Survival store = survival();
  const StoreMap& map = store.map();
  const auto first = store.intact().read(map.segments()[0].file);
  store.touch(0).write(map.segments()[0].file, 0, store.intact().read(map.segments()[1].file));
  store.touch(1).write(map.segments()[1].file, 0, first);
  expect_survives(store, "two swapped segments", {set_aside(store, 0), set_aside(store, 1)});
}

// Grains thrown about within a store: noise, zeros, and copies of its own grains and of another
// store's, at random places.
TEST_P(HostileContentTest, GrainsInTheWrongPlaceAreNothing) {
  constexpr std::uint64_t kTrials = 400;
  constexpr std::uint64_t kToTheEndEvery = 25;
  const auto other = golden(other_than(GetParam()));
  std::printf("%s: %llu trials, seed %llu\n", GetParam().c_str(),
              static_cast<unsigned long long>(kTrials), static_cast<unsigned long long>(seed()));
  for (std::uint64_t trial = 0; trial < kTrials && !HasFailure(); ++trial) {
    Random random{seed() * 1'000'003 + trial};
    Survival store = survival();
    const auto& segments = store.map().segments();
    const std::size_t grain = store.map().superblock().grain_bytes;
    const std::uint64_t grains = store.segment_bytes() / grain;
    for (std::uint64_t left = 1 + random.below(12); left > 0; --left) {
      const std::size_t to = static_cast<std::size_t>(random.below(segments.size()));
      const std::uint64_t at = random.below(grains);
      const std::size_t bytes =
          grain *
          static_cast<std::size_t>(1 + random.below(std::min<std::uint64_t>(grains - at, 40)));
      std::vector<std::byte> content(bytes);
      const auto& from_segment = segments[static_cast<std::size_t>(random.below(segments.size()))];
      const std::uint64_t from = grain * random.below(grains - bytes / grain + 1);
      switch (random.below(4)) {
        case 0:
          random.fill(content);
          break;
        case 1:  // Zeros.
          break;
        case 2:
          content = store.intact().read(from_segment.file, from, bytes);
          break;
        default:
          content = other->image.read(segments.front().file, from, bytes);
      }
      store.touch(to).write(segments[to].file, at * grain, content);
    }
    expect_survives(store, "trial " + std::to_string(trial), {}, trial % kToTheEndEvery == 0);
  }
}

// The judge can fail: here the damage is not owned up to.
TEST_P(HostileContentTest, DamageToWhatNobodyTouchedIsFound) {
  Survival store = survival();
  const Expected intact = store.map().intact();
  const auto last = std::ranges::find_if(
      store.map().ranges().rbegin(), store.map().ranges().rend(), [&](const Range& range) {
        return range.part == Part::kValue &&
               intact.keys.at(store.map().records()[range.record].keys[0]).record == range.record;
      });
  ASSERT_NE(last, store.map().ranges().rend());
  store.image().flip_bit(last->file, last->offset, 0);
  EXPECT_NE(store.check({}, false), "");
  EXPECT_NE(survival().check({"a reason that nobody gave"}, false), "");
}

INSTANTIATE_TEST_SUITE_P(Golden, HostileContentTest, ::testing::ValuesIn(kGoldenNames),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace larder::corruption
