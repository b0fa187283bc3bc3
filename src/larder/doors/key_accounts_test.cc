#include "larder/doors/key_accounts.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/random.h"
#include "larder/doors/lmcache_name.h"

namespace larder::doors {
namespace {

std::string hex(std::uint64_t number, std::size_t digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(digits, '0');
  for (std::size_t i = digits; i-- > 0; number >>= 4U) text[i] = kDigits[number & 15U];
  return text;
}

/// As LMCache names a chunk with a hash of 32 bytes.
std::string name_of(std::uint64_t i, std::string_view salt = "") {
  const std::string text = std::to_string(i);
  const Hash128 hash = hash128(std::as_bytes(std::span{text}));
  std::string name = "meta-llama/Llama-3.1-8B@02000000@0@" + hex(hash.low, 16) +
                     hex(hash.high, 16) + hex(hash.low ^ hash.high, 16) + hex(i, 16);
  if (!salt.empty()) name.append("@").append(salt);
  return name;
}

// --- Names ---------------------------------------------------------------------------------------

TEST(LmcacheName, IsSplitIntoWhatIsSharedAndTheHash) {
  const auto name = split_lmcache_name("llama@000000ff@1f@00010203@alice");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->head, "llama@000000ff@1f@");
  EXPECT_EQ(name->hash, "00010203");
  EXPECT_EQ(name->tail, "@alice");
  EXPECT_EQ(split_lmcache_name("@000000ff@0@")->hash, "");
  EXPECT_EQ(split_lmcache_name("llama@000000ff@0@00")->tail, "");
}

TEST(LmcacheName, OtherNamesAreNotLmcaches) {
  const std::vector<std::string> others = {"",
                                           "a@b",
                                           "m@000000ff@0@0g",
                                           "m@ff@0@00",
                                           "m@000000FF@0@00",
                                           "m@0000000ff@0@00",
                                           "m@12345678123456781@0@00",
                                           "m@000000ff@00@00",
                                           "m@000000ff@@00",
                                           "m@000000ff@0@000",
                                           "m@000000ff@0@00@",
                                           "m@000000ff@0@00@a/b",
                                           "m@000000ff@0@00@a\\b",
                                           std::string{"m@000000ff@0@00@a\0b", 19},
                                           "m@000000ff@0@00@a@b",
                                           "m@000000ff@0@00@" + std::string(129, 's'),
                                           "m@000000ff@0@00@\xff",
                                           "\xff@000000ff@0@00",
                                           "\xed\xa0\x80@000000ff@0@00"};
  for (const std::string& other : others) EXPECT_FALSE(split_lmcache_name(other)) << other;
  // 128 characters, of two bytes each.
  std::string salt;
  for (int i = 0; i < 128; ++i) salt += "\xc3\xa9";
  EXPECT_TRUE(split_lmcache_name("m@000000ff@0@00@" + salt));
}

// --- KeyTable ------------------------------------------------------------------------------------

TEST(KeyTable, HoldsWhatAMapHolds) {
  const std::uint64_t seed = 20;
  SCOPED_TRACE(seed);
  Random random{seed};
  KeyTable table{2};
  std::map<std::string, std::uint64_t> expected;
  for (int i = 0; i < 200'000; ++i) {
    // Few keys, so that tables are full of runs; in phases that grow and shrink.
    const bool is_growing = i / 20'000 % 2 == 0;
    std::string key{static_cast<char>(random.below(16)), static_cast<char>(random.below(64))};
    const auto bytes = std::as_bytes(std::span{key});
    const std::uint64_t hash = hash64(bytes);
    if (random.below(4) < (is_growing ? 3U : 1U)) {
      const std::uint64_t state = 1 + random.below(1000);
      table.set(bytes, hash, state);
      expected[key] = state;
    } else {
      table.erase(bytes, hash);
      expected.erase(key);
    }
    const auto found = expected.find(key);
    ASSERT_EQ(table.find(bytes, hash), found == expected.end() ? 0 : found->second);
    ASSERT_EQ(table.size(), expected.size());
    if (i % 1000 != 0) continue;
    if (random.below(2) == 0) {
      table.change_all([](auto, std::uint64_t state) { return state % 3 == 0 ? 0 : state + 1; });
      std::erase_if(expected, [](const auto& entry) { return entry.second % 3 == 0; });
      for (auto& [name, state] : expected) ++state;
    }
    std::map<std::string, std::uint64_t> seen;
    table.for_each([&](std::span<const std::byte> k, std::uint64_t state) {
      seen.emplace(std::string{reinterpret_cast<const char*>(k.data()), k.size()}, state);
    });
    ASSERT_EQ(seen, expected);
  }
}

TEST(KeyTable, GivesMemoryBack) {
  KeyTable table{8};
  const auto each = [&](auto&& apply) {
    for (std::uint64_t i = 0; i < 10'000; ++i) {
      const auto key = std::as_bytes(std::span{&i, 1});
      apply(key, hash64(key));
    }
  };
  each([&](auto key, std::uint64_t hash) { table.set(key, hash, 1); });
  EXPECT_GE(table.memory_bytes(), 160'000U);
  EXPECT_LE(table.memory_bytes(), 260'000U);
  each([&](auto key, std::uint64_t hash) { table.erase(key, hash); });
  EXPECT_LE(table.memory_bytes(), 64U);
}

// --- KeyAccounts ---------------------------------------------------------------------------------

/// A store with a log of events, and a scan that reads at any time and reports later.
class AccountsOfAStore {
 public:
  explicit AccountsOfAStore(std::uint64_t seed) : random_(seed) {
    for (std::uint64_t i = 0; i < 6; ++i) keys_.push_back(name_of(i, i % 2 == 0 ? "" : "alice"));
    keys_.emplace_back("foreign");
    keys_.emplace_back("m@ff@0@00");
    for (const std::string& key : keys_) {
      if (random_.below(2) == 0) store_[key] = random_.below(9);
    }
  }

  void step() {
    const std::string& key = keys_[random_.below(keys_.size())];
    switch (random_.below(8)) {
      case 0:
      case 1:
        unheard_.push_back({true, key, store_[key] = random_.below(9)});
        break;
      case 2:
        if (store_.erase(key) > 0) unheard_.push_back({false, key, 0});
        break;
      case 3:
        hear_events();
        break;
      case 4:
        if (random_.below(8) == 0) lose_events();
        break;
      case 5:
        if (!is_scanning_) begin_scan();
        break;
      default:
        if (is_scanning_) scan_on();
    }
    ASSERT_NO_FATAL_FAILURE(check());
  }

  std::size_t scans() const { return scans_; }

 private:
  void hear_events() {
    for (const auto& event : unheard_) {
      if (event.is_stored) {
        accounts_.stored(event.key, event.bytes, changes_);
      } else {
        accounts_.removed(event.key, changes_);
      }
    }
    unheard_.clear();
    hear();
  }
  void lose_events() {
    unheard_.clear();
    if (is_scanning_ && random_.below(2) == 0) accounts_.give_up_scan();
    is_scanning_ = false;
    is_complete_ = false;
  }
  void begin_scan() {
    hear_events();
    accounts_.begin_scan();
    is_scanning_ = true;
    next_ = 0;
    looked_.clear();
  }
  void scan_on() {
    if (next_ < keys_.size()) {
      const auto found = store_.find(keys_[next_++]);
      if (found != store_.end()) looked_.push_back(*found);
      if (random_.below(2) == 0) return;
    }
    hear_events();
    for (const auto& [key, bytes] : looked_) accounts_.scanned(key, bytes, changes_);
    looked_.clear();
    if (next_ == keys_.size()) {
      accounts_.end_scan(changes_);
      is_scanning_ = false;
      is_complete_ = true;
      ++scans_;
    }
    hear();
  }
  void hear() {
    for (const auto& change : changes_) {
      const auto found = heard_.find(change.key);
      ASSERT_EQ(found == heard_.end(), change.is_stored) << "came twice, or went twice";
      if (change.is_stored) {
        heard_[change.key] = change.bytes;
      } else {
        ASSERT_EQ(found->second, change.bytes);
        heard_.erase(found);
      }
    }
    changes_.clear();
  }
  void check() {
    std::map<std::string, std::uint64_t> there;
    accounts_.for_each(
        [&](std::string key, std::uint64_t bytes) { there[std::move(key)] = bytes; });
    ASSERT_EQ(there, heard_);
    std::uint64_t bytes = 0;
    for (const auto& entry : heard_) bytes += entry.second;
    ASSERT_EQ(accounts_.totals().bytes, bytes);
    ASSERT_EQ(accounts_.totals().keys, heard_.size());
    if (!is_complete_ || !unheard_.empty()) return;
    KeyAccounts::Totals foreign;
    std::map<std::string, std::uint64_t> mine;
    for (const auto& [key, size] : store_) {
      ASSERT_EQ(accounts_.contains(key), split_lmcache_name(key).has_value());
      if (split_lmcache_name(key)) {
        mine[key] = size;
      } else {
        ++foreign.keys;
        foreign.bytes += size;
      }
    }
    ASSERT_EQ(mine, heard_);
    ASSERT_EQ(accounts_.foreign().keys, foreign.keys);
    ASSERT_EQ(accounts_.foreign().bytes, foreign.bytes);
  }

  Random random_;
  std::vector<std::string> keys_;
  std::map<std::string, std::uint64_t> store_;
  KeyAccounts::Changes unheard_;
  KeyAccounts accounts_;
  KeyAccounts::Changes changes_;
  std::map<std::string, std::uint64_t> heard_;
  std::vector<std::pair<std::string, std::uint64_t>> looked_;
  std::size_t next_ = 0;
  std::size_t scans_ = 0;
  bool is_scanning_ = false;
  bool is_complete_ = false;
};

TEST(KeyAccounts, AreRightOnceAllWasTold) {
  std::size_t scans = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    AccountsOfAStore store{seed};
    for (int i = 0; i < 400; ++i) ASSERT_NO_FATAL_FAILURE(store.step());
    scans += store.scans();
  }
  EXPECT_GT(scans, 500U);
}

TEST(KeyAccounts, ACollisionOfNothingButTheHashIsTwoKeys) {
  KeyAccounts accounts;
  KeyAccounts::Changes changes;
  // The same chunk of two tenants, ranks and models.
  const std::vector<std::string> keys = {"m@00000000@0@aa",   "m@00000000@0@aa@a",
                                         "m@00000000@0@aa@b", "m@00000001@0@aa",
                                         "n@00000000@0@aa",   "m@00000000@1@aa"};
  for (const std::string& key : keys) accounts.stored(key, 5, changes);
  EXPECT_EQ(accounts.totals().keys, keys.size());
  EXPECT_EQ(accounts.totals().bytes, 5 * keys.size());
  changes.clear();
  accounts.removed(keys[1], changes);
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].key, keys[1]);
  EXPECT_FALSE(accounts.contains(keys[1]));
  EXPECT_TRUE(accounts.contains(keys[0]));
}

