#include "tests/engine_simulation/history.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "larder/base/check.h"
#include "tests/engine_simulation/clients.h"
#include "tests/engine_simulation/lookup_watch.h"
#include "tests/engine_simulation/operations.h"
#include "tests/engine_simulation/purging.h"
#include "tests/engine_simulation/room_watch.h"
#include "tests/engine_simulation/tier.h"
#include "tests/engine_simulation/values.h"
#include "tests/engine_simulation/workers.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {
namespace {

constexpr int kTurnsInARow = 4;
constexpr int kRoundsToEnd = 60;
constexpr int kRoundsMax = 1000;
constexpr int kEndsInARow = 8;

class History final : private Listener {
 public:
  explicit History(const HistoryOptions& options);
  HistoryResult run();

 private:
  void on_result(Ticket ticket, std::optional<std::uint32_t> hit) override {
    clients_.on_result(ticket, hit);
  }
  void on_get(Ticket ticket, std::span<const GetOutcome> outcomes) override {
    values_.on_get(ticket, outcomes);
  }
  void on_column(ColumnEvent event, SpaceId space, const ChunkHash& chunk) override {
    const CellId cell = cell_of(space, chunk, 0, 0);
    world_.log({3, static_cast<std::uint64_t>(event), cell.space, cell.prompt, cell.chunk});
    room_.on_column(event, cell);
  }
  void on_page_wanted(const PageWanted& question) override { purging_.on_page_wanted(question); }
  void on_purged(Ticket ticket, const PurgeResult& result) override {
    purging_.on_purged(ticket, result);
  }

  void trace_plan() const;
  void begin_life();
  void end_life();
  void end_history();
  void step();
  void act();
  void tier_event();
  void pass_time();
  void turn();
  void write_beside_head();
  void hear_tiers();
  void finish_all();
  void check();
  void drain();
  void check_drained(std::uint64_t deadline_ns);
  void check_watermarks();
  std::uint64_t used() const;
  std::uint64_t mark(double share) const;

  const std::uint64_t steps_;
  World world_;
  Clients clients_;
  Workers workers_;
  std::deque<TierUnderTest> tiers_;
  RoomWatch room_;
  LookupWatch lookups_;
  Values values_;
  Purging purging_;
  Operations operations_;
};

History::History(const HistoryOptions& options)
    : steps_(options.steps),
      world_(options.seed, options.trace),
      clients_(world_),
      workers_(world_, clients_),
      room_(world_, clients_, workers_),
      lookups_(world_, clients_, room_, tiers_),
      values_(world_, room_),
      purging_(world_, clients_, tiers_),
      operations_(world_, clients_, workers_, room_, purging_, tiers_) {
  for (TierId tier = 0; tier < world_.plan.tiers.size(); ++tier) {
    tiers_.emplace_back(world_, tier).set_watch(&lookups_);
  }
  clients_.set_watch(&lookups_);
  workers_.set_watch(&room_, &lookups_);
}

// ---- Lives.

void History::begin_life() {
  const Plan& plan = world_.plan;
  ArenaOptions of_arena;
  of_arena.kind = ArenaKind::kPrivate;
  of_arena.grain_bytes = plan.grain_bytes;
  of_arena.capacity_bytes = plan.capacity_bytes;
  of_arena.commit_ahead_bytes = 0;
  auto arena = Arena::open(of_arena);
  LARDER_CHECK(arena);
  world_.arena = std::move(*arena);
  std::vector<Tier> tiers;
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    tiers.push_back({tiers_[tier].connect(), plan.tiers[tier].options});
  }
  LARDER_CHECK(plan.options.validate());
  world_.engine = std::make_unique<Engine>(plan.options, *world_.arena, world_.names,
                                           std::move(tiers), static_cast<Listener&>(*this));
  room_.before_turn();
  world_.engine->turn(world_.now_ns);
  world_.quotas = {};
  world_.groups_known = 0;
  for (std::uint32_t i = 0; i < plan.workers; ++i) workers_.add();
  world_.spaces.clear();
  for (std::uint32_t salt = 0; salt < kSalts; ++salt) {
    world_.spaces.push_back(world_.engine->space(world_.layout_id, SaltId{salt}));
  }
  LayoutSpec values{.model = "values", .world_size = 1, .groups = {{}}};
  values.groups[0].cell_bytes = plan.has_open_sizes ? 0 : plan.value_bytes_max;
  world_.value_layout_id = *world_.engine->add_layout(values);
  world_.spaces.push_back(world_.engine->space(world_.value_layout_id, SaltId{kSalts}));
  values_.register_owner();
  const bool has_limits = plan.has_quotas || plan.has_tier_limits;
  for (int times = 0; has_limits && times < 2; ++times) operations_.set_quota();
  // From the life before; its end may overtake what is stored now.
  if (plan.has_tier_limits) operations_.count_accounts();
  if (plan.has_tier_limits && world_.one_in(2)) operations_.count_accounts();
  world_.stats = {};
}

