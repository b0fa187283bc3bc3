// What the cache engine costs its one thread, over L1 alone and 100,000 resident columns.
//
//   larder_engine_benchmark [--benchmark_filter=lookup]

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "larder/base/check.h"
#include "larder/base/random.h"
#include "larder/cache/engine.h"

namespace {

using namespace larder::cache;

constexpr std::uint32_t kColumns = 100'000;
constexpr std::uint32_t kChain = 512;  // 128 k tokens.
constexpr std::uint64_t kCellBytes = 4096;

class NoNames final : public KeyNames {
  std::size_t write_key(const CellName&,
                        std::span<std::byte, larder::kKeyBytesMax>) const noexcept override {
    return 0;
  }
};

class NoListener final : public Listener {
  void on_result(Ticket, std::optional<std::uint32_t>) override {}
  void on_get(Ticket, std::span<const GetOutcome>) override {}
  void on_column(ColumnEvent, SpaceId, const ChunkHash&) override {}
};

std::vector<ChunkHash> chain_of(std::uint64_t prompt, std::uint32_t count) {
  std::vector<ChunkHash> chain(count);
  larder::Random random{prompt};
  for (ChunkHash& chunk : chain) random.fill(chunk.bytes);
  return chain;
}

/// An engine whose L1 is full of prompts of kChain chunks.
class FullEngine {
 public:
  explicit FullEngine(std::uint32_t ranks) : ranks_(ranks) {
    ArenaOptions of_arena;
    of_arena.kind = ArenaKind::kOffsets;
    of_arena.capacity_bytes = std::uint64_t{kColumns} * ranks * kCellBytes;
    arena_ = std::move(*Arena::open(of_arena));
    EngineOptions options;
    options.columns_expected = kColumns;
    engine_ = std::make_unique<Engine>(options, *arena_, names_, std::vector<Tier>{}, listener_);
    LayoutSpec layout{.model = "m", .world_size = ranks, .groups = {{.cell_bytes = kCellBytes}}};
    layout_ = *engine_->add_layout(layout);
    space_ = engine_->space(layout_, SaltId{0});
    owner_ = engine_->add_owner(layout_);
    for (std::uint64_t prompt = 0; prompt < kColumns / kChain; ++prompt) {
      chains.push_back(chain_of(prompt, kChain));
      for (std::uint32_t rank = 0; rank < ranks; ++rank) LARDER_CHECK(store(chains.back(), rank));
    }
  }

  bool store(std::span<const ChunkHash> chain, std::uint32_t rank) {
    WriteSpec spec;
    spec.owner = owner_;
    spec.space = space_;
    spec.rank = rank;
    spec.range = {0, static_cast<std::uint32_t>(chain.size())};
    spec.chunks = chain;
    const auto write = engine_->begin_write(spec, slots_);
    return write && engine_->end_write(*write, WriteEnd::kPublish);
  }
  std::uint32_t look_up(std::span<const ChunkHash> chain) {
    const SessionKey key{1, "cmpl-0123456789abcdef0123456789abcdef"};
    LookupSpec spec;
    spec.space = space_;
    spec.chunks = chain;
    spec.readers = ranks_;
    engine_->lookup(key, spec);
    const std::uint32_t hit = engine_->take_result(key).value_or(0);
    engine_->release(key, {0, hit});
    engine_->end(key);
    return hit;
  }
  void turn() { engine_->turn(now_ns_ += 1000); }

  std::vector<std::vector<ChunkHash>> chains;

 private:
  const std::uint32_t ranks_;
  NoNames names_;
  NoListener listener_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Engine> engine_;
  LayoutId layout_{};
  SpaceId space_{};
  OwnerId owner_{};
  std::vector<CellSlot> slots_;
  std::uint64_t now_ns_ = 1;
};

/// LOOKUP, QUERY, FREE and END of 512 chunks that are all there, another prompt each time.
void lookup(benchmark::State& state) {
  FullEngine engine{static_cast<std::uint32_t>(state.range(0))};
  larder::Random random{1};
  for (auto _ : state) {
    const auto& chain = engine.chains[random.below(engine.chains.size())];
    LARDER_CHECK(engine.look_up(chain) == kChain);
  }
}
BENCHMARK(lookup)->Arg(1)->Arg(8)->Unit(benchmark::kMicrosecond);

/// begin_write() and its commit of so many chunks of one rank, each of which evicts a column. 256
/// is what one turn may evict (E19).
void write_with_eviction(benchmark::State& state) {
  FullEngine engine{1};
  const auto chunks = static_cast<std::uint32_t>(state.range(0));
  std::vector<std::vector<ChunkHash>> chains;
  for (std::uint64_t i = 0; i < 320'000 / chunks; ++i) {
    chains.push_back(chain_of(1'000'000 + i, chunks));
  }
  std::size_t next = 0;
  for (auto _ : state) {
    engine.turn();
    LARDER_CHECK(engine.store(chains[next], 0));
    next = (next + 1) % chains.size();
  }
}
BENCHMARK(write_with_eviction)->Arg(16)->Arg(256)->Unit(benchmark::kMicrosecond);

/// An arena of 64 GiB, opened and closed; 0: private memory, 1: shared.
void open_arena(benchmark::State& state) {
  ArenaOptions options;
  options.kind = state.range(0) == 0 ? ArenaKind::kPrivate : ArenaKind::kShared;
  options.name = "larder-engine-benchmark";
  options.capacity_bytes = std::uint64_t{64} << 30;
  options.commit_ahead_bytes = 0;
  for (auto _ : state) {
    const auto arena = Arena::open(options);
    LARDER_CHECK(arena.has_value());
    benchmark::DoNotOptimize((*arena)->base());
  }
}
BENCHMARK(open_arena)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