TEST(KeyAccounts, AreExactForManyKeysAndTenants) {
  KeyAccounts accounts;
  KeyAccounts::Changes changes;
  constexpr std::uint64_t kKeys = 60'000;
  const auto name = [](std::uint64_t i) { return name_of(i, i % 3 == 0 ? "alice" : "bob"); };
  for (std::uint64_t i = 0; i < kKeys; ++i) accounts.stored(name(i), i, changes);
  EXPECT_EQ(accounts.totals().keys, kKeys);
  EXPECT_EQ(accounts.totals().bytes, kKeys * (kKeys - 1) / 2);
  // A scan that finds every second one.
  changes.clear();
  accounts.begin_scan();
  for (std::uint64_t i = 0; i < kKeys; i += 2) accounts.scanned(name(i), i, changes);
  EXPECT_TRUE(changes.empty());
  accounts.end_scan(changes);
  std::map<std::string, std::uint64_t> gone;
  for (const auto& change : changes) gone.emplace(change.key, change.bytes);
  EXPECT_EQ(changes.size(), kKeys / 2);
  EXPECT_EQ(gone.size(), kKeys / 2);
  for (std::uint64_t i = 1; i < kKeys; i += 2) ASSERT_EQ(gone.at(name(i)), i);
  EXPECT_EQ(accounts.totals().keys, kKeys / 2);
  for (std::uint64_t i = 0; i < kKeys; i += 2) accounts.removed(name(i), changes);
  EXPECT_EQ(accounts.totals().keys, 0U);
  EXPECT_EQ(accounts.totals().bytes, 0U);
  EXPECT_EQ(accounts.memory_bytes(), 0U) << "tenants that have gone leave nothing";
}

TEST(KeyAccounts, CostFewBytesAKey) {
  KeyAccounts accounts;
  KeyAccounts::Changes changes;
  constexpr std::uint64_t kKeys = 200'000;
  for (std::uint64_t i = 0; i < kKeys; ++i) {
    accounts.stored(name_of(i, i % 2 == 0 ? "" : "alice"), 1 << 20, changes);
    changes.clear();
  }
  const double each = static_cast<double>(accounts.memory_bytes()) / kKeys;
  std::printf("%.1f bytes a key with a hash of 32 bytes\n", each);
  EXPECT_LE(each, 66) << "slots of 40 bytes, of which 5/8 and more are used";
}

TEST(KeyAccounts, CountAValueThatIsTooLargeAsTheLargest) {
  KeyAccounts accounts;
  KeyAccounts::Changes changes;
  accounts.stored(name_of(1), ~std::uint64_t{0}, changes);
  EXPECT_EQ(accounts.totals().bytes, KeyAccounts::kBytesMax);
  accounts.removed(name_of(1), changes);
  EXPECT_EQ(accounts.totals().bytes, 0U);
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].bytes, changes[1].bytes);
}

}  // namespace
}  // namespace larder::doors