/// An engine is stopped with whatever is going on.
void History::end_life() {
  drain();
  if (world_.has_failed()) return;
  world_.coverage.note(world_.stats.totals);
  world_.coverage.note(Seen::kRestart);
  world_.trace("restart");
  world_.memory.clear();
  world_.engine.reset();
  for (TierUnderTest& tier : tiers_) tier.restart();
  clients_.on_restart();
  workers_.on_restart();
  values_.on_restart();
  room_.on_restart();
  operations_.on_restart();
  lookups_.on_restart();
  world_.is_ending = false;
  ++world_.life;
}

void History::drain() {
  world_.is_ending = true;
  if (world_.stats.loading_bytes > 0) world_.coverage.note(Seen::kDrainWithLoads);
  const std::uint64_t deadline_ns = world_.now_ns + world_.below(4 * kSecond);
  for (int round = 0; round < kRoundsToEnd && !world_.has_failed(); ++round) {
    const bool is_over = world_.now_ns >= deadline_ns;
    if (is_over && world_.stats.l2_batches > 0) world_.coverage.note(Seen::kDrainCancelled);
    if (world_.engine->drain(deadline_ns)) return check_drained(deadline_ns);
    if (is_over) finish_all();
    for (TierUnderTest& tier : tiers_) {
      is_over ? tier.heal() : tier.event();
    }
    pass_time();
    check();
  }
  world_.fail("E37: an engine does not drain");
}

/// E33: only what a tier wants that is down stays unstored, or what has no time left.
void History::check_drained(std::uint64_t deadline_ns) {
  EngineStats stats;
  world_.engine->snapshot(stats);
  if (world_.now_ns >= deadline_ns || stats.cells_wanted == 0) return;
  const bool is_down = std::ranges::any_of(
      tiers_, [](const TierUnderTest& tier) { return tier.is_down_for_stores(); });
  world_.expect(is_down, "E33: a drain ends before a tier has what it wants");
}

std::uint64_t History::used() const {
  return world_.arena->capacity_bytes() - world_.arena->free_bytes();
}

std::uint64_t History::mark(double share) const {
  return static_cast<std::uint64_t>(share * static_cast<double>(world_.arena->capacity_bytes()));
}

/// Nothing is pinned or wanted: what is above the high mark leaves, down to the low one (E19).
void History::check_watermarks() {
  const EngineOptions& options = world_.plan.options;
  const bool was_above = used() > mark(options.high_watermark);
  for (int more = 0; more < kRoundsMax; ++more) {
    room_.before_turn();
    if (world_.engine->turn(world_.now_ns) > world_.now_ns) break;
  }
  // "noop" evicts nothing that is kept.
  if (options.policy == "noop") return;
  EngineStats stats;
  world_.engine->snapshot(stats);
  for (const SaltStats& salt : stats.salts) {
    world_.expect(salt.l1_bytes <= salt.quota.limit_bytes,
                  "E22: an idle engine has more of a salt than its limit");
  }
  if (world_.plan.has_quotas) return;  // A guarantee may keep more.
  world_.expect(used() <= mark(was_above ? options.low_watermark : options.high_watermark),
                "E19: an idle engine stays above its mark");
}

/// Whatever follows from what has ended, too.
void History::finish_all() {
  for (int times = 0; times < kEndsInARow; ++times) {
    for (TierUnderTest& tier : tiers_) tier.finish_all();
  }
}

