#include "tests/engine_simulation/lookup_watch.h"

#include <algorithm>

namespace larder::cache::simulation {
namespace {

bool is_of(const CellId& cell, const Request& request) {
  return cell.space == request.space && cell.prompt == request.prompt &&
         request.asks_for(cell.chunk);
}

}  // namespace

void LookupWatch::on_restart() {
  order_.clear();
  commits_.clear();
  last_order_.fill(0);
  unhit_.clear();
  fills_.clear();
  passed_.clear();
  told_.clear();
}

// ---- Lookups.

void LookupWatch::before_lookup(Request& request) {
  is_in_lookup_ = true;
  asks_from_ = request.begin;
  has_hole_ = false;
  request.is_queued = true;
  request.had_kept = !world_.purges.kept().empty();
  for (std::uint32_t chunk = 0; chunk < request.chunks; ++chunk) {
    const bool is_there = room_.is_there({request.space, request.prompt, chunk, 0, 0});
    request.in_l1 |= (is_there ? 1U : 0U) << chunk;
  }
  EngineStats stats;
  world_.engine->snapshot(stats);
  last_lookup_ = request.serial;
  request.load_disturbances = world_.load_disturbances;
  request.evicted = stats.totals.cells_evicted;
  request.began_quiet = stats.loading_bytes == 0 && stats.lookups_running == 0;
}

void LookupWatch::after_lookup() {
  is_in_lookup_ = false;
}

std::uint64_t LookupWatch::oldest_running() const {
  std::uint64_t oldest = world_.steps;
  for (const Request& request : clients_.requests()) {
    if (!request.is_known) oldest = std::min(oldest, request.step);
  }
  return oldest;
}

bool LookupWatch::has_anywhere(const Request& request, const CellId& cell) const {
  return std::ranges::any_of(
      tiers_, [&](const TierUnderTest& tier) { return tier.has_steadily(cell, request.step); });
}

void LookupWatch::on_hit(const Request& request) {
  if (request.layout_number != world_.layout_number) return;
  room_.on_hit(request);
  for (std::uint32_t chunk = request.begin; chunk < request.hit; ++chunk) {
    hit_columns_.insert({request.space, request.prompt, chunk, 0, 0});
  }
  check_longest(request);
  expect_fills(request);
}

/// It may have had its hit just before.
void LookupWatch::on_cancel(const Request& request) {
  room_.on_cancel(request);
  for (std::uint32_t chunk = request.begin; chunk < request.chunks; ++chunk) {
    hit_columns_.insert({request.space, request.prompt, chunk, 0, 0});
  }
}

/// E23, E27: no prefix is longer that tiers have had all the time. What was in L1 is not asked of
/// them, so it must be there still.
void LookupWatch::check_longest(const Request& request) {
  EngineStats stats;
  world_.engine->snapshot(stats);
  // Columns that a lock keeps after a clear are there, and are not found.
  const bool is_purged = world_.last_purge >= request.step || !world_.purges.running().empty() ||
                         !world_.purges.kept().empty() || request.had_kept;
  const bool is_judged =
      !is_purged && request.was_alone && request.disturbances == world_.disturbances &&
      request.trimmed == stats.totals.lookups_trimmed &&
      request.evicted == stats.totals.cells_evicted && world_.plan.options.policy != "noop" &&
      world_.now_ns < request.deadline_ns && world_.plan.polls_eagerly && !world_.is_ending;
  if (world_.layout_number > 0) return;  // What is there may be of another layout.
  // Cells of a column that was there in part may have left meanwhile.
  const bool has_left =
      request.evicted != stats.totals.cells_evicted || world_.plan.options.policy == "noop";
  if (has_left && !world_.plan.is_single_row()) return;
  // Of a shorter prefix other cells of a window are needed, which were not loaded.
  const bool has_window = std::ranges::any_of(
      world_.layout.groups, [](const GroupSpec& group) { return group.window_chunks != 0; });
  if (!is_judged || has_window) return;
  for (std::uint32_t longer = request.chunks; longer > request.hit; --longer) {
    bool is_there = true;
    for (std::uint32_t row = 0; is_there && row < world_.ranks() * world_.groups(); ++row) {
      const std::uint32_t group = row % world_.groups();
      std::uint32_t chunk = request.begin + world_.first_needed(group, longer - request.begin);
      for (; is_there && chunk < longer; ++chunk) {
        const CellId cell{request.space, request.prompt, chunk, row / world_.groups(), group};
        const bool was_asked = (request.in_l1 >> chunk & 1U) == 0;
        is_there = was_asked ? has_anywhere(request, cell) : !has_left && room_.is_there(cell);
      }
    }
    if (is_there) return world_.fail("E23, E27: tiers have a longer prefix than was answered");
  }
}

// ---- Asking.

/// E23, where one tier alone is asked.
void LookupWatch::on_probe(std::span<const Item> items) {
  if (!is_in_lookup_) return;
  for (const Item& item : items) {
    world_.expect(cell_of_key(item.key).chunk >= asks_from_,
                  "E23: a tier is asked for what the serving engine has");
  }
  const auto loads = std::ranges::count_if(
      tiers_, [](const TierUnderTest& tier) { return tier.plan().options.load; });
  if (loads != 1) return;
  world_.expect(!has_hole_, "E23: the question goes on behind a hole");
  for (const Item& item : items) {
    const CellId cell = cell_of_key(item.key);
    const bool is_full = world_.layout.groups[cell.group].window_chunks == 0;
    has_hole_ = has_hole_ || (is_full && item.outcome == Outcome::kMiss);
  }
}

// ---- Touches.

/// E40: a bounded batch, one at a time, and of each cell once in an interval, also where its column
/// has left L1 and come back meanwhile.
void LookupWatch::on_touch(TierId tier, std::span<const Item> items) {
  const TierOptions& options = tiers_[tier].plan().options;
  world_.coverage.note(Seen::kTouched);
  world_.expect(options.load && options.touch, "E40: a tier hears that is not to hear");
  const bool is_busy =
      std::ranges::any_of(tiers_[tier].flights(), &TierUnderTest::Flight::is_touch);
  world_.expect(!is_busy, "E40: a tier hears more while it has touches");
  const std::uint64_t interval = world_.now_ns / world_.plan.options.touch_interval_ns;
  for (const Item& item : items) {
    const auto [last, is_new] = told_.try_emplace({tier, cell_of_key(item.key)}, interval);
    world_.expect(is_new || last->second != interval, "E40: a tier hears twice in an interval");
    last->second = interval;
  }
  const std::size_t rows = std::size_t{world_.ranks()} * world_.groups();
  world_.expect(items.size() <= std::max<std::size_t>(world_.plan.options.exists_keys_max, rows),
                "E40: a batch of touches is too large");
}

// ---- Loads.

void LookupWatch::on_load(TierId tier, const CellId& cell) {
  check_joined(tier, cell);
  check_first(tier, cell);
  const bool is_asked = std::ranges::any_of(clients_.requests(), [&](const Request& request) {
    return !request.is_known && is_of(cell, request);
  });
  world_.expect(is_asked || !submits_at_once(tier), "E23: a cell is loaded that no lookup needs");
  for (Request& request : clients_.requests()) {
    if (!request.is_queued || request.is_known || !is_of(cell, request)) continue;
    if (request.was_alone && request.layout_number == world_.layout_number) check_passed(request);
    request.is_queued = false;
  }
}

/// A load is submitted to it when it is decided, and not when there is room.
bool LookupWatch::submits_at_once(TierId tier) const {
  const TierPlan& plan = tiers_[tier].plan();
  return !plan.has_faults && plan.options.load_bytes_max >= std::uint64_t{1} << 30;
}

/// E5: a cell that is loading is joined.
void LookupWatch::check_joined(TierId to, const CellId& cell) {
  if (!submits_at_once(to)) return;
  for (const TierUnderTest& tier : tiers_) {
    for (const TierUnderTest::Flight& flight : tier.flights()) {
      if (!flight.is_load || flight.is_cancelled) continue;
      if (flight.load_disturbances != world_.load_disturbances) continue;
      const bool has_cell = std::ranges::any_of(
          flight.batch->items, [&](const Item& item) { return cell_of_key(item.key) == cell; });
      world_.expect(!has_cell, "E5: a cell that is loading is loaded again");
    }
  }
}

/// E23: from the first tier that has it.
void LookupWatch::check_first(TierId tier, const CellId& cell) {
  const std::uint64_t since = oldest_running();
  if (world_.last_purge >= since || !world_.purges.running().empty()) return;
  for (TierId before = 0; before < tier; ++before) {
    if (tiers_[before].has_failed_load(cell, since)) world_.coverage.note(Seen::kNextTier);
    world_.expect(!submits_at_once(tier) || !tiers_[before].has_steadily(cell, since),
                  "E23: a cell is not loaded from the first tier that has it");
  }
}

bool LookupWatch::may_judge_queue() const {
  return world_.plan.polls_eagerly && !world_.is_ending &&
         std::ranges::all_of(tiers_, [](const TierUnderTest& tier) {
           return tier.plan().has_probe && !tier.plan().has_faults &&
                  tier.plan().options.load_bytes_max >= std::uint64_t{1} << 30;
         });
}

/// E25: the first load of a lookup. What was asked before it and has none yet is passed.
void LookupWatch::check_passed(Request& request) {
  if (!may_judge_queue()) return;
  for (const Request& head : clients_.requests()) {
    if (head.serial >= request.serial) return;
    if (head.is_known || !head.is_queued || !head.was_alone || head.is_ending) continue;
    if (world_.now_ns - head.asked_ns < world_.plan.options.pass_over_ns) {
      world_.coverage.note(Seen::kLookupPassed);
    } else {
      passed_.push_back(head.serial);
    }
    return;  // The first of the queue.
  }
}

/// E11: what nobody waits for is cancelled. A load whose cells were written meanwhile just ends.
void LookupWatch::check_abandoned(const EngineStats& stats) const {
  if (stats.lookups_running > 0) return;
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    if (!submits_at_once(tier)) continue;
    for (const TierUnderTest::Flight& flight : tiers_[tier].flights()) {
      const bool is_judged = flight.is_load && flight.overtakes == world_.overtakes;
      world_.expect(!is_judged || flight.is_cancelled, "E11: a load runs that nobody waits for");
    }
  }
}

