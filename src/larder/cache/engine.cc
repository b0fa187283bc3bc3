#include "larder/cache/engine.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"
#include "larder/cache/cells.h"
#include "larder/cache/column_table.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/fetches.h"
#include "larder/cache/gets.h"
#include "larder/cache/lookups.h"
#include "larder/cache/owners.h"
#include "larder/cache/purges.h"
#include "larder/cache/reads.h"
#include "larder/cache/room.h"
#include "larder/cache/sessions.h"
#include "larder/cache/slot_table.h"
#include "larder/cache/stores.h"
#include "larder/cache/tiers.h"
#include "larder/cache/uses.h"
#include "larder/cache/writes.h"

namespace larder::cache {
namespace {

constexpr std::size_t kTimersATurn = 256;

/// The tiers hold copies of each other. 0: none is loaded from, or one of these has no bound.
std::uint64_t largest_capacity(const std::vector<Tier>& tiers) {
  std::uint64_t largest = 0;
  for (const Tier& tier : tiers) {
    if (!tier.options.load) continue;
    const std::uint64_t capacity = tier.connector->report().capacity_bytes;
    if (capacity == 0) return 0;
    largest = std::max(largest, capacity);
  }
  return largest;
}

}  // namespace

/// The parts, each built on the ones before it.
class Engine::Core {
 public:
  Core(const EngineOptions& options, Arena& arena, const KeyNames& names,
       std::vector<Tier> of_tiers, Listener& listener)
      : l2_bytes(options.estimates_capacities ? largest_capacity(of_tiers) : 0),
        state(options, listener),
        slots(arena),
        columns(options.columns_expected),
        room(state, columns, arena.capacity_bytes()),
        cells(state, slots, columns, room),
        owners(state),
        sessions(state, cells),
        tiers(state, std::move(of_tiers), names, arena),
        purges(state, tiers),
        stores(state, cells, tiers),
        uses(state, cells, tiers, stores),
        promotion(state, tiers),
        fetches(state, cells, sessions, tiers, stores, uses, promotion),
        gets(state, cells, tiers, stores, uses, promotion),
        lookups(state, cells, sessions, tiers, uses, fetches),
        reads(state, cells, owners, sessions),
        writes(state, cells, owners) {
    writes.set_watch(&stores);
    if (options.estimates_capacities) {
      state.what_if.emplace(arena.capacity_bytes(), l2_bytes);
    }
  }

  /// Handles the consequences of an event, until there are none. Every call ends with it.
  void go_on();
  void fire(const Timer& timer);
  SaltStats stats_of(SaltId salt) const noexcept;
  void fill_salts(EngineStats& stats) const;
  void end_owner(std::uint32_t number);
  void end_session(SessionId id);
  /// The caller continues with the consequences.
  ClearResult remove(SpaceId space, std::span<const ChunkHash> chunks);
  /// A cell that L1 has. Nothing: it has not.
  std::optional<std::pair<ColumnId, Row>> find_resident(const CellName& name) const;
  void count_turn() noexcept;

