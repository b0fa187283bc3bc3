#include "larder/cache/gets.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

constexpr Row kRow = 0;

}  // namespace

void Gets::start(Ticket ticket, const GetSpec& spec) {
  LARDER_CHECK(spec.chunks.size() == spec.items.size());
  const std::uint32_t id = gets_.acquire();
  Get& get = gets_[id];
  get.ticket = ticket;
  get.spec = spec;
  get.parts.assign(spec.items.size(), {});
  get.outcomes.assign(spec.items.size(), {});
  get.pending = 0;
  get.was_cleared = false;
  get.is_answered = false;
  get.is_cancelled = false;
  by_ticket_[static_cast<std::uint64_t>(ticket)] = id;
  for (std::uint32_t number = 0; number < get.parts.size(); ++number) begin_part(id, number);
  flush();
  if (get.pending == 0) finish(id);
}

void Gets::begin_part(std::uint32_t id, std::uint32_t number) {
  Get& get = gets_[id];
  if (ends_in_l1(get, number)) return;
  get.parts[number].left = may_load_ ? tiers_.loads() : TierMask{0};
  Item& item = get.spec.items[number];
  item.outcome = Outcome::kMiss;
  item.miss_reason = may_load_ ? MissReason::kAbsent : MissReason::kDown;
  load(id, number);
}

/// Claims resident cells. With `stays` a load by another get ends the part, too.
bool Gets::ends_in_l1(Get& get, std::uint32_t number) {
  const ColumnId column = cells_.find(get.spec.space, get.spec.chunks[number]);
  if (column == kNone) return false;
  const CellState state = cells_.columns()[column].cells[kRow].state;
  if (state == CellState::kResident) {
    claim(get, number, column);
    return true;
  }
  if (!get.spec.stays || state != CellState::kLoading) return false;
  get.outcomes[number].is_loading = true;
  get.spec.items[number].outcome = Outcome::kMiss;
  return true;
}

void Gets::claim(Get& get, std::uint32_t number, ColumnId column) {
  cells_.claim(column, kRow);
  cells_.settle(column);
  ++claims_;
  const SlotId slot = cells_.columns()[column].cells[kRow].slot;
  get.parts[number].slot = slot;
  get.outcomes[number].slot = cells_.slots()[slot].ref;
  get.spec.items[number].outcome = Outcome::kHit;
  get.spec.items[number].value_bytes = cells_.slots()[slot].ref.bytes;
}

// ---- Loading.

/// From the next tier that was not tried; without one the part has ended with its item's result.
void Gets::load(std::uint32_t id, std::uint32_t number) {
  Get& get = gets_[id];
  TierMask& left = get.parts[number].left;
  while (left != 0) {
    const auto tier = static_cast<TierId>(std::countr_zero(left));
    left = static_cast<TierMask>(left & ~bit_of(tier));
    if (tiers_.hides(tier, get.spec.space, get.spec.chunks[number])) continue;
    ++get.pending;
    return collect(id, number, tier);
  }
}

/// A slot to load through, so that the value can stay; kNone: straight to the caller, or nowhere.
Reserved Gets::take_slot(const Get& get, std::uint32_t number, TierId tier, SlotId& slot) {
  const GetSpec& spec = get.spec;
  slot = kNone;
  const bool would_keep =
      spec.stays ||
      (!spec.allow_shorter && promotion_.would_keep(spec.space, spec.chunks[number], tier));
  if (get.was_cleared || !would_keep) return Reserved::kNoRoom;
  // A value larger than the share of one load (E25) would empty L1 for itself, or find no room in
  // the end.
  const std::uint64_t bytes = bytes_of(spec.items[number].value);
  if (bytes > cells_.share_of_l1(state_.options.load_share)) return Reserved::kNoRoom;
  const ColumnId column = cells_.find_or_make(spec.space, spec.chunks[number]);
  const Cell& cell = cells_.columns()[column].cells[kRow];
  if (cell.state != CellState::kAbsent) return Reserved::kNoRoom;
  return cells_.reserve(column, kRow, bytes, SlotState::kLoading, slot);
}

void Gets::fail_part(Get& get, std::uint32_t number, const Error& error) {
  Item& item = get.spec.items[number];
  item.outcome = Outcome::kFailed;
  item.error = error;
  get.parts[number].left = 0;
  --get.pending;
}

