#include "larder/cache/fetches.h"

#include <algorithm>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {

Fetches::Fetches(EngineState& state, Cells& cells, Sessions& sessions, Tiers& tiers, Stores& stores,
                 Uses& uses, Promotion& promotion)
    : state_(state),
      cells_(cells),
      sessions_(sessions),
      tiers_(tiers),
      stores_(stores),
      uses_(uses),
      promotion_(promotion),
      asking_(state, cells, tiers),
      loading_(state, cells, sessions, tiers, fetches_),
      admission_(state, cells, sessions, loading_, fetches_) {}

void Fetches::start(SessionId session, const LookupSpec& spec, std::span<const ChunkHash> before,
                    std::uint32_t readers) {
  const std::uint32_t id = fetches_.acquire();
  Fetch& fetch = fetches_[id];
  fetch.session = session;
  fetch.space = spec.space;
  fetch.layout = state_.layouts.current(spec.space);
  fetch.readers = readers;
  fetch.keeps_locks = spec.lock;
  fetch.was_cleared = false;
  fetch.is_late = false;
  fetch.was_trimmed = false;
  fetch.was_queued = false;
  fetch.phase = FetchPhase::kAsking;
  fetch.deadline_ns =
      spec.deadline_ns != 0 ? spec.deadline_ns : state_.now_ns + state_.options.load_timeout_ns;
  fetch.before.assign(before.begin(), before.end());
  fetch.chunks.assign(spec.chunks.begin(), spec.chunks.end());
  fetch.rows = state_.layouts[fetch.layout].rows();
  fetch.cells.assign(fetch.chunks.size() * fetch.rows, {});
  fetch.plan = 0;
  fetch.l1_hit = 0;
  fetch.waiting = 0;
  fetch.operations.clear();
  fetch.timer.kind = TimerKind::kLookup;
  fetch.timer.id = id;
  sessions_[session].job = id;
  if (!is_broken(CacheRule::kLoadDeadline)) state_.timers.arm(fetch.timer, fetch.deadline_ns);
  if (asking_.begin(fetch, fetches_.handle(id))) admission_.enqueue(id);
}

void Fetches::on_ended(L2Operation& operation) {
  if (operation.kind == L2Kind::kLoad) {
    loading_.on_loaded(operation);
    return;
  }
  Fetch* const fetch = fetches_.find(operation.source);
  if (fetch == nullptr) return;
  std::erase(fetch->operations, operation.id);
  if (fetch->phase != FetchPhase::kAsking) return;
  if (asking_.on_answer(*fetch, operation.source, operation)) {
    admission_.enqueue(static_cast<std::uint32_t>(operation.source));
  }
}

void Fetches::go_on() {
  for (;;) {
    loading_.deliver();
    for (std::uint32_t id = loading_.take_ready(); id != kNone; id = loading_.take_ready()) {
      finish(id);
    }
    const std::uint32_t id = admission_.let_in();
    if (id == kNone) {
      if (!loading_.has_arrived()) return;
      continue;
    }
    if (fetches_[id].waiting == 0) finish(id);
  }
}

/// E28: the answer is the prefix that exists.
void Fetches::on_timer(std::uint32_t id) {
  Fetch& fetch = fetches_[id];
  fetch.is_late = true;
  ++state_.totals.lookups_late;
  const bool holds_plan = fetch.phase == FetchPhase::kLoading;
  admission_.remove(id);
  loading_.abandon(id, false);
  if (!holds_plan) admission_.take_l1(id);
  finish(id);
}

void Fetches::stop_waiting() {
  for (std::uint32_t id = 0; id < fetches_.end(); ++id) {
    if (fetches_.is_used(id) && fetches_[id].phase == FetchPhase::kWaiting) on_timer(id);
  }
}

void Fetches::cancel(std::uint32_t id) {
  Fetch& fetch = fetches_[id];
  admission_.remove(id);
  if (!is_broken(CacheRule::kEndCancels)) {
    loading_.abandon(id, state_.options.promote == Promote::kRetain && !fetch.was_cleared);
  }
  sessions_.release_all(fetch.session);
  forget(id);
}

void Fetches::on_clear(std::optional<SpaceId> space) {
  tiers_.keep_nothing();
  for (std::uint32_t id = 0; id < fetches_.end(); ++id) {
    if (!fetches_.is_used(id)) continue;
    if (!space || fetches_[id].space == *space) fetches_[id].was_cleared = true;
  }
}

void Fetches::on_purge() {
  for (std::uint32_t id = 0; id < fetches_.end(); ++id) {
    if (!fetches_.is_used(id)) continue;
    Fetch& fetch = fetches_[id];
    for (std::uint32_t number = 0; number < fetch.cells.size(); ++number) {
      FetchCell& cell = fetch.cells[number];
      for (TierId tier = 0; tier < tiers_.size(); ++tier) {
        if ((cell.found & bit_of(tier)) == 0) continue;
        const ChunkHash& chunk = fetch.chunks[fetch.chunk_of(number)];
        if (!tiers_.hides(tier, fetch.space, chunk)) continue;
        cell.found = static_cast<TierMask>(cell.found & ~bit_of(tier));
      }
    }
  }
}

void Fetches::forget(std::uint32_t id) {
  state_.timers.disarm(fetches_[id].timer);
  sessions_[fetches_[id].session].job = kNone;
  fetches_.release(id);
}

// ---- The result.