void LookupWatch::check_load_share(const EngineStats& stats) {
  if (stats.lookups_running != 1 || world_.plan.has_values) return;
  for (const Request& request : clients_.requests()) {
    if (request.is_known || request.serial != last_lookup_) continue;
    const auto load_max = static_cast<std::uint64_t>(world_.plan.options.load_share *
                                                     static_cast<double>(stats.capacity_bytes));
    world_.expect(!request.began_quiet || stats.loading_bytes <= load_max,
                  "E25: a plan takes more than its share of L1");
  }
}

// ---- Stores.

void LookupWatch::before_commit(const Writing& writing, bool publishes) {
  if (!publishes) return;
  ++world_.load_disturbances;
  ++world_.overtakes;
  const auto chain = chain_of(writing.prompt, writing.range.end);
  for (const CellSlot& slot : writing.slots) {
    const CellId cell{writing.space, writing.prompt, writing.range.begin + slot.chunk, writing.rank,
                      slot.group};
    on_resident(cell);
    const bool is_there =
        world_.engine->find(world_.space(cell.space), chain[cell.chunk]).has_value();
    if (!is_there) order_[cell] = ++orders_;
  }
}

void LookupWatch::after_commit(const Writing& writing, bool is_stored) {
  for (const CellSlot& slot : writing.slots) {
    const CellId cell{writing.space, writing.prompt, writing.range.begin + slot.chunk, writing.rank,
                      slot.group};
    if (is_stored) {
      commits_[cell] = world_.disturbances;
    } else {
      commits_.erase(cell);
    }
  }
}

