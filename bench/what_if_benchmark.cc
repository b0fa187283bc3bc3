// What Report::what_if costs: a key that is looked up, by how many keys there are, and a key that
// is asked for and used in the sample itself.
//
//   larder_what_if_benchmark

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/connector/hit_rate_sketch.h"
#include "larder/connector/what_if_feed.h"

namespace {

using namespace larder;

constexpr std::uint64_t kValueBytes = 65'536;
constexpr std::size_t kBatch = 512;
constexpr std::size_t kKeyBytes = 110;

/// As the log store, which has the hash of each key that is looked up.
class KeptHashes final : public KeyHashes {
 public:
  std::uint64_t hash_of(std::span<const std::byte> key) const noexcept override {
    std::uint64_t word = 0;
    std::memcpy(&word, key.data() + 40, sizeof word);
    return word * 0x9E37'79B9'7F4A'7C15U;
  }
  std::uint64_t hash_of_lookup(const Item& item) const noexcept override {
    return item.connector_words[1];
  }
};

/// Batches of lookups that all hit, of random keys; `state.range(0)` keys fill the capacity. The
/// second argument: 2, with an estimate; 1, the same, of keys with a hash; 0, without, which is the
/// cost of this loop.
void lookups(benchmark::State& state) {
  const auto keys = static_cast<std::uint64_t>(state.range(0));
  const KeptHashes kept;
  WhatIfFeed feed{{.capacity_bytes = state.range(1) == 0 ? 0 : keys * kValueBytes},
                  state.range(1) == 1 ? &kept : nullptr};
  std::vector<std::string> names(kBatch, std::string(kKeyBytes, 'k'));
  std::vector<Item> items(kBatch);
  Slice slice{nullptr, kValueBytes};
  Batch batch;
  batch.items = items;
  Random random{1};
  const auto fill = [&](auto next) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      const std::uint64_t key = next();
      std::memcpy(names[i].data() + 40, &key, sizeof key);
      items[i].key = std::as_bytes(std::span{names[i].data(), names[i].size()});
      items[i].connector_words[1] = key * 0x9E37'79B9'7F4A'7C15U;
    }
  };
  std::uint64_t stored = 0;
  while (stored < keys) {
    fill([&] { return stored++; });
    for (Item& item : items) {
      item.value = {&slice, 1};
      item.outcome = Outcome::kDone;
    }
    batch.op = Op::kSet;
    feed.note(batch);
  }
  batch.op = Op::kExists;
  for (Item& item : items) {
    item.value = {};
    item.outcome = Outcome::kHit;
  }
  for (auto _ : state) {
    fill([&] { return random.below(keys); });
    feed.note(batch);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}
BENCHMARK(lookups)
    ->ArgNames({"keys", "on"})
    ->ArgsProduct({{4'000, 100'000, 1'000'000, 10'000'000}, {0, 1, 2}});

/// Every key is in the sample: one is asked for and used.
void sampled(benchmark::State& state) {
  HitRateSketch sketch{{.capacity_bytes = 4'000 * kValueBytes}};
  Random random{1};
  std::vector<std::uint64_t> hashes(4'000);
  for (std::uint64_t& hash : hashes) hash = random.next() >> 1;
  for (auto _ : state) {
    const std::uint64_t hash = hashes[random.below(hashes.size())];
    sketch.begin_request();
    sketch.ask(hash, true);
    sketch.use(hash, kValueBytes);
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["bytes"] = static_cast<double>(sketch.memory_bytes());
}
BENCHMARK(sampled);

}  // namespace

BENCHMARK_MAIN();