/// Chunks of the longest prefix of the plan that is resident now (E27).
std::uint32_t Fetches::served(const Fetch& fetch) {
  if (is_broken(CacheRule::kShrinkToHole)) return fetch.plan;
  if (state_.layouts.current(fetch.space) != fetch.layout) return 0;  // E4
  const Session& session = sessions_[fetch.session];
  fold_.begin(state_.layouts[fetch.layout]);
  for (std::uint32_t chunk = 0; chunk < fetch.plan && !fold_.is_over(); ++chunk) {
    const ColumnRef ref = session.columns[chunk];
    const bool is_there = cells_.columns().is_current(ref);
    if (is_there && cells_.columns()[ref.id].is_complete()) {
      fold_.add_complete();
      continue;
    }
    fold_.add([&](Row row) {
      return is_there && cells_.columns()[ref.id].cells[row].state == CellState::kResident;
    });
  }
  return fold_.best();
}

/// From the last chunk to the first, like every use.
void Fetches::promote(Fetch& fetch, std::uint32_t hit) {
  const std::uint32_t end = is_broken(CacheRule::kPromoteOnlyPrefix) ? fetch.plan : hit;
  const Session& session = sessions_[fetch.session];
  for (std::uint32_t chunk = end; chunk-- > 0;) {
    TierMask sources = 0;
    for (Row row = 0; row < fetch.rows; ++row) {
      const FetchCell& cell = fetch.cell(chunk, row);
      if (cell.source != 0xFF) sources |= bit_of(cell.source);
    }
    const ColumnRef ref = session.columns[chunk];
    if (sources == 0 || !cells_.columns().is_current(ref)) continue;
    const auto decision = promotion_.decide(fetch.space, fetch.chunks[chunk], sources);
    const bool is_warm_up = !fetch.keeps_locks;  // It was requested for later use.
    if ((!decision.keep && !is_warm_up) || fetch.was_cleared) continue;
    cells_.keep(ref.id);
    for (Row row = 0; row < fetch.rows; ++row) {
      const FetchCell& cell = fetch.cell(chunk, row);
      if (cell.source == 0xFF) continue;
      ++state_.totals.cells_promoted;
      stores_.want(ref.id, row, static_cast<TierMask>(decision.fill & ~cell.found));
    }
  }
}

void Fetches::use(const Fetch& fetch, std::uint32_t hit) {
  const Session& session = sessions_[fetch.session];
  const auto begin = static_cast<std::uint32_t>(fetch.before.size());
  cells_.begin_chain(fetch.space,
                     {.chunks = begin + static_cast<std::uint32_t>(fetch.chunks.size()),
                      .resident = begin + hit,
                      .end = begin + hit});
  for (std::uint32_t i = hit; i-- > 0;) {
    const std::uint32_t chunk = is_broken(CacheRule::kTailsFirst) ? hit - 1 - i : i;
    const ColumnRef ref = session.columns[chunk];
    if (cells_.columns().is_current(ref)) uses_.hit(ref.id);
  }
  uses_.use(fetch.space, fetch.before);
}

Miss Fetches::reason(const Fetch& fetch, std::uint32_t hit) const {
  if (state_.layouts.current(fetch.space) != fetch.layout) return Miss::kOtherLayout;
  if (fetch.was_trimmed && hit == fetch.plan) return Miss::kTrimmed;
  const ChunkHash& hash = fetch.chunks[hit];
  const ColumnId id = cells_.find(fetch.space, hash);
  for (Row row = 0; row < fetch.rows; ++row) {
    if (id != kNone && cells_.columns()[id].cells[row].state == CellState::kResident) continue;
    const FetchCell& cell = fetch.cells[std::size_t{hit} * fetch.rows + row];
    if (cell.miss != Miss::kNeverStored) return cell.miss;
    if (fetch.is_late) return Miss::kLate;
    if (cell.found != 0) return Miss::kFailed;
    break;
  }
  if (cells_.has_other_layout(fetch.space, hash)) return Miss::kOtherLayout;
  return cells_.was_evicted(fetch.space, hash) ? Miss::kEvicted : Miss::kNeverStored;
}

void Fetches::count(const Fetch& fetch, std::uint32_t hit) {
  if (fetch.was_trimmed) ++state_.totals.lookups_trimmed;
  if (!fetch.keeps_locks) return;  // A warm-up: no engine has asked for it.
  const auto asked = static_cast<std::uint32_t>(fetch.chunks.size());
  const std::uint32_t in_l1 = std::min(fetch.l1_hit, hit);
  state_.count_lookup(fetch.space,
                      {.lookups = 1, .asked = asked, .hit_l1 = in_l1, .hit_l2 = hit - in_l1});
  if (hit == asked) return;
  state_.totals.missed[static_cast<std::size_t>(reason(fetch, hit))] += asked - hit;
}

void Fetches::finish(std::uint32_t id) {
  Fetch& fetch = fetches_[id];
  const SessionId session = fetch.session;
  const std::uint32_t hit = served(fetch);
  count(fetch, hit);
  promote(fetch, hit);
  if (fetch.keeps_locks) sessions_.lock_hit(session, hit, fetch.readers);
  use(fetch, hit);
  if (!fetch.keeps_locks) sessions_.release_all(session);
  sessions_.trim(session, hit);
  forget(id);
  sessions_.set_result(session, hit);
}

void Fetches::check_invariants() const {
  loading_.check_invariants();
  for (std::uint32_t id = 0; id < fetches_.end(); ++id) {
    if (!fetches_.is_used(id)) continue;
    const Fetch& fetch = fetches_[id];
    const Session& session = sessions_[fetch.session];
    LARDER_CHECK(session.job == id && session.is_running);
    LARDER_CHECK(fetch.phase == FetchPhase::kLoading || session.shares_left == 0);  // I8
    LARDER_CHECK(fetch.phase != FetchPhase::kLoading || fetch.waiting > 0);
  }
  LARDER_CHECK(admission_.size() > 0 || cells_.held_bytes() == 0);  // I8
}

}  // namespace larder::cache
