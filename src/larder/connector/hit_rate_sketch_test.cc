#include "larder/connector/hit_rate_sketch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/random.h"

namespace larder {
namespace {

constexpr std::size_t kHalf = 0;
constexpr std::size_t kSame = 1;
constexpr std::size_t kDouble = 2;
constexpr std::size_t kUnlimited = 3;
constexpr double kErrorMost = 0.02;

std::uint64_t hash_of(std::uint64_t key) {
  return hash64(std::as_bytes(std::span{&key, 1}));
}

/// Between 1 and 16 units, the same for each use of a key.
std::uint64_t bytes_of_key(std::uint64_t key) {
  return (1 + hash_of(key * 31 + 7) % 16) << 12;
}

/// LRU by bytes, as a list.
class Lru {
 public:
  explicit Lru(std::uint64_t capacity) : capacity_(capacity) {}

  bool has(std::uint64_t key) const { return places_.contains(key); }
  void use(std::uint64_t key) {
    if (const auto found = places_.find(key); found != places_.end()) {
      used_ -= bytes_of_key(key);
      order_.erase(found->second);
    }
    order_.push_front(key);
    places_[key] = order_.begin();
    used_ += bytes_of_key(key);
    while (used_ > capacity_) {
      used_ -= bytes_of_key(order_.back());
      places_.erase(order_.back());
      order_.pop_back();
    }
  }

 private:
  const std::uint64_t capacity_;
  std::uint64_t used_ = 0;
  std::list<std::uint64_t> order_;
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> places_;
};

/// A store with a sketch, and beside it LRU of each capacity that the sketch estimates.
class Stores {
 public:
  explicit Stores(HitRateSketch::Options options)
      : sketch_(options),
        lru_{Lru{options.capacity_bytes / 2}, Lru{options.capacity_bytes},
             Lru{options.capacity_bytes * 2}, Lru{UINT64_MAX}} {}

  void ask(std::uint64_t key) {
    ++asked_;
    for (std::size_t i = 0; i < lru_.size(); ++i) hits_[i] += lru_[i].has(key) ? 1 : 0;
    const bool is_hit = lru_[kSame].has(key);
    sketch_.count(1, is_hit ? 1 : 0);
    sketch_.begin_request();
    sketch_.ask(hash_of(key), is_hit);
    use(key);
  }
  void use(std::uint64_t key) {
    sketch_.use(hash_of(key), bytes_of_key(key));
    for (Lru& lru : lru_) lru.use(key);
  }
  /// The exact hits since the last call.
  std::array<double, 4> exact() {
    std::array<double, 4> rates{};
    for (std::size_t i = 0; i < rates.size(); ++i) {
      rates[i] = static_cast<double>(hits_[i]) / static_cast<double>(asked_);
    }
    asked_ = 0;
    hits_ = {};
    return rates;
  }
  HitRateSketch& sketch() { return sketch_; }

