#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "larder/cache/arena/arena.h"
#include "larder/cache/engine.h"

namespace larder::cache {

/// The prompt `prompt` of `count` chunks. Prompts share nothing.
inline std::vector<ChunkHash> chain_of(std::uint64_t prompt, std::uint32_t count) {
  std::vector<ChunkHash> chain(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t words[2] = {prompt, i};
    std::memcpy(chain[i].bytes.data(), words, sizeof words);
  }
  return chain;
}

/// "<space>/<rank>/<group>/<prompt>/<chunk>" for chunks of chain_of().
class TestNames final : public KeyNames {
 public:
  std::size_t write_key(const CellName& cell,
                        std::span<std::byte, kKeyBytesMax> out) const noexcept override {
    std::uint64_t words[2] = {};
    std::memcpy(words, cell.chunk.bytes.data(), sizeof words);
    const int length = std::snprintf(reinterpret_cast<char*>(out.data()), out.size(),
                                     "%u/%u/%u/%llu/%llu", index_of(cell.space), cell.rank,
                                     cell.group, static_cast<unsigned long long>(words[0]),
                                     static_cast<unsigned long long>(words[1]));
    return static_cast<std::size_t>(length);
  }
};

/// Records the engine's events.
class Heard final : public Listener {
 public:
  struct Result {
    Ticket ticket{};
    std::optional<std::uint32_t> hit;
  };
  struct Got {
    Ticket ticket{};
    std::vector<GetOutcome> outcomes;
  };
  struct Event {
    ColumnEvent event{};
    SpaceId space{};
    ChunkHash chunk;
  };

  void on_result(Ticket ticket, std::optional<std::uint32_t> hit) override {
    results.push_back({ticket, hit});
  }
  void on_get(Ticket ticket, std::span<const GetOutcome> outcomes) override {
    gets.push_back({ticket, {outcomes.begin(), outcomes.end()}});
  }
  void on_column(ColumnEvent event, SpaceId space, const ChunkHash& chunk) override {
    events.push_back({event, space, chunk});
  }

  void on_page_wanted(const PageWanted& question) override { pages_wanted.push_back(question); }
  void on_purged(Ticket purge, const PurgeResult& result) override {
    purged.push_back({purge, result});
  }

  std::vector<PageWanted> pages_wanted;
  std::vector<std::pair<Ticket, PurgeResult>> purged;
  std::vector<Result> results;
  std::vector<Got> gets;
  std::vector<Event> events;
};

inline constexpr std::uint64_t kSecond = 1'000'000'000;

/// An engine over an arena without memory, at a time that the test sets. One cell of the usual
/// layout takes one grain.
class EngineFixture : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kGrain = 4096;

  /// Before the first use of engine().
  EngineOptions options;
  std::uint64_t capacity_cells = 64;
  std::vector<Tier> tiers;

  Engine& engine() {
    if (engine_ == nullptr) {
      ArenaOptions of_arena;
      of_arena.kind = arena_kind;
      of_arena.capacity_bytes = capacity_cells * kGrain;
      of_arena.commit_ahead_bytes = 0;
      arena_ = std::move(*Arena::open(of_arena));
      EXPECT_TRUE(options.validate());
      engine_ = std::make_unique<Engine>(options, *arena_, names, std::move(tiers), heard);
      engine_->turn(now_ns);
    }
    return *engine_;
  }
  void TearDown() override {
    if (engine_ != nullptr) engine_->check_invariants();
  }

  static LayoutSpec layout_spec(std::uint32_t ranks = 1, std::vector<std::uint32_t> windows = {0},
                                std::string model = "model") {
    LayoutSpec spec{.model = std::move(model), .world_size = ranks, .groups = {}};
    for (const std::uint32_t window : windows) {
      spec.groups.push_back({.cell_bytes = kGrain, .window_chunks = window});
    }
    return spec;
  }
  /// Registers a model and one owner; space_ and owner_ are theirs.
  void add_model(std::uint32_t ranks = 1, std::vector<std::uint32_t> windows = {0}) {
    layout_ = *engine().add_layout(layout_spec(ranks, std::move(windows)));
    ranks_ = ranks;
    space_ = engine().space(layout_, SaltId{0});
    owner_ = engine().add_owner(layout_);
  }

