// The log index at 10 M keys: what probe(), the reactor's lookups and the opening of a store cost.
//
//   larder_index_benchmark [--benchmark_filter=probe]

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/check.h"
#include "larder/base/random.h"
#include "larder/connectors/log/index/index.h"

namespace {

using larder::Random;
using larder::log_store::Fingerprint;
using larder::log_store::fingerprint_of;
using larder::log_store::Index;
using larder::log_store::IndexEntry;

constexpr std::uint64_t kKeys = 10'000'000;
constexpr std::uint64_t kSeed = 42;
constexpr std::size_t kBatch = 512;
constexpr std::size_t kBatches = 2048;  // A million looks: more than any cache holds.
constexpr std::size_t kKeyBytesMax = 128;
constexpr std::size_t kAssignsAhead = 16;

/// A key that differs from the others in its first bytes; the rest is the same.
void make_key(std::uint64_t number, std::span<std::byte> key) {
  std::memset(key.data(), 0x5A, key.size());
  std::memcpy(key.data(), &number, sizeof(number));
}

Fingerprint fingerprint(std::uint64_t number, std::size_t key_bytes) {
  std::byte key[kKeyBytesMax];
  make_key(number, {key, key_bytes});
  return fingerprint_of({key, key_bytes}, kSeed);
}

void fill(Index& index, std::uint64_t keys, std::size_t key_bytes) {
  for (std::uint64_t i = 0; i < keys; ++i) {
    LARDER_CHECK(index.assign(fingerprint(i, key_bytes), {.value_bytes = 1}));
  }
}

Index& full_index(std::size_t key_bytes) {
  static std::unique_ptr<Index> index;
  static std::size_t of_key_bytes = 0;
  if (index == nullptr || of_key_bytes != key_bytes) {
    index = std::make_unique<Index>(UINT64_MAX);
    fill(*index, kKeys, key_bytes);
    of_key_bytes = key_bytes;
  }
  return *index;
}

/// Uniform numbers of which half are keys of the index.
std::vector<std::uint64_t> looked_for() {
  Random random{7};
  std::vector<std::uint64_t> numbers(kBatches * kBatch);
  for (auto& number : numbers) number = random.below(2 * kKeys);
  return numbers;
}

void report_hits(benchmark::State& state, std::uint64_t hits) {
  const auto looked = static_cast<double>(state.iterations()) * static_cast<double>(kBatch);
  state.SetItemsProcessed(static_cast<std::int64_t>(looked));
  state.counters["hits"] = static_cast<double>(hits) / looked;
}

void probe_fingerprints(benchmark::State& state) {
  const Index& index = full_index(32);
  std::vector<Fingerprint> fingerprints;
  for (const std::uint64_t number : looked_for()) fingerprints.push_back(fingerprint(number, 32));
  std::vector<IndexEntry> entries(kBatch);
  std::vector<std::uint8_t> found(kBatch);
  std::uint64_t hits = 0;
  std::size_t batch = 0;
  while (state.KeepRunning()) {
    index.find_many(std::span{fingerprints}.subspan(batch * kBatch, kBatch), entries, found);
    for (const std::uint8_t one : found) hits += one;
    batch = (batch + 1) % kBatches;
  }
  report_hits(state, hits);
}
BENCHMARK(probe_fingerprints);

void probe_keys(benchmark::State& state) {
  const auto key_bytes = static_cast<std::size_t>(state.range(0));
  const Index& index = full_index(key_bytes);
  const std::vector<std::uint64_t> numbers = looked_for();
  std::vector<std::byte> keys(numbers.size() * key_bytes);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    make_key(numbers[i], std::span{keys}.subspan(i * key_bytes, key_bytes));
  }
  std::vector<Fingerprint> fingerprints(kBatch);
  std::vector<IndexEntry> entries(kBatch);
  std::vector<std::uint8_t> found(kBatch);
  std::uint64_t hits = 0;
  std::size_t batch = 0;
  while (state.KeepRunning()) {
    const std::byte* const first = keys.data() + batch * kBatch * key_bytes;
    for (std::size_t i = 0; i < kBatch; ++i) {
      fingerprints[i] = fingerprint_of({first + i * key_bytes, key_bytes}, kSeed);
    }
    index.find_many(fingerprints, entries, found);
    for (const std::uint8_t one : found) hits += one;
    batch = (batch + 1) % kBatches;
  }
  report_hits(state, hits);
}
BENCHMARK(probe_keys)->ArgName("key_bytes")->Arg(32)->Arg(110);

void find_one(benchmark::State& state) {
  const Index& index = full_index(32);
  std::vector<Fingerprint> fingerprints;
  for (const std::uint64_t number : looked_for()) fingerprints.push_back(fingerprint(number, 32));
  std::size_t i = 0;
  while (state.KeepRunning()) {
    benchmark::DoNotOptimize(index.find(fingerprints[i]));
    i = (i + 1) % fingerprints.size();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(find_one);

/// What opening a store does: fingerprints from tables, one after the other, into a growing index.
void assign(benchmark::State& state) {
  const auto keys = static_cast<std::uint64_t>(state.range(0));
  const bool is_reserved = state.range(1) != 0;
  std::vector<Fingerprint> fingerprints(keys + kAssignsAhead);
  for (std::uint64_t i = 0; i < fingerprints.size(); ++i) fingerprints[i] = fingerprint(i, 32);
  double bytes_per_key = 0;
  while (state.KeepRunning()) {
    Index index{UINT64_MAX};
    if (is_reserved) index.reserve(keys);
    for (std::uint64_t i = 0; i < keys; ++i) {
      index.prefetch(fingerprints[i + kAssignsAhead]);
      LARDER_CHECK(index.assign(fingerprints[i], {.value_bytes = 1}));
    }
    bytes_per_key = static_cast<double>(index.bytes()) / static_cast<double>(keys);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.counters["bytes_per_key"] = bytes_per_key;
}
BENCHMARK(assign)
    ->Unit(benchmark::kMillisecond)
    ->ArgNames({"keys", "reserved"})
    ->Args({1'000'000, 0})
    ->Args({3'000'000, 0})
    ->Args({10'000'000, 0})
    ->Args({10'100'000, 0})
    ->Args({10'000'000, 1});

/// A full store: one key goes, one comes.
void replace(benchmark::State& state) {
  Index& index = full_index(32);
  std::uint64_t number = 0;
  while (state.KeepRunning()) {
    const Fingerprint going = fingerprint(number % kKeys, 32);
    LARDER_CHECK(index.erase(going));
    LARDER_CHECK(index.assign(going, {.value_bytes = 2}));
    ++number;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(replace);

}  // namespace

BENCHMARK_MAIN();