/// Everything comes to an end, and nothing is left.
void History::end_history() {
  for (TierUnderTest& tier : tiers_) tier.heal();
  for (int round = 0; round < kRoundsMax && !world_.has_failed(); ++round) {
    const bool is_idle =
        world_.stats.l2_batches == 0 && world_.stats.cells_wanted == 0 && world_.stats.purges == 0;
    if (round >= kRoundsToEnd && is_idle) break;
    world_.now_ns += 10 * kSecond;
    turn();
    finish_all();
    purging_.answer_all();
    if (world_.plan.polls_eagerly) clients_.poll_all();
    check();
  }
  if (world_.has_failed()) return;
  world_.expect(clients_.requests().empty() && world_.stats.lookups_running == 0,
                "E9: a session outlives its time");
  world_.expect(world_.stats.l2_batches == 0, "P4: a batch does not come back");
  world_.expect(world_.stats.cells_wanted == 0, "E33: a store is never tried");
  world_.expect(world_.stats.purges == 0, "E36: a purge never ends");
  values_.end_all();
  workers_.end_all();
  check();
  lookups_.check_commits();
  if (world_.has_failed()) return;
  check_watermarks();
  room_.check_kept();
  lookups_.check_fills();
  room_.pause(true);
  operations_.clear(true, ClearScope::kL1);
  world_.engine->clear({.force = true});
  for (TierUnderTest& tier : tiers_) tier.finish_all();
  world_.engine->check_invariants();
  EngineStats stats;
  world_.engine->snapshot(stats);
  world_.expect(stats.free_bytes == stats.capacity_bytes, "I1: bytes of L1 are lost");
  world_.expect(stats.columns == 0 && stats.sessions == 0 && stats.owners == 0,
                "I2: something is left when everything has ended");
  world_.expect(clients_.waits() == 0, "I4: someone waits for ever");
  world_.coverage.note(stats.totals);
  world_.memory.clear();
  world_.engine.reset();
}

// ---- Steps.

void History::tier_event() {
  if (tiers_.empty()) return;
  TierUnderTest& tier = tiers_[static_cast<std::size_t>(world_.below(tiers_.size()))];
  world_.one_in(3) ? tier.event() : tier.finish_some();
}

void History::turn() {
  workers_.before_turn();
  clients_.before_turn();
  for (TierUnderTest& tier : tiers_) tier.pass_time();
  room_.before_turn();
  const EngineOptions& options = world_.plan.options;
  const bool was_above = used() > mark(options.high_watermark);
  std::uint64_t next_ns = world_.engine->turn(world_.now_ns);
  if (was_above && used() <= mark(options.low_watermark)) world_.coverage.note(Seen::kTrimmed);
  clients_.after_turn();
  world_.log({9, next_ns});
  if (next_ns <= world_.now_ns) world_.coverage.note(Seen::kEvictionOfSeveralTurns);
  for (int more = 0; more < kTurnsInARow && next_ns <= world_.now_ns && world_.one_in(2); ++more) {
    room_.before_turn();
    next_ns = world_.engine->turn(world_.now_ns);
  }
  if (next_ns <= world_.now_ns) write_beside_head();
}

/// E25: the head of the queue evicts in several turns, and nobody else gets what it frees. Judged
/// where all cells have one size, so that free bytes are room.
void History::write_beside_head() {
  const Plan& plan = world_.plan;
  EngineStats before;
  world_.engine->snapshot(before);
  if (before.lookups_waiting == 0 || plan.has_quotas || plan.has_open_sizes) return;
  if (plan.has_watermarks) return;  // The turn may be for them.
  for (const GroupSpec& group : world_.layout.groups) {
    if (group.cell_bytes != plan.unit_bytes || plan.changes_layout) return;
  }
  workers_.begin_write();
  EngineStats after;
  world_.engine->snapshot(after);
  world_.expect(after.free_bytes >= before.free_bytes,
                "E25: others get the room that was freed for the head");
}