  void advance(std::uint64_t by_ns) {
    now_ns += by_ns;
    engine().turn(now_ns);
    engine().check_invariants();
  }

  /// Like a COMMIT of chunks [begin, end) for one rank. How many cells were given slots.
  std::size_t store_rank(std::uint32_t rank, std::span<const ChunkHash> chain, ChunkRange range,
                         std::optional<SpaceId> space = {}) {
    const std::optional<WriteId> write = begin_write(rank, chain, range, space);
    if (!write) return 0;
    const std::size_t count = slots.size();
    EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
    engine().check_invariants();
    return count;
  }
  std::size_t store(std::span<const ChunkHash> chain, std::optional<SpaceId> space = {}) {
    std::size_t cells = 0;
    for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
      cells += store_rank(rank, chain, {0, static_cast<std::uint32_t>(chain.size())}, space);
    }
    return cells;
  }
  WriteSpec write_spec(std::uint32_t rank, std::span<const ChunkHash> chain, ChunkRange range,
                       std::optional<SpaceId> space = {}) const {
    WriteSpec spec;
    spec.owner = owner_;
    spec.space = space.value_or(space_);
    spec.rank = rank;
    spec.range = range;
    spec.chunks = chain.subspan(range.begin, range.size());
    return spec;
  }
  std::optional<WriteId> begin_write(std::uint32_t rank, std::span<const ChunkHash> chain,
                                     ChunkRange range, std::optional<SpaceId> space = {}) {
    const auto write = engine().begin_write(write_spec(rank, chain, range, space), slots);
    engine().check_invariants();
    return write;
  }

  /// A lookup that L1 decides.
  std::uint32_t look_up(std::string_view request, std::span<const ChunkHash> chain,
                        std::uint32_t readers = 1, std::uint64_t connection = 1) {
    start_lookup(request, chain, readers, connection);
    return engine().take_result({connection, request}).value_or(kNone);
  }
  void start_lookup(std::string_view request, std::span<const ChunkHash> chain,
                    std::uint32_t readers = 1, std::uint64_t connection = 1) {
    LookupSpec spec;
    spec.space = space_;
    spec.chunks = chain;
    spec.readers = readers;
    engine().lookup({connection, request}, spec);
    engine().check_invariants();
  }
  void end(std::string_view request, std::uint64_t connection = 1) {
    engine().end({connection, request});
    engine().check_invariants();
  }
  void release(std::string_view request, ChunkRange range, std::uint64_t connection = 1) {
    engine().release({connection, request}, range);
    engine().check_invariants();
  }

  ReadSpec read_spec(std::string_view request, std::uint32_t rank, std::span<const ChunkHash> chain,
                     ChunkRange range, std::uint64_t connection = 1) const {
    ReadSpec spec;
    spec.owner = owner_;
    spec.session = {connection, request};
    spec.space = space_;
    spec.rank = rank;
    spec.range = range;
    spec.chunks = chain.subspan(range.begin, range.size());
    return spec;
  }
  std::optional<ReadId> begin_read(const ReadSpec& spec) {
    const auto read = engine().begin_read(spec, slots);
    engine().check_invariants();
    return read;
  }

  EngineStats stats() {
    EngineStats stats;
    engine().snapshot(stats);
    return stats;
  }
  /// Locked cells of one grain.
  std::uint64_t locked_cells() { return stats().locked_bytes / kGrain; }
  /// Evicts everything that may go.
  void fill_with_others(std::uint32_t chunks, std::uint64_t prompt = 1'000'000) {
    store(chain_of(prompt, chunks));
  }

  ArenaKind arena_kind = ArenaKind::kOffsets;
  TestNames names;
  Heard heard;
  std::uint64_t now_ns = 1'000 * kSecond;
  LayoutId layout_{};
  SpaceId space_{};
  OwnerId owner_{};
  std::uint32_t ranks_ = 1;
  std::vector<CellSlot> slots;

  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace larder::cache
