// What an eviction policy costs for each use of a column, and the bytes it needs for each.
//
//   larder_policy_benchmark [--benchmark_filter=prefix]

#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/policies/policy.h"

namespace {

using namespace larder::cache;

constexpr std::uint32_t kChain = 24;
constexpr ColumnId kNone = 0xFFFF'FFFF;

/// Requests of chains whose popularity falls off; a third of them were never there before.
void requests(benchmark::State& state, const PolicyKind& kind) {
  const auto capacity = static_cast<std::uint32_t>(state.range(0));
  const std::uint32_t chains = capacity / kChain * 4;
  // What malloc() has given out, in blocks of its own and of the system's.
  const auto in_use = [] {
    const auto info = ::mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  // The number of each block's column, as the engine's slab gives them; and the other way.
  std::vector<ColumnId> column_of(std::size_t{chains} * kChain, kNone);
  std::vector<std::uint32_t> block_of(capacity);
  std::vector<ColumnId> free(capacity);
  std::iota(free.begin(), free.end(), ColumnId{0});
  const std::size_t before = in_use();
  const std::unique_ptr<Policy> policy = kind.make({.capacity_bytes = capacity});
  larder::Random random{1};
  std::uint64_t stamp = 0;
  const auto request = [&] {
    const auto chain = static_cast<std::uint32_t>(
        std::min({random.below(chains), random.below(chains), random.below(chains)}));
    const std::uint32_t first = chain * kChain;
    const std::uint32_t hits = column_of[first] != kNone ? kChain : 0;
    policy->begin_chain({.chunks = kChain, .resident = hits, .end = kChain});
    for (std::uint32_t i = kChain; i-- > 0;) {
      const std::uint32_t block = first + i;
      ++stamp;
      if (column_of[block] != kNone) {
        policy->touch(column_of[block], stamp);
        continue;
      }
      ColumnId victim = 0;
      if (free.empty() && policy->coldest({&victim, 1}) == 1) {
        policy->erase(victim, Removal::kEvicted);
        column_of[block_of[victim]] = kNone;
        free.push_back(victim);
      }
      const ColumnId column = free.back();
      free.pop_back();
      policy->insert(column, block, 1, stamp);
      column_of[block] = column;
      block_of[column] = block;
    }
  };
  for (std::uint32_t i = 0; i < chains; ++i) request();
  const std::size_t used = in_use() - before;
  for (auto _ : state) request();
  state.SetItemsProcessed(state.iterations() * kChain);
  state.counters["bytes/column"] =
      static_cast<double>(used) / static_cast<double>(policy->columns());
}

}  // namespace

int main(int argc, char** argv) {
  for (const PolicyKind& kind : policy_kinds()) {
    if (kind.is_partitioned_by_salt || kind.name == "noop") continue;
    benchmark::RegisterBenchmark(std::string{kind.name}.c_str(), requests, kind)
        ->Arg(10'000)
        ->Arg(100'000)
        ->Arg(1'000'000);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