 private:
  HitRateSketch sketch_;
  std::array<Lru, 4> lru_;
  std::array<std::uint64_t, 4> hits_{};
  std::uint64_t asked_ = 0;
};

void expect_near(const WhatIf& told, const std::array<double, 4>& exact) {
  for (std::size_t i = 0; i < exact.size(); ++i) {
    ASSERT_TRUE(told.points[i].hit_rate) << kWhatIfNames[i];
    EXPECT_NEAR(*told.points[i].hit_rate, exact[i], kErrorMost) << kWhatIfNames[i];
  }
  ASSERT_TRUE(told.measured);
  EXPECT_NEAR(*told.measured, exact[kSame], kErrorMost);
}

/// Keys 0 to `keys` - 1, the low ones most often.
std::uint64_t skewed(Random& random, std::uint64_t keys) {
  const double at = static_cast<double>(random.below(1'000'000)) / 1e6;
  return static_cast<std::uint64_t>(static_cast<double>(keys) * at * at * at);
}

constexpr std::uint32_t kNeverAges = 0xFFFF'FFF0;

TEST(HitRateSketch, IsExactWhileItHoldsAllKeys) {
  Stores stores{{.capacity_bytes = std::uint64_t{1000} << 12, .half_life_asks = kNeverAges}};
  Random random{1};
  for (int i = 0; i < 20'000; ++i) stores.ask(skewed(random, 1000));
  const WhatIf told = stores.sketch().estimate();
  const std::array<double, 4> exact = stores.exact();
  for (std::size_t i = 0; i < exact.size(); ++i) {
    ASSERT_TRUE(told.points[i].hit_rate) << kWhatIfNames[i];
    EXPECT_NEAR(*told.points[i].hit_rate, exact[i], 1e-9) << kWhatIfNames[i];
  }
  EXPECT_NEAR(*told.measured, exact[kSame], 1e-9);
  EXPECT_EQ(told.points[kHalf].capacity_bytes, std::uint64_t{500} << 12);
  EXPECT_EQ(told.points[kUnlimited].capacity_bytes, 0U);
}

TEST(HitRateSketch, WeighsKeysByTheirBytesWhenItThinsOut) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    Stores stores{{.capacity_bytes = std::uint64_t{80'000} << 12, .half_life_asks = kNeverAges}};
    Random random{seed};
    for (int i = 0; i < 150'000; ++i) stores.ask(skewed(random, 60'000) + seed * 1'000'000);
    EXPECT_LE(stores.sketch().keys(), 2U * 4096U);
    expect_near(stores.sketch().estimate(), stores.exact());
  }
}

TEST(HitRateSketch, FollowsTheLatestPhase) {
  Stores stores{{.capacity_bytes = std::uint64_t{4000} << 12, .half_life_asks = 4096}};
  Random random{5};
  for (int i = 0; i < 60'000; ++i) stores.ask(random.below(400));
  const WhatIf before = stores.sketch().estimate();
  EXPECT_NEAR(*before.points[kSame].hit_rate, stores.exact()[kSame], kErrorMost);
  // A loop that only twice the capacity holds.
  for (std::uint64_t i = 0; i < 80'000; ++i) stores.ask(1'000'000 + i % 700);
  stores.exact();
  for (std::uint64_t i = 0; i < 10'000; ++i) stores.ask(1'000'000 + i % 700);
  const WhatIf after = stores.sketch().estimate();
  expect_near(after, stores.exact());
  EXPECT_LT(*after.points[kSame].hit_rate, 0.1);
  EXPECT_GT(*after.points[kDouble].hit_rate, 0.9);
}

TEST(HitRateSketch, CountsAKeyOnlyBehindAllBeforeItInItsRequest) {
  HitRateSketch sketch{{.capacity_bytes = 4, .half_life_asks = kNeverAges}};
  // The head was used first, so it is the deepest: with 4 bytes nothing of it is resident.
  for (int i = 0; i < 2000; ++i) {
    sketch.begin_request();
    sketch.count(2, 0);
    sketch.ask(1, false);
    sketch.ask(2, false);
    sketch.use(1, 1);
    for (std::uint64_t other = 3; other < 6; ++other) sketch.use(other, 1);
    sketch.use(2, 1);
  }
  const WhatIf told = sketch.estimate();
  EXPECT_NEAR(*told.points[kSame].hit_rate, 0, 1e-3);
  EXPECT_NEAR(*told.points[kDouble].hit_rate, 1, 1e-3);
}

TEST(HitRateSketch, SaysNothingOfTooLittle) {
  HitRateSketch sketch{{.capacity_bytes = 1000, .half_life_asks = kNeverAges}};
  for (int i = 0; i < 999; ++i) {
    sketch.count(1, 1);
    sketch.begin_request();
    sketch.ask(7, true);
    sketch.use(7, 1);
  }
  for (const WhatIf::Point& point : sketch.estimate().points) EXPECT_FALSE(point.hit_rate);
  EXPECT_FALSE(sketch.estimate().measured);
  sketch.count(1, 1);
  sketch.begin_request();
  sketch.ask(7, true);
  for (const WhatIf::Point& point : sketch.estimate().points) EXPECT_TRUE(point.hit_rate);
  EXPECT_EQ(sketch.estimate().measured, 1.0);
}

TEST(HitRateSketch, SaysNothingOfOtherCapacitiesWhileWhatWasThereBeforeIsHit) {
  HitRateSketch sketch{{.capacity_bytes = 10'000, .half_life_asks = 4096}};
  for (std::uint64_t key = 0; key < 4000; ++key) {
    sketch.count(1, 1);
    sketch.begin_request();
    sketch.ask(hash_of(key), true);
    sketch.use(hash_of(key), 1);
  }
  const WhatIf early = sketch.estimate();
  EXPECT_EQ(early.points[kSame].hit_rate, 1.0);
  EXPECT_FALSE(early.points[kHalf].hit_rate);
  EXPECT_FALSE(early.points[kDouble].hit_rate);
  EXPECT_FALSE(early.points[kUnlimited].hit_rate);
  // Once the keys are known, they are hits as any other.
  for (std::uint64_t i = 0; i < 80'000; ++i) {
    sketch.count(1, 1);
    sketch.begin_request();
    sketch.ask(hash_of(i % 4000), true);
    sketch.use(hash_of(i % 4000), 1);
  }
  for (const WhatIf::Point& point : sketch.estimate().points) {
    ASSERT_TRUE(point.hit_rate);
    EXPECT_NEAR(*point.hit_rate, 1.0, kErrorMost);
  }
}

TEST(HitRateSketch, TakesAKeyForThereThatWasFoundAfterIt) {
  HitRateSketch sketch{{.capacity_bytes = 10'000}};
  for (std::uint64_t key = 0; key < 2000; ++key) {
    sketch.count(1, 1);
    sketch.begin_request();
    sketch.ask(hash_of(key), false);
    sketch.use_found(hash_of(key), 1);
  }
  EXPECT_NEAR(*sketch.estimate().points[kSame].hit_rate, 1.0, 1e-9);
  EXPECT_FALSE(sketch.estimate().points[kUnlimited].hit_rate);
}

TEST(HitRateSketch, SaysNothingWhereTooMuchOfTheSampleWasLost) {
  HitRateSketch sketch{{.capacity_bytes = 1000}};
  for (int i = 0; i < 2000; ++i) {
    sketch.count(1, 0);
    sketch.begin_request();
    sketch.ask(7, false);
  }
  EXPECT_TRUE(sketch.estimate().points[kSame].hit_rate);
  sketch.note_lost(100);
  EXPECT_FALSE(sketch.estimate().points[kSame].hit_rate);
  EXPECT_TRUE(sketch.estimate().measured);
}

TEST(HitRateSketch, ForgetsWhatIsErased) {
  for (const bool at_once : {false, true}) {
    HitRateSketch sketch{{.capacity_bytes = 10'000, .half_life_asks = kNeverAges}};
    for (std::uint64_t round = 0; round < 20; ++round) {
      for (std::uint64_t key = 0; key < 100; ++key) {
        sketch.count(1, 0);
        sketch.begin_request();
        sketch.ask(hash_of(key), false);
        sketch.use(hash_of(key), 1);
        if (!at_once) sketch.erase(hash_of(key));
      }
      if (at_once) sketch.erase_all();
    }
    EXPECT_EQ(sketch.keys(), 0U);
    EXPECT_NEAR(*sketch.estimate().points[kUnlimited].hit_rate, 0, 1e-9);
  }
}

TEST(HitRateSketch, KeepsTheSizeOfAKeyThatIsTouched) {
  HitRateSketch sketch{{.capacity_bytes = 10, .half_life_asks = kNeverAges}};
  sketch.use(hash_of(9), std::nullopt);  // Unknown: nothing happens.
  EXPECT_EQ(sketch.keys(), 0U);
  for (int i = 0; i < 2000; ++i) {
    sketch.use(hash_of(1), 8);
    sketch.use(hash_of(2), 8);
    sketch.use(hash_of(1), std::nullopt);
    sketch.count(1, 0);
    sketch.begin_request();
    sketch.ask(hash_of(2), false);
  }
  EXPECT_NEAR(*sketch.estimate().points[kSame].hit_rate, 0, 1e-9);
  EXPECT_NEAR(*sketch.estimate().points[kDouble].hit_rate, 1, 1e-9);
}

/// A stream with far fewer known keys than there were in all.
TEST(HitRateSketch, StaysAsGoodWhenKeysGoOnForEver) {
  Stores stores{{.capacity_bytes = std::uint64_t{30'000} << 12, .half_life_asks = 8192}};
  Random random{11};
  const auto go_on = [&](std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t i = from; i < to; ++i) {
      stores.ask(i);
      if (i > 40'000) stores.ask(i - 1 - random.below(4000));    // Near.
      if (i > 40'000) stores.ask(i - 1 - random.below(40'000));  // Beyond twice the capacity.
    }
  };
  go_on(0, 200'000);
  stores.exact();
  go_on(200'000, 260'000);
  expect_near(stores.sketch().estimate(), stores.exact());
}

TEST(HitRateSketch, IsDeterministicAndOfFixedSize) {
  const auto run = [] {
    Stores stores{{.capacity_bytes = std::uint64_t{5000} << 12}};
    Random random{3};
    const std::size_t memory = stores.sketch().memory_bytes();
    for (int i = 0; i < 60'000; ++i) stores.ask(skewed(random, 30'000));
    EXPECT_EQ(stores.sketch().memory_bytes(), memory);
    EXPECT_LE(memory, std::size_t{400} << 10);
    const WhatIf told = stores.sketch().estimate();
    return std::array{told.points[0].hit_rate, told.points[1].hit_rate, told.points[2].hit_rate,
                      told.points[3].hit_rate};
  };
  EXPECT_EQ(run(), run());
}

}  // namespace
}  // namespace larder
