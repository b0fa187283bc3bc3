#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/size_text.h"
#include "larder/cache/arena/arena.h"
#include "larder/cache/engine.h"
#include "larder/tools/completion_wait.h"
#include "larder/tools/l1_replay.h"
#include "larder/tools/lru_model.h"
#include "larder/tools/progress.h"
#include "larder/tools/replay_values.h"

namespace larder::tools {
namespace {

/// The longest wait before the stop flag is looked at.
constexpr std::uint64_t kWaitNs = 200'000'000;
/// How long L2 may take at the end for L1's remaining cells.
constexpr std::uint64_t kDrainNs = 30'000'000'000;
/// For stores to a tier that takes nothing: the third failure ends a cell's want.
constexpr std::uint32_t kTriesMax = 3;
constexpr cache::SessionKey kRequest{.connection = 1, .request = "replay"};

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

cache::ChunkHash chunk_of(std::uint64_t block) noexcept {
  cache::ChunkHash chunk;
  std::memcpy(chunk.bytes.data(), &block, sizeof block);
  return chunk;
}

std::uint64_t block_of(const cache::ChunkHash& chunk) noexcept {
  std::uint64_t block = 0;
  std::memcpy(&block, chunk.bytes.data(), sizeof block);
  return block;
}

/// With one rank, the keys equal those of a replay without L1, so that each finds the other's
/// values.
class ReplayKeys final : public cache::KeyNames {
 public:
  explicit ReplayKeys(const L1ReplayOptions& options)
      : prefix_(options.key_prefix + format_bytes_exact(options.cell_bytes()) +
                (options.ranks == 1 ? "/" : "x" + std::to_string(options.ranks) + "/")),
        has_ranks_(options.ranks > 1) {}

  std::size_t write_key(const cache::CellName& cell,
                        std::span<std::byte, kKeyBytesMax> out) const noexcept override {
    auto* const begin = reinterpret_cast<char*>(out.data());
    char* const end = begin + out.size();
    std::memcpy(begin, prefix_.data(), prefix_.size());
    char* at = std::to_chars(begin + prefix_.size(), end, block_of(cell.chunk)).ptr;
    if (has_ranks_) {
      *at++ = '/';
      at = std::to_chars(at, end, cell.rank).ptr;
    }
    return static_cast<std::size_t>(at - begin);
  }

  /// Valid until the next call.
  std::string_view key(const cache::ChunkHash& chunk, std::uint32_t rank) {
    cache::CellName cell;
    cell.chunk = chunk;
    cell.rank = rank;
    const std::size_t bytes = write_key(cell, buffer_);
    return {reinterpret_cast<const char*>(buffer_.data()), bytes};
  }

 private:
  const std::string prefix_;
  const bool has_ranks_;
  std::array<std::byte, kKeyBytesMax> buffer_{};
};

class L1Replayer final : private cache::Listener {
 public:
  L1Replayer(const L1ReplayOptions& options, const std::vector<TraceRequest>& trace,
             const std::vector<Connector*>& tiers, const std::atomic<bool>& stop)
      : options_(options),
        trace_(trace),
        tiers_(tiers),
        stop_(stop),
        keys_(options),
        progress_("replay", options.is_quiet) {}

  SetupResult<L1ReplayResult> run() {
    LARDER_TRY(prepare());
    started_ns_ = now_ns();
    for (const TraceRequest& request : trace_) {
      wait_for_time(request);
      if (is_ending() || !serve(request)) break;
      if (options_.speed <= 0) settle();
      show_progress();
    }
    finish();
    return std::move(result_);
  }

 private:
  void on_result(cache::Ticket, std::optional<std::uint32_t>) override {}
  void on_get(cache::Ticket, std::span<const cache::GetOutcome>) override {}
  void on_column(cache::ColumnEvent, cache::SpaceId, const cache::ChunkHash&) override {}