void LookupWatch::on_resident(const CellId& cell) {
  for (TierUnderTest& tier : tiers_) tier.forget_failures(cell);
}

void LookupWatch::on_store(TierId tier, const CellId& cell) {
  if (cell.space == kValueSpace || world_.is_ending) return;
  const TierPlan& plan = tiers_[tier].plan();
  if (plan.options.min_hits > 0 && world_.plan.polls_eagerly) unhit_.push_back(column_of(cell));
  const bool is_in_order = world_.plan.is_single_row() && !plan.has_faults && !plan.is_log &&
                           plan.options.min_hits == 0 && plan.options.fill == Fill::kNever &&
                           !world_.plan.changes_layout;
  const auto order = order_.find(cell);
  if (!is_in_order || order == order_.end()) return;
  world_.expect(order->second > last_order_[tier],
                "E33: stores are not in the order of the commits");
  last_order_[tier] = order->second;
}

/// E32: what was loaded from behind this tier and is kept.
void LookupWatch::expect_fills(const Request& request) {
  const Plan& plan = world_.plan;
  if (plan.options.promote != Promote::kRetain || !plan.is_single_row() || plan.lives > 1) return;
  if (plan.has_removals || plan.changes_layout || !plan.polls_eagerly) return;
  // What arrives from a load that was given up is nobody's.
  if (request.load_disturbances != world_.load_disturbances || !request.began_quiet) return;
  for (std::uint32_t chunk = request.begin; chunk < request.hit; ++chunk) {
    const CellId cell{request.space, request.prompt, chunk, 0, 0};
    TierId source = kNone;
    for (TierId tier = 0; tier < tiers_.size(); ++tier) {
      if (tiers_[tier].has_loaded(cell, request.step)) source = tier;
    }
    if (source == kNone || tiers_[source].is_memory() || !request.was_alone) continue;
    for (TierId tier = 0; tier < source; ++tier) {
      const TierPlan& of = tiers_[tier].plan();
      if (of.options.fill == Fill::kAlways && !of.is_log) fills_.emplace_back(tier, cell);
    }
  }
}