Error Gets::error_of_later(const Get& get) const noexcept {
  if (get.is_cancelled) return {ErrorCode::kCancelled, "cache", "the caller cancelled the batch"};
  if (!may_load_) return {ErrorCode::kCancelled, "cache", "the cache is being closed"};
  if (state_.now_ns >= get.spec.deadline_ns) {
    return {ErrorCode::kDeadlineExceeded, "cache", "L1 had no room until the deadline"};
  }
  return {};
}

void Gets::go_on() {
  if (later_.empty() || (cells_.is_spent() && !is_later_over_)) return;
  is_later_over_ = false;
  std::vector<Later> later;
  later.swap(later_);
  std::vector<std::uint32_t> touched;
  for (const Later& part : later) {
    Get& get = gets_[part.get];
    if (const Error error = error_of_later(get); error.code() != ErrorCode::kNone) {
      fail_part(get, part.number, error);
      touched.push_back(part.get);
    } else if (cells_.is_spent()) {
      later_.push_back(part);
    } else {
      // It may have arrived meanwhile, by another get or as another part of this one.
      if (ends_in_l1(get, part.number)) {
        --get.pending;
      } else {
        collect(part.get, part.number, part.tier);
      }
      touched.push_back(part.get);
    }
  }
  flush();
  // An id that had several parts appears once more, and may be another get's by then.
  std::ranges::sort(touched);
  const auto repeated = std::ranges::unique(touched);
  touched.erase(repeated.begin(), repeated.end());
  for (const std::uint32_t id : touched) {
    if (gets_[id].pending == 0) finish(id);
  }
}

void Gets::collect(std::uint32_t id, std::uint32_t number, TierId tier) {
  Get& get = gets_[id];
  SlotId slot = kNone;
  const Reserved reserved = take_slot(get, number, tier, slot);
  get.parts[number].slot = slot;
  if (get.spec.stays && slot == kNone) {
    if (reserved == Reserved::kLater) return later_.push_back({id, number, tier});
    return fail_part(get, number,
                     {ErrorCode::kResourceExhausted, "cache", "L1 has no room for the value"});
  }
  const std::uint64_t bytes = bytes_of(get.spec.items[number].value);
  L2Operation* operation = collected_[tier];
  if (operation != nullptr && (operation->source != gets_.handle(id) ||
                               operation->bytes + bytes > state_.options.batch_bytes_max)) {
    collected_[tier] = nullptr;
    tiers_.send(*std::exchange(operation, nullptr));
  }
  if (operation == nullptr) {
    operation = collected_[tier] = &tiers_.make(L2Kind::kGet, tier);
    operation->source = gets_.handle(id);
    operation->batch.deadline_ns = get.spec.deadline_ns;
    operation->batch.urgency = get.spec.urgency;
    operation->batch.allow_shorter = get.spec.allow_shorter;
    operation->batch.misses_wrong_sizes = get.spec.misses_wrong_sizes;
  }
  const Item& item = get.spec.items[number];
  if (slot == kNone) return operation->add(item.key, item.value, {kNone, number});
  cells_.add_io(slot);
  operation->add(item.key, tiers_.memory_of(cells_.slots()[slot].ref), {slot, number});
}

void Gets::flush() {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    L2Operation* const operation = std::exchange(collected_[tier], nullptr);
    if (operation != nullptr) tiers_.send(*operation);
  }
}

void Gets::on_item(std::uint32_t id, L2Operation& operation, const L2Cell& cell, const Item& item) {
  Get& get = gets_[id];
  Item& asked = get.spec.items[cell.number];
  const bool is_hit = item.outcome == Outcome::kHit;
  ++(is_hit ? state_.totals.cells_loaded : state_.totals.cells_load_failed);
  // A failure is not forgotten because the next tier does not have the key (P11).
  if (is_hit || item.outcome == Outcome::kFailed || asked.outcome != Outcome::kFailed) {
    asked.outcome = item.outcome;
    asked.error = item.error;
    asked.miss_reason = item.miss_reason;
    asked.value_bytes = item.value_bytes;
  }
  --get.pending;
  if (is_hit) {
    get.parts[cell.number].source = static_cast<std::uint8_t>(operation.tier);
    get.outcomes[cell.number].tier = operation.tier;
    state_.totals.bytes_loaded += item.value_bytes;
  }
  if (cell.slot != kNone) {
    get.parts[cell.number].slot = kNone;
    const bool has_cell = cells_.slots()[cell.slot].state != SlotState::kOrphan;
    if (is_hit && has_cell) {
      const ColumnId column = cells_.slots()[cell.slot].column;
      cells_.publish_loading(cell.slot);
      claim(get, cell.number, column);
    } else if (is_hit) {
      // Its cell was cleared: the bytes are in an orphan that ends here.
      asked.outcome = Outcome::kMiss;
    }
    cells_.drop_io(cell.slot);
    if (!is_hit && has_cell) cells_.discard_loading(cell.slot);
  }
  const bool is_final =
      asked.outcome == Outcome::kHit || asked.error.code() == ErrorCode::kSizeMismatch;
  if (!is_final) load(id, cell.number);
}