  std::uint64_t cells_evicted_before = 0;  ///< Time of the last turn.
  const std::uint64_t l2_bytes;            ///< Of the largest tier; 0: see largest_capacity().
  EngineState state;
  SlotTable slots;
  ColumnTable columns;
  Room room;
  Cells cells;
  Owners owners;
  Sessions sessions;
  Tiers tiers;
  Purges purges;
  Stores stores;
  Uses uses;
  Promotion promotion;
  Fetches fetches;
  Gets gets;
  Lookups lookups;
  Reads reads;
  Writes writes;
};

Engine::Engine(const EngineOptions& options, Arena& arena, const KeyNames& names,
               std::vector<Tier> tiers, Listener& listener)
    : core_(std::make_unique<Core>(options, arena, names, std::move(tiers), listener)) {}

void Engine::Core::go_on() {
  do {
    while (L2Operation* const operation = tiers.take_ended()) {
      switch (operation->kind) {
        case L2Kind::kStore:
          stores.on_ended(*operation);
          break;
        case L2Kind::kGet:
          gets.on_ended(*operation);
          break;
        case L2Kind::kExists:
        case L2Kind::kLoad:
          fetches.on_ended(*operation);
          break;
        case L2Kind::kDelete:
          purges.on_ended(*operation);
          break;
        case L2Kind::kTouch:
          uses.on_ended();
          break;
      }
      tiers.release(*operation);
    }
    fetches.go_on();
    gets.go_on();
    purges.go_on();
    stores.submit();
    uses.submit();
  } while (tiers.has_ended());
}

Engine::~Engine() = default;

// ---- Layouts, spaces, owners.

Result<LayoutId> Engine::add_layout(const LayoutSpec& spec) {
  return core_->state.layouts.add(spec);
}

void Engine::drop_layout(LayoutId layout) {
  core_->state.layouts.drop(layout);
}

SpaceId Engine::space(LayoutId layout, SaltId salt) {
  return core_->state.layouts.add_space(layout, salt);
}

std::uint32_t Engine::cells_of_column(SpaceId space) const {
  LARDER_CHECK(core_->state.layouts.is_known(space));
  const Layout& layout = core_->state.layouts[core_->state.layouts.current(space)];
  return layout.spec.world_size * layout.groups();
}

OwnerId Engine::add_owner(LayoutId layout) {
  LARDER_CHECK(core_->state.layouts.is_known(layout));
  return core_->owners.add(layout);
}

void Engine::drop_owner(OwnerId id, OwnerEnd why) {
  Owner* const owner = core_->owners.find(id);
  if (owner == nullptr) return;
  const std::uint32_t number = Owners::number_of(id);
  const bool had_ended = std::exchange(owner->has_ended, true);
  core_->writes.on_owner_end(number, why == OwnerEnd::kDead);
  const bool has_memory = !owner->reads.empty() || !owner->writes.empty();
  if (why == OwnerEnd::kDead || !has_memory) {
    core_->end_owner(number);
  } else if (!had_ended) {
    const EngineOptions& options = core_->state.options;
    const std::uint64_t waits_ns =
        why == OwnerEnd::kReaped ? options.write_ttl_ns : options.owner_grace_ns;
    core_->state.timers.arm(owner->timer, core_->state.now_ns + waits_ns);
  }
  core_->go_on();
}

/// The owner cannot read or write any more.
void Engine::Core::end_owner(std::uint32_t number) {
  reads.on_owner_end(number);
  writes.on_owner_end(number, true);
  owners.release(number);
}

// ---- A request.

void Engine::lookup(SessionKey key, const LookupSpec& spec) {
  const SessionId old = core_->sessions.find_exactly(key);
  if (old != kNone && !is_broken(CacheRule::kNewLookupEndsOld)) core_->end_session(old);
  if (!core_->state.layouts.is_known(spec.space)) return;
  const SessionId session = core_->sessions.make(key, spec.space);
  core_->lookups.start(session, spec);
  core_->go_on();
}

std::optional<std::uint32_t> Engine::take_result(SessionKey key) {
  const SessionId session = core_->sessions.find(key);
  if (session == kNone) return 0;
  core_->sessions.note_named(session, key);
  return core_->sessions.take_result(session);
}

void Engine::wait_result(Ticket ticket, SessionKey key, std::uint64_t deadline_ns) {
  const SessionId session = core_->sessions.find(key);
  if (session == kNone) return core_->state.listener.on_result(ticket, 0);
  core_->sessions.note_named(session, key);
  core_->sessions.wait(session, ticket, deadline_ns);
}

void Engine::release(SessionKey key, ChunkRange range) {
  const SessionId session = core_->sessions.find(key);
  if (session == kNone) return;
  core_->sessions.note_named(session, key);
  if (core_->sessions[session].is_running && !is_broken(CacheRule::kRememberFree)) {
    core_->sessions[session].freed_early.push_back(range);  // E11
    return;
  }
  const bool has_locked = range.end > core_->sessions[session].begin;
  if (core_->sessions.release(session, range) == 0 && has_locked) {
    ++core_->state.totals.second_releases;
  }
  core_->go_on();
}

void Engine::end(SessionKey key) {
  const SessionId session = core_->sessions.find(key);
  if (session == kNone) return;
  core_->end_session(session);
  core_->go_on();
}

void Engine::end_exactly(SessionKey key) {
  const SessionId session = core_->sessions.find_exactly(key);
  if (session == kNone) return;
  core_->end_session(session);
  core_->go_on();
}

void Engine::Core::end_session(SessionId id) {
  if (sessions[id].job != kNone) fetches.cancel(sessions[id].job);
  sessions.end(id);
}

void Engine::on_connection(std::uint64_t connection, ConnectionEvent event) {
  core_->sessions.on_connection(connection, event);
}

// ---- Workers.

std::optional<ReadId> Engine::begin_read(const ReadSpec& spec, std::vector<CellSlot>& out) {
  const auto read = core_->reads.begin(spec, out);
  core_->go_on();
  return read;
}

void Engine::end_read(ReadId read) {
  core_->reads.end(read);
  core_->go_on();
}

std::optional<WriteId> Engine::begin_write(const WriteSpec& spec, std::vector<CellSlot>& out) {
  return core_->writes.begin(spec, out);
}

bool Engine::end_write(WriteId write, WriteEnd how) {
  const bool is_published = core_->writes.end(write, how);
  core_->go_on();
  return is_published;
}

std::optional<WriteId> Engine::open_write(const WriteSpec& spec) const {
  return core_->writes.open(spec);
}

// ---- Whole values.

void Engine::get(Ticket ticket, const GetSpec& spec) {
  core_->gets.start(ticket, spec);
  core_->go_on();
}

void Engine::end_get(Ticket ticket) {
  core_->gets.end(ticket);
  core_->go_on();
}

void Engine::cancel_get(Ticket ticket) {
  core_->gets.cancel(ticket);
  core_->go_on();
}

void Engine::touch(SpaceId space, const ChunkHash& chunk) {
  const ColumnId column = core_->cells.find(space, chunk);
  if (column == kNone) return;
  core_->uses.hit(column);
  core_->go_on();
}

Pledge Engine::pledge(SpaceId space, const ChunkHash& chunk) {
  const ColumnId id = core_->cells.find(space, chunk);
  if (id == kNone || !core_->columns[id].is_complete()) return Pledge::kAbsent;
  if (core_->columns[id].is_pledged) return Pledge::kGiven;
  const bool is_given = core_->cells.pledge(id);
  core_->go_on();
  return is_given ? Pledge::kGiven : Pledge::kNoRoom;
}

void Engine::unpledge(SpaceId space, const ChunkHash& chunk) {
  const ColumnId id = core_->cells.find(space, chunk);
  if (id == kNone || !core_->columns[id].is_pledged) return;
  core_->cells.unpledge(id);
  core_->go_on();
}

std::optional<std::uint64_t> Engine::find(SpaceId space, const ChunkHash& chunk) const {
  const ColumnId id = core_->cells.find(space, chunk);
  if (id == kNone || !core_->columns[id].is_complete()) return std::nullopt;
  return core_->slots[core_->columns[id].cells[0].slot].ref.bytes;
}

// ---- Operation.

ClearResult Engine::clear(const ClearSpec& spec) {
  ClearResult result;
  Core& core = *core_;
  core.writes.void_all(spec.space);
  core.fetches.on_clear(spec.space);
  core.gets.on_clear(spec.space);
  for (ColumnId id = 0; id < core.columns.end(); ++id) {
    if (!core.columns.is_used(id)) continue;
    if (spec.space && core.columns[id].space != *spec.space) continue;
    const bool force = spec.force || is_broken(CacheRule::kClearKeepsLocked);
    const ClearResult went = core.cells.clear(id, force);
    result.cells += went.cells;
    result.bytes += went.bytes;
    result.cells_locked += went.cells_locked;
    if (spec.scope == ClearScope::kAll && core.columns.is_used(id)) core.cells.leave_soon(id);
  }
  const bool is_of_all = spec.scope == ClearScope::kAll && !spec.space;
  if (is_of_all && core.state.what_if) core.state.what_if->erase_all_in_l2();
  core.state.totals.cells_cleared += result.cells;
  if (spec.scope == ClearScope::kAll) {
    core.purges.start_pages(spec.ticket, spec.space, spec.deadline_ns);
    core.fetches.on_purge();
  }
  core.go_on();
  return result;
}

ClearResult Engine::Core::remove(SpaceId space, std::span<const ChunkHash> chunks) {
  ClearResult result;
  writes.void_chunks(space, chunks);
  for (const ChunkHash& chunk : chunks) {
    const ColumnId id = columns.find(space, chunk);
    if (id == kNone) continue;
    const ClearResult went = cells.clear(id, true);
    result.cells += went.cells;
    result.bytes += went.bytes;
  }
  state.totals.cells_cleared += result.cells;
  return result;
}

ClearResult Engine::remove(SpaceId space, std::span<const ChunkHash> chunks) {
  const ClearResult result = core_->remove(space, chunks);
  core_->go_on();
  return result;
}

std::optional<std::pair<ColumnId, Row>> Engine::Core::find_resident(const CellName& name) const {
  LARDER_CHECK(state.layouts.is_known(name.space));
  const ColumnId id = columns.find(name.space, name.chunk);
  if (id == kNone) return std::nullopt;
  const Layout& layout = state.layouts[state.layouts.current(name.space)];
  if (name.rank >= layout.spec.world_size || name.group >= layout.groups()) return std::nullopt;
  const auto row = static_cast<Row>(name.rank * layout.groups() + name.group);
  const Column& column = columns[id];
  if (row >= column.rows || column.cells[row].state != CellState::kResident) return std::nullopt;
  return std::pair{id, row};
}

ClearResult Engine::remove_cells(std::span<const CellName> names, bool force) {
  ClearResult result;
  Core& core = *core_;
  for (const CellName& name : names) {
    if (force) core.writes.void_chunks(name.space, {&name.chunk, 1});
    const auto found = core.find_resident(name);
    if (!found) continue;
    const auto [id, row] = *found;
    const Cell& cell = core.columns[id].cells[row];
    if (cell.locks != 0 && !force) {
      ++result.cells_locked;
    } else if (cell.locks != 0) {
      const ClearResult went = core.cells.clear(id, true);
      result.cells += went.cells;
      result.bytes += went.bytes;
    } else {
      ++result.cells;
      result.bytes += core.slots[cell.slot].taken;
      core.cells.drop_cell(id, row);
    }
  }
  core.state.totals.cells_cleared += result.cells;
  core.go_on();
  return result;
}

void Engine::purge_keys(Ticket ticket, std::span<const TierKey> keys, TierMask tiers,
                        std::uint64_t deadline_ns) {
  Core& core = *core_;
  for (const TierKey& key : keys) {
    const auto found = key.cell ? core.find_resident(*key.cell) : std::nullopt;
    if (!found) continue;
    const auto [id, row] = *found;
    const TierMask wants = core.columns[id].cells[row].wants;
    core.cells.set_wants(id, row, static_cast<TierMask>(wants & ~tiers));
    core.cells.settle(id);
  }
  core.purges.start_keys(ticket, keys, tiers, deadline_ns);
  core.fetches.on_purge();
  core.go_on();
}

ClearResult Engine::purge(Ticket ticket, SpaceId space, std::span<const ChunkHash> chunks,
                          std::uint64_t deadline_ns) {
  LARDER_CHECK(core_->state.layouts.is_known(space));
  // Nothing runs in between: a lookup that has lost its load would load again.
  const ClearResult result = core_->remove(space, chunks);
  if (core_->state.what_if) {
    for (const ChunkHash& chunk : chunks) core_->state.what_if->erase_in_l2(space, chunk);
  }
  core_->purges.start_columns(ticket, space, chunks, deadline_ns);
  core_->fetches.on_purge();
  core_->go_on();
  return result;
}

void Engine::give_page(const PageWanted& question, const PurgePage& page) {
  core_->purges.give_page(question, page);
  core_->go_on();
}

void Engine::begin_count(TierId tier) {
  LARDER_CHECK(tier < core_->tiers.size());
  core_->tiers.accounts().begin_count(tier);
}

void Engine::end_count(TierId tier, std::span<const SaltBytes> counted) {
  LARDER_CHECK(tier < core_->tiers.size());
  core_->tiers.accounts().end_count(tier, counted);
}

std::uint64_t Engine::account(TierId tier, SaltId salt) const noexcept {
  LARDER_CHECK(tier < core_->tiers.size());
  return core_->tiers.accounts().bytes(tier, salt);
}

void Engine::set_quota(SaltId salt, const Quota& quota) {
  core_->room.set_quota(salt, quota);
  core_->go_on();
}

void Engine::on_tier(std::size_t tier) {
  core_->tiers.reap(static_cast<TierId>(tier));
  core_->go_on();
}

// ---- Time.

void Engine::Core::fire(const Timer& timer) {
  switch (timer.kind) {
    case TimerKind::kSession:
      if (sessions.on_timer(timer.id)) end_session(timer.id);
      return;
    case TimerKind::kWrite:
      return writes.on_timer(timer.id);
    case TimerKind::kOwner:
      return end_owner(timer.id);
    case TimerKind::kWait:
      return sessions.on_wait_timer(timer.id);
    case TimerKind::kLookup:
      return fetches.on_timer(timer.id);
    case TimerKind::kTier:
      return tiers.on_timer(timer.id);
    case TimerKind::kStore:
      return stores.on_timer(timer.id);
    case TimerKind::kPurge:
      return purges.on_timer(timer.id);
  }
}

void Engine::Core::count_turn() noexcept {
  ++state.totals.turns;
  const std::uint64_t before = std::exchange(cells_evicted_before, state.totals.cells_evicted);
  if (before != state.totals.cells_evicted) ++state.totals.turns_evicting;
}

std::uint64_t Engine::turn(std::uint64_t now_ns) {
  Core& core = *core_;
  core.state.now_ns = std::max(core.state.now_ns, now_ns);
  core.state.touch_interval =
      1 + static_cast<std::uint32_t>(core.state.now_ns / core.state.options.touch_interval_ns);
  core.cells.begin_turn();
  core.fetches.begin_turn();
  for (std::size_t i = 0; i < kTimersATurn; ++i) {
    const Timer* const timer = core.state.timers.take_due(core.state.now_ns);
    if (timer == nullptr) break;
    core.fire(*timer);
  }
  core.go_on();
  const bool has_more = core.cells.trim();
  core.count_turn();
  const bool wants_turn = has_more || core.fetches.wants_turn() || core.gets.wants_turn();
  return wants_turn ? core.state.now_ns : core.state.timers.next_ns();
}

bool Engine::drain(std::uint64_t deadline_ns) {
  core_->lookups.stop_loading();
  core_->gets.stop_loading();
  core_->purges.stop();
  core_->uses.stop();
  core_->fetches.stop_waiting();
  core_->stores.submit();
  if (core_->state.now_ns >= deadline_ns) core_->tiers.close();
  core_->go_on();
  const bool is_stored = core_->stores.is_idle() || core_->state.now_ns >= deadline_ns;
  return core_->tiers.operations() == 0 && is_stored;
}

void Engine::snapshot(EngineStats& stats) const {
  const Core& core = *core_;
  stats.totals = core.state.totals;
  stats.capacity_bytes = core.slots.arena().capacity_bytes();
  stats.free_bytes = core.slots.arena().free_bytes();
  stats.writing_bytes = core.slots.bytes_in(SlotState::kWriting);
  stats.loading_bytes = core.slots.bytes_in(SlotState::kLoading);
  stats.resident_bytes = core.slots.bytes_in(SlotState::kResident);
  stats.orphan_bytes = core.slots.bytes_in(SlotState::kOrphan);
  stats.quarantine_bytes = core.slots.bytes_in(SlotState::kQuarantine);
  stats.locked_bytes = core.cells.locked_bytes();
  stats.pledged_bytes = core.cells.pledged_bytes();
  stats.columns_pledged = core.cells.columns_pledged();
  stats.columns = core.columns.size();
  stats.cells_wanted = core.cells.cells_wanted();
  stats.wanted_bytes = core.cells.wanted_bytes();
  stats.sessions = core.sessions.size();
  stats.reads_open = core.reads.size();
  stats.writes_open = core.writes.size();
  stats.owners = core.owners.size();
  stats.lookups_running = core.fetches.size();
  stats.lookups_waiting = core.fetches.waiting();
  stats.l2_batches = core.tiers.operations();
  stats.purges = core.purges.size();
  if (core.state.what_if) {
    stats.what_if_l1 = core.state.what_if->l1();
    stats.what_if_l2 = core.state.what_if->l2();
  }
  core.fill_salts(stats);
}

SaltStats Engine::Core::stats_of(SaltId salt) const noexcept {
  SaltStats stats = room.stats_of(salt);
  for (TierId tier = 0; tier < tiers.size(); ++tier) {
    stats.l2_bytes.at(tier) = tiers.accounts().bytes(tier, salt);
  }
  stats.l2_refused = tiers.accounts().refused(salt);
  return stats;
}

SaltStats Engine::salt_stats(SaltId salt) const noexcept {
  return core_->stats_of(salt);
}

void Engine::Core::fill_salts(EngineStats& stats) const {
  stats.salts.clear();
  const std::size_t shown = std::min(room.salts(), kSaltsCounted);
  // The rest belongs to the others.
  SaltStats others{.l1_bytes = room.bytes(),
                   .columns = room.columns(),
                   .refused = state.totals.failed_quota,
                   .l2_refused = state.totals.l2_store_over_quota};
  for (TierId tier = 0; tier < tiers.size(); ++tier) {
    others.l2_bytes.at(tier) = tiers.accounts().total(tier);
  }
  for (std::size_t i = 0; i < shown; ++i) {
    const SaltStats& one =
        stats.salts.emplace_back(stats_of(SaltId{static_cast<std::uint32_t>(i)}));
    others.l1_bytes -= one.l1_bytes;
    others.columns -= one.columns;
    others.refused -= one.refused;
    others.l2_refused -= one.l2_refused;
    for (TierId tier = 0; tier < tiers.size(); ++tier) {
      others.l2_bytes.at(tier) -= one.l2_bytes.at(tier);
    }
  }
  if (room.salts() > shown) stats.salts.push_back(others);
}

void Engine::check_invariants() const {
  const Core& core = *core_;
  core.cells.check_invariants();
  core.sessions.check_invariants();
  core.fetches.check_invariants();
  core.stores.check_invariants();
  core.reads.check_invariants();
  core.writes.check_invariants();
  core.cells.check_claims(core.reads.claims() + core.gets.claims());
}

}  // namespace larder::cache