void History::pass_time() {
  const std::uint64_t how_long = world_.below(4);
  world_.now_ns += how_long == 0   ? 1 + world_.below(20 * kSecond)
                   : how_long == 1 ? world_.below(3'000'000)
                                   : world_.below(kSecond);
  turn();
}

/// Its event fd is readable, and the driver looks soon.
void History::hear_tiers() {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    if (!world_.one_in(3)) world_.engine->on_tier(tier);
  }
}

void History::act() {
  switch (world_.below(26)) {
    case 0:
    case 1:
    case 2:
      return clients_.look_up();
    case 3:
      return clients_.poll();
    case 4:
      return world_.one_in(2) ? clients_.ask_as_another() : clients_.wait();
    case 5:
      return world_.one_in(2) ? clients_.free() : clients_.end();
    case 6:
    case 7:
    case 8:
      return workers_.read();
    case 9:
    case 10:
      return workers_.end_read();
    case 11:
    case 12:
    case 13:
      return workers_.begin_write();
    case 14:
    case 15:
    case 16:
      return workers_.end_write();
    case 17:
      return workers_.scribble();
    case 18:
      if (world_.one_in(4)) workers_.end_worker();
      return;
    case 19:
      if (world_.one_in(3)) operations_.event();
      return;
    case 20:
      return world_.one_in(3) ? clients_.connection_event() : clients_.warm_up();
    case 21:
    case 22:
      if (world_.plan.has_values) values_.event();
      return;
    default:
      return tier_event();
  }
}

void History::step() {
  ++world_.steps;
  world_.one_in(world_.plan.quiet) ? pass_time() : act();
  hear_tiers();
  purging_.go_on();
  if (world_.plan.polls_eagerly) clients_.poll_all();
  values_.check_answers();
  workers_.check_copies();
  check();
}

void History::check() {
  world_.engine->check_invariants();
  EngineStats& stats = world_.stats;
  world_.engine->snapshot(stats);
  world_.expect(stats.capacity_bytes == stats.free_bytes + stats.writing_bytes +
                                            stats.loading_bytes + stats.resident_bytes +
                                            stats.orphan_bytes + stats.quarantine_bytes,
                "I1: the bytes of L1 do not add up");
  std::uint64_t missed = 0;
  for (const std::uint64_t chunks : stats.totals.missed) missed += chunks;
  world_.expect(stats.totals.asked == stats.totals.hit_l1 + stats.totals.hit_l2 + missed,
                "I10: what was asked is not what was hit and missed");
  clients_.check(stats);
  room_.check(stats);
  lookups_.check(stats);
  purging_.check(stats);
}

void History::trace_plan() const {
  const Plan& plan = world_.plan;
  world_.trace("policy %s, promote %d, skip_l1 %d, %u ranks, %u groups, %u lives, polls eagerly %d",
               plan.options.policy.c_str(), static_cast<int>(plan.options.promote),
               plan.options.skip_l1, world_.ranks(), world_.groups(), plan.lives,
               plan.polls_eagerly);
  for (const TierPlan& tier : plan.tiers) {
    world_.trace("tier: log %d, probe %d, holds %d, faults %d, errors %d, memory %d, fill %d",
                 tier.is_log, tier.has_probe, tier.holds, tier.has_faults, tier.fails,
                 tier.locality == Locality::kMemory, static_cast<int>(tier.options.fill));
  }
}

HistoryResult History::run() {
  trace_plan();
  for (TierUnderTest& tier : tiers_) tier.fill();
  for (std::uint32_t life = 0; life < world_.plan.lives && !world_.has_failed(); ++life) {
    begin_life();
    const std::uint64_t steps = steps_ / world_.plan.lives;
    for (std::uint64_t i = 0; i < steps && !world_.has_failed(); ++i) step();
    if (world_.has_failed()) break;
    life + 1 < world_.plan.lives ? end_life() : end_history();
  }
  HistoryResult result;
  result.failure = world_.failure;
  result.digest = world_.digest;
  for (const TierUnderTest& tier : tiers_) tier.note(world_.coverage);
  result.coverage = world_.coverage;
  return result;
}

}  // namespace

HistoryResult run_history(const HistoryOptions& options) {
  return History{options}.run();
}

}  // namespace larder::cache::simulation