  SetupStatus prepare() {
    for (const Connector* const tier : tiers_) {
      LARDER_TRY(check_cell_bytes(options_, tier->capabilities().value_bytes_max));
    }
    cache::ArenaOptions of_arena;
    if (options_.sizes_only) {
      of_arena.kind = cache::ArenaKind::kOffsets;
      // The largest that cells fill exactly: the arena has a bound on grains.
      const std::uint64_t fitting = std::uint64_t{1} << std::countr_zero(options_.cell_bytes());
      of_arena.grain_bytes = std::max(of_arena.grain_bytes, fitting);
    }
    of_arena.capacity_bytes = options_.l1_bytes;
    auto arena = cache::Arena::open(of_arena);
    if (!arena) return SetupError{arena.error().code, "--l1: " + arena.error().text};
    arena_ = std::move(*arena);
    result_.columns_max =
        arena_->capacity_bytes() / (options_.ranks * arena_->taken_for(options_.cell_bytes()));
    if (result_.columns_max == 0) {
      return SetupError{ErrorCode::kInvalidArgument,
                        "--l1 " + format_bytes_exact(options_.l1_bytes) +
                            ": expected room for one block at least, " +
                            format_bytes_exact(options_.block_bytes)};
    }
    make_engine();
    result_.has_model = options_.with_model;
    if (result_.has_model) lru_.emplace(result_.columns_max, LruOrder::kLastToFirst);
    return {};
  }

  void make_engine() {
    cache::EngineOptions with;
    with.policy = options_.policy;
    with.promote = options_.promote;
    result_.policy = (*cache::find_policy(options_.policy))->name;
    result_.tiers.resize(tiers_.size());  // Counted from here on: they do not move any more.
    std::vector<cache::Tier> faces;
    for (std::size_t i = 0; i < tiers_.size(); ++i) {
      faces.push_back({count_tier(*tiers_[i], result_.tiers[i]), {}});
      waits_for_.push_back({tiers_[i]->event_fd(), POLLIN, 0});
      result_.keys_at_start += tiers_[i]->report().keys;
    }
    cache::Listener& listener = *this;
    engine_ = std::make_unique<cache::Engine>(with, *arena_, keys_, std::move(faces), listener);
    engine_->turn(now_ns());
    cache::LayoutSpec layout{.model = "replay", .world_size = options_.ranks, .groups = {}};
    layout.groups.push_back({.cell_bytes = options_.cell_bytes()});
    const auto added = engine_->add_layout(layout);
    LARDER_CHECK(added.has_value());
    space_ = engine_->space(*added, cache::SaltId{0});
    for (std::uint32_t rank = 0; rank < options_.ranks; ++rank) {
      workers_.push_back(engine_->add_owner(*added));
    }
  }

  bool is_ending() const { return stop_.load(std::memory_order_relaxed) || result_.mismatches > 0; }

  // ---- One request.

  /// False: the run ended before the request had an answer.
  bool serve(const TraceRequest& request) {
    next_turn_ns_ = engine_->turn(now_ns());
    chunks_.clear();
    for (const std::uint64_t block : request.blocks) chunks_.push_back(chunk_of(block));
    const std::uint64_t l1_hits_before = stats().totals.hit_l1;
    const std::optional<std::uint32_t> hit = look_up();
    if (!hit) return false;
    count(request, {static_cast<std::uint32_t>(stats().totals.hit_l1 - l1_hits_before), 0}, *hit);
    for (std::uint32_t rank = 0; rank < options_.ranks; ++rank) read(rank, *hit);
    write(*hit);
    engine_->end(kRequest);
    return true;
  }

  std::optional<std::uint32_t> look_up() {
    const std::uint64_t begin = now_ns();
    cache::LookupSpec spec;
    spec.space = space_;
    spec.chunks = chunks_;
    engine_->lookup(kRequest, spec);
    std::optional<std::uint32_t> hit = engine_->take_result(kRequest);
    // The call may have left the engine something to do at once, or an earlier time to wait for.
    if (!hit) next_turn_ns_ = engine_->turn(now_ns());
    while (!hit) {
      if (is_ending()) {
        engine_->end(kRequest);
        return std::nullopt;
      }
      wait_for_tiers(kWaitNs);
      hit = engine_->take_result(kRequest);
    }
    const std::uint64_t took = now_ns() - begin;
    result_.lookup_ns.record(took);
    result_.lookup_busy_ns += took;
    return hit;
  }