void LookupWatch::check_fills() {
  const EngineTotals& totals = world_.stats.totals;
  if (totals.l2_store_lost > 0 || totals.l2_store_failed > 0 || totals.cells_cleared > 0) return;
  for (const auto& [tier, cell] : fills_) {
    world_.coverage.note(Seen::kFilled);
    world_.expect(tiers_[tier].has(cell), "E32: a kept cell is not in a tier before its source");
  }
}

/// E33, E36: nothing that was committed is lost without a count.
void LookupWatch::check_commits() {
  const EngineTotals& totals = world_.stats.totals;
  if (totals.l2_store_lost > 0 || totals.l2_store_failed > 0) return;
  if (totals.l2_store_over_quota > 0 || world_.plan.changes_layout) return;
  for (const auto& [cell, disturbances] : commits_) {
    if (disturbances != world_.disturbances) continue;
    for (const TierUnderTest& tier : tiers_) {
      const TierPlan& plan = tier.plan();
      // A load that fails takes its key out, and a log evicts.
      const bool is_judged = plan.options.store && plan.options.min_hits == 0 && !plan.is_log &&
                             (!plan.has_faults || !plan.fails);
      if (!is_judged) continue;
      world_.coverage.note(Seen::kCommitInTier);
      world_.expect(tier.has(cell), "E33, E36: what was committed is lost without a count");
    }
  }
}

// ---- At every step.

void LookupWatch::check(const EngineStats& stats) {
  check_load_share(stats);
  check_abandoned(stats);
  for (const CellId& column : unhit_) {
    world_.expect(hit_columns_.contains(column),
                  "E34: a column is stored that was not hit often enough");
  }
  unhit_.clear();
  for (const std::uint64_t serial : passed_) {
    for (const Request& head : clients_.requests()) {
      if (head.serial != serial || head.is_known || !head.is_queued || !head.was_alone) continue;
      world_.fail("E25: others pass the head that has waited too long");
    }
  }
  passed_.clear();
  std::uint64_t failures = 0;
  for (const TierUnderTest& tier : tiers_) failures += tier.hard_failures();
  world_.expect(stats.totals.l2_store_failed <= failures,
                "E33: a want has ended that did not fail three times");
}

}  // namespace larder::cache::simulation