void Gets::on_ended(L2Operation& operation) {
  const auto id = static_cast<std::uint32_t>(operation.source);
  LARDER_CHECK(gets_.find(operation.source) != nullptr);
  for (std::size_t i = 0; i < operation.size(); ++i) {
    on_item(id, operation, operation.cells()[i], operation.items()[i]);
  }
  flush();
  if (gets_[id].pending == 0) finish(id);
}

// ---- The answer.

void Gets::promote(const Get& get, std::uint32_t number) {
  const Part& part = get.parts[number];
  const ChunkHash& chunk = get.spec.chunks[number];
  const ColumnId column = cells_.find(get.spec.space, chunk);
  if (part.source == 0xFF) {
    if (column != kNone) uses_.hit(column);
    return;
  }
  const auto decision = promotion_.decide(get.spec.space, chunk, bit_of(part.source));
  const bool keeps = decision.keep || (get.spec.stays && !cells_.room().frees_at_once());
  if (!keeps || get.was_cleared || part.slot == kNone || column == kNone) return;
  cells_.keep(column);
  ++state_.totals.cells_promoted;
  stores_.want(column, kRow, decision.fill);
}

void Gets::finish(std::uint32_t id) {
  Get& get = gets_[id];
  if (std::exchange(get.is_answered, true)) return;
  std::uint32_t end = 0;
  const auto count = static_cast<std::uint32_t>(get.parts.size());
  while (end < count && get.spec.items[end].outcome == Outcome::kHit) ++end;
  if (!get.spec.is_ordered || get.spec.stays || is_broken(CacheRule::kPromoteOnlyPrefix))
    end = count;
  cells_.begin_chain(get.spec.space, {.chunks = count, .resident = end, .end = end});
  for (std::uint32_t number = end; number-- > 0;) {
    if (get.spec.items[number].outcome == Outcome::kHit) promote(get, number);
  }
  bool has_claims = false;
  for (std::uint32_t number = 0; number < count; ++number) {
    get.outcomes[number].outcome = get.spec.items[number].outcome;
    has_claims = has_claims || get.parts[number].slot != kNone;
  }
  state_.listener.on_get(get.ticket, get.outcomes);
  if (!has_claims) forget(id);
}

void Gets::forget(std::uint32_t id) {
  by_ticket_.erase(static_cast<std::uint64_t>(gets_[id].ticket));
  gets_.release(id);
}

void Gets::end(Ticket ticket) {
  const auto found = by_ticket_.find(static_cast<std::uint64_t>(ticket));
  if (found == by_ticket_.end()) return;
  const std::uint32_t id = found->second;
  LARDER_CHECK(gets_[id].is_answered);
  const std::vector<Part>& parts = gets_[id].parts;
  for (std::size_t i = parts.size(); i-- > 0;) {  // E20.
    if (parts[i].slot == kNone) continue;
    --claims_;
    cells_.unclaim(parts[i].slot);
  }
  forget(id);
}

void Gets::cancel(Ticket ticket) {
  const auto found = by_ticket_.find(static_cast<std::uint64_t>(ticket));
  if (found == by_ticket_.end() || gets_[found->second].is_answered) return;
  gets_[found->second].is_cancelled = true;
  is_later_over_ = true;
  for (Part& part : gets_[found->second].parts) part.left = 0;
  tiers_.cancel_gets(gets_.handle(found->second));
}

void Gets::on_clear(std::optional<SpaceId> space) {
  for (std::uint32_t id = 0; id < gets_.end(); ++id) {
    if (!gets_.is_used(id)) continue;
    if (!space || gets_[id].spec.space == *space) gets_[id].was_cleared = true;
  }
}

}  // namespace larder::cache