  void count(const TraceRequest& request, RequestHits hits, std::uint32_t hit) {
    hits.l2 = hit - hits.l1;
    result_.requests.push_back(hits);
    result_.total.blocks += request.blocks.size();
    result_.total.tokens += request.input_tokens;
    const std::uint64_t l1_tokens = tokens_of(request, hits.l1);
    result_.hit_l1.blocks += hits.l1;
    result_.hit_l1.tokens += l1_tokens;
    result_.hit_l2.blocks += hits.l2;
    result_.hit_l2.tokens += tokens_of(request, hit) - l1_tokens;
    if (!options_.with_model) return;
    const std::size_t lru = lru_->request(request.blocks);
    const std::size_t unbounded = unbounded_.request(request.blocks);
    result_.model_lru.blocks += lru;
    result_.model_lru.tokens += tokens_of(request, lru);
    result_.model_unbounded.blocks += unbounded;
    result_.model_unbounded.tokens += tokens_of(request, unbounded);
  }

  std::span<const cache::ChunkHash> chunks(std::uint32_t begin, std::uint32_t end) const {
    return std::span{chunks_}.subspan(begin, end - begin);
  }

  void read(std::uint32_t rank, std::uint32_t hit) {
    if (hit == 0) return;
    cache::ReadSpec spec;
    spec.owner = workers_[rank];
    spec.session = kRequest;
    spec.space = space_;
    spec.rank = rank;
    spec.range = {0, hit};
    spec.chunks = chunks(0, hit);
    const auto read = engine_->begin_read(spec, slots_);
    LARDER_CHECK(read.has_value());  // Its lookup has locked all of it.
    for (const cache::CellSlot& cell : slots_) {
      result_.bytes_read += cell.slot.bytes;
      verify(keys_.key(spec.chunks[cell.chunk], rank), cell.slot);
    }
    engine_->end_read(*read);
  }

  void verify(std::string_view key, const cache::SlotRef& slot) {
    if (options_.sizes_only) return;
    const auto mismatch = values_.mismatch(key, {arena_->base() + slot.offset, slot.bytes},
                                           slot.bytes, result_.requests.size());
    if (mismatch && result_.mismatches++ == 0) result_.first_mismatch = *mismatch;
  }

  /// All workers write at once, like those of one model.
  void write(std::uint32_t hit) {
    const auto end = static_cast<std::uint32_t>(chunks_.size());
    if (hit == end || is_ending()) return;
    std::vector<cache::WriteId> writes;
    for (std::uint32_t rank = 0; rank < options_.ranks; ++rank) {
      cache::WriteSpec spec;
      spec.owner = workers_[rank];
      spec.space = space_;
      spec.rank = rank;
      spec.range = {hit, end};
      spec.chunks = chunks(hit, end);
      const auto write = engine_->begin_write(spec, slots_);
      if (!write) continue;  // No room at all: the engine counts it.
      writes.push_back(*write);
      for (const cache::CellSlot& cell : slots_) {
        result_.bytes_written += cell.slot.bytes;
        if (options_.sizes_only) continue;
        values_.fill(keys_.key(spec.chunks[cell.chunk], rank),
                     {arena_->base() + cell.slot.offset, cell.slot.bytes});
      }
    }
    for (const cache::WriteId id : writes) engine_->end_write(id, cache::WriteEnd::kPublish);
  }

  // ---- Waiting.

  const cache::EngineStats& stats() {
    engine_->snapshot(result_.stats);
    return result_.stats;
  }

  /// Waits for the tiers, for the engine's time, or for so long.
  void wait_for_tiers(std::uint64_t most_ns) {
    const std::uint64_t now = now_ns();
    const std::uint64_t until = std::min(next_turn_ns_, now + std::min(most_ns, kWaitNs));
    const std::uint64_t left_ms = until > now ? (until - now + 999'999) / 1'000'000 : 0;
    ::poll(waits_for_.data(), waits_for_.size(), static_cast<int>(left_ms));
    for (std::size_t tier = 0; tier < tiers_.size(); ++tier) engine_->on_tier(tier);
    next_turn_ns_ = engine_->turn(now_ns());
  }

  void wait_for_time(const TraceRequest& request) {
    if (options_.speed <= 0) return;
    const std::uint64_t due = started_ns_ + due_ns(request, trace_.front(), options_.speed);
    for (std::uint64_t now = now_ns(); now < due && !is_ending(); now = now_ns()) {
      wait_for_tiers(due - now);
    }
  }

  /// Until L2 has everything. If it took nothing in kTriesMax attempts, it is not waited for any
  /// more until it takes something.
  void settle() {
    const std::uint64_t done_before = stats().totals.l2_store_done;
    if (done_before == done_when_stuck_) return;
    std::uint64_t done = done_before;
    std::uint64_t submitted = result_.stats.totals.l2_store_submitted;
    const std::uint64_t submitted_before = submitted;
    std::uint32_t tries = 0;
    while (!is_ending() && stats().cells_wanted > 0 && tries < kTriesMax) {
      wait_for_tiers(kWaitNs);
      const cache::EngineTotals& totals = stats().totals;
      if (totals.l2_store_done != done) {
        tries = 0;
      } else if (totals.l2_store_submitted != submitted) {
        ++tries;
      }
      done = totals.l2_store_done;
      submitted = totals.l2_store_submitted;
    }
    const bool was_in_vain = done == done_before && submitted != submitted_before;
    if (tries == kTriesMax || was_in_vain) done_when_stuck_ = done;
  }

  // ---- The end.

  void show_progress() {
    if (!progress_.is_due()) return;
    progress_.update(
        result_.requests.size(), trace_.size(),
        fmt::format("hits {:.1f} %, {} written",
                    100.0 * static_cast<double>(result_.hit().blocks) /
                        static_cast<double>(std::max<std::uint64_t>(1, result_.total.blocks)),
                    format_bytes(result_.bytes_written)));
  }

  void finish() {
    progress_.finish();
    drain();
    result_.wall_ns = now_ns() - started_ns_;
    if (result_.mismatches > 0) {
      result_.interrupted_by = "a hit with wrong bytes";
    } else if (result_.requests.size() < trace_.size()) {
      result_.interrupted_by = "a signal";
    }
    stats();
    for (const Connector* const tier : tiers_) result_.tier_reports.push_back(tier->report());
    engine_.reset();
  }

  /// Every operation of a connector comes back; an interrupt only shortens the wait.
  void drain() {
    const std::uint64_t begin = now_ns();
    while (!engine_->drain(is_ending() ? now_ns() : begin + kDrainNs)) {
      if (now_ns() > begin + kBatchPatienceNs) {
        for (Connector* const tier : tiers_) static_cast<void>(tier->stop(now_ns() + kDrainNs));
      }
      wait_for_tiers(kWaitNs);
    }
  }

  const L1ReplayOptions& options_;
  const std::vector<TraceRequest>& trace_;
  const std::vector<Connector*>& tiers_;
  const std::atomic<bool>& stop_;
  ReplayKeys keys_;
  const ReplayValues values_;
  Progress progress_;
  LruModel unbounded_{LruModel::kUnbounded};
  std::optional<LruModel> lru_;
  L1ReplayResult result_;

  std::vector<pollfd> waits_for_;
  std::unique_ptr<cache::Arena> arena_;
  std::unique_ptr<cache::Engine> engine_;
  cache::SpaceId space_{};
  std::vector<cache::OwnerId> workers_;   ///< By rank.
  std::vector<cache::ChunkHash> chunks_;  ///< Of the request.
  std::vector<cache::CellSlot> slots_;
  std::uint64_t next_turn_ns_ = kNever;
  std::uint64_t done_when_stuck_ = kNever;  ///< Stores to L2 when settle() gave up.
  std::uint64_t started_ns_ = 0;
};

}  // namespace

SetupResult<L1ReplayResult> replay_l1(const L1ReplayOptions& options,
                                      const std::vector<TraceRequest>& trace,
                                      const std::vector<Connector*>& tiers,
                                      const std::atomic<bool>& stop) {
  LARDER_TRY(options.validate());
  return L1Replayer{options, trace, tiers, stop}.run();
}

}  // namespace larder::tools
