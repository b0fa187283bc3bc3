#include "larder/cache/purges.h"

#include <algorithm>
#include <array>
#include <utility>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {

// ---- Beginning.

std::uint32_t Purges::start(Ticket ticket, std::uint64_t deadline_ns) {
  LARDER_CHECK(find(ticket) == kNone);
  const std::uint32_t number = purges_.acquire();
  Purge& purge = purges_[number];
  purge.ticket = ticket;
  purge.deadline_ns = deadline_ns;
  purge.stores_before = tiers_.next_serial();
  purge.lanes.resize(tiers_.size());
  purge.timer.kind = TimerKind::kPurge;
  purge.timer.id = number;
  state_.timers.arm(purge.timer, deadline_ns);
  tiers_.set_gate(this);
  return number;
}

void Purges::start_columns(Ticket ticket, SpaceId space, std::span<const ChunkHash> chunks,
                           std::uint64_t deadline_ns) {
  const std::uint32_t number = start(ticket, deadline_ns);
  Purge& purge = purges_[number];
  purge.is_named = true;
  purge.space = space;
  const std::uint32_t ranks = state_.layouts[state_.layouts.current(space)].spec.world_size;
  const std::uint32_t groups = state_.layouts.groups_max(space);  // Including earlier layouts.
  for (const ChunkHash& chunk : chunks) {
    if (!purge.chunks.insert(chunk).second) continue;
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      for (std::uint32_t group = 0; group < groups; ++group) {
        add_name(purge, tiers_.name_of({space, chunk, rank, group}), space, group);
      }
    }
  }
  for (Lane& lane : purge.lanes) lane.is_last = true;
  go_on(number);
}

void Purges::add_name(Purge& purge, std::string text, SpaceId space, std::uint32_t group) const {
  const Layout& layout = state_.layouts[state_.layouts.current(space)];
  const std::uint64_t bytes = group < layout.groups() ? layout.spec.groups[group].cell_bytes : 0;
  purge.names.push_back({.text = std::move(text),
                         .salt = state_.layouts.salt(space),
                         .bytes = static_cast<std::uint32_t>(bytes)});  // At most kValueBytesMax.
}

void Purges::start_keys(Ticket ticket, std::span<const TierKey> keys, TierMask tiers,
                        std::uint64_t deadline_ns) {
  const std::uint32_t number = start(ticket, deadline_ns);
  Purge& purge = purges_[number];
  purge.is_named = true;
  for (const TierKey& key : keys) {
    if (!key.cell) {
      purge.names.push_back({.text = key.name});
      continue;
    }
    purge.chunks.insert(key.cell->chunk);
    add_name(purge, key.name, key.cell->space, key.cell->group);
  }
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    purge.lanes[tier].is_last = true;
    if ((tiers & bit_of(tier)) == 0) purge.lanes[tier].step = Step::kEnded;
  }
  go_on(number);
}

void Purges::start_pages(Ticket ticket, std::optional<SpaceId> space, std::uint64_t deadline_ns) {
  const std::uint32_t number = start(ticket, deadline_ns);
  purges_[number].space = space;
  go_on(number);
}

std::uint32_t Purges::find(Ticket ticket) const noexcept {
  for (std::uint32_t number = 0; number < purges_.end(); ++number) {
    if (purges_.is_used(number) && purges_[number].ticket == ticket) return number;
  }
  return kNone;
}

// ---- The gate.

bool Purges::hides(TierId tier, SpaceId space, const ChunkHash& chunk) const noexcept {
  if (is_broken(CacheRule::kPurgeHides)) return false;
  for (std::uint32_t number = 0; number < purges_.end(); ++number) {
    if (!purges_.is_used(number)) continue;
    const Purge& purge = purges_[number];
    if (purge.lanes[tier].step == Step::kEnded) continue;
    if (purge.space && *purge.space != space) continue;
    if (!purge.is_named || purge.chunks.contains(chunk)) return true;
  }
  return false;
}

bool Purges::holds_stores(TierId tier) const noexcept {
  if (is_broken(CacheRule::kPurgeHoldsStores)) return false;
  for (std::uint32_t number = 0; number < purges_.end(); ++number) {
    if (purges_.is_used(number) && purges_[number].lanes[tier].step != Step::kEnded) return true;
  }
  return false;
}

// ---- Going on.

void Purges::ask(Purge& purge, TierId tier) {
  Lane& lane = purge.lanes[tier];
  lane.step = Step::kPage;
  lane.question = ++questions_;
  state_.listener.on_page_wanted({purge.ticket, tier, lane.next, lane.question});
}

void Purges::give_page(const PageWanted& question, const PurgePage& page) {
  const std::uint32_t number = find(question.purge);
  if (number == kNone) return;  // It has ended meanwhile.
  LARDER_CHECK(question.tier < tiers_.size());
  Lane& lane = purges_[number].lanes[question.tier];
  if (lane.step != Step::kPage || lane.question != question.number) return;
  if (page.error.code() != ErrorCode::kNone) {
    skip(purges_[number], question.tier, page.error);
  } else {
    lane.page.assign(page.keys.begin(), page.keys.end());
    lane.at = 0;
    lane.next = page.next;
    lane.is_last = page.is_last;
    lane.step = Step::kDeletes;
    send(number, question.tier);
  }
  end_if_through(number);
}

void Purges::go_on() {
  if (purges_.size() == 0) return;
  for (std::uint32_t number = 0; number < purges_.end(); ++number) {
    if (purges_.is_used(number)) go_on(number);
  }
}

void Purges::go_on(std::uint32_t number) {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) go_on(number, tier);
  end_if_through(number);
}

void Purges::go_on(std::uint32_t number, TierId tier) {
  Purge& purge = purges_[number];
  Lane& lane = purge.lanes[tier];
  if (lane.step != Step::kWaits) return;
  const bool must_wait = tiers_.has_stores_before(tier, purge.stores_before);
  if (must_wait && !is_broken(CacheRule::kPurgeWaitsForStores)) return;
  if (!purge.is_named) return ask(purge, tier);
  lane.step = Step::kDeletes;
  send(number, tier);
}

/// The next batch, or the step after the last one.
void Purges::send(std::uint32_t number, TierId tier) {
  Purge& purge = purges_[number];
  Lane& lane = purge.lanes[tier];
  const std::size_t keys = purge.is_named ? purge.names.size() : lane.page.size();
  lane.operation = kNone;
  const bool is_page_done = lane.at == keys;
  if (is_page_done && lane.is_last) {
    lane.step = Step::kEnded;
    return;
  }
  if (purge.over.code() != ErrorCode::kNone) return skip(purge, tier, purge.over);
  if (is_page_done) return ask(purge, tier);
  L2Operation& operation = tiers_.make(L2Kind::kDelete, tier);
  operation.source = purges_.handle(number);
  operation.batch.urgency = Urgency::kBackground;
  operation.batch.deadline_ns = purge.deadline_ns;
  const std::size_t end = std::min<std::size_t>(keys, lane.at + state_.options.exists_keys_max);
  for (; lane.at < end; ++lane.at) {
    const std::string& key = purge.is_named ? purge.names[lane.at].text : lane.page[lane.at];
    operation.add(std::as_bytes(std::span{key}), Slice{},
                  {.number = static_cast<std::uint32_t>(lane.at)});
  }
  lane.operation = operation.id;
  tiers_.send(operation);
}

void Purges::count(Purge& purge, TierId tier, const L2Cell& cell, const Item& item) {
  if (item.outcome == Outcome::kDone) {
    ++purge.result.deleted[tier];
    if (!purge.is_named) return;
    const Name& name = purge.names[cell.number];
    if (name.bytes != 0) tiers_.accounts().subtract(tier, name.salt, name.bytes);
  } else if (item.outcome == Outcome::kFailed) {
    ++purge.result.keys_failed;
    if (purge.result.error.code() == ErrorCode::kNone) purge.result.error = item.error;
  }
}

void Purges::on_ended(L2Operation& operation) {
  Purge* const purge = purges_.find(operation.source);
  LARDER_CHECK(purge != nullptr);  // It waits for all of its batches.
  const auto number = static_cast<std::uint32_t>(operation.source);
  Error ends_tier;
  for (std::size_t i = 0; i < operation.size(); ++i) {
    const Item& item = operation.items()[i];
    count(*purge, operation.tier, operation.cells()[i], item);
    if (item.outcome != Outcome::kFailed) continue;
    const ErrorCode code = item.error.code();
    const bool is_tiers = item.error.is_retryable() || code == ErrorCode::kCancelled ||
                          code == ErrorCode::kDeadlineExceeded || code == ErrorCode::kUnimplemented;
    if (is_tiers) ends_tier = item.error;
  }
  if (ends_tier.code() != ErrorCode::kNone) {
    skip(*purge, operation.tier, ends_tier);
  } else {
    send(number, operation.tier);
  }
  end_if_through(number);
}

// ---- Ending.

/// The tier was not looked through to its end.
void Purges::skip(Purge& purge, TierId tier, const Error& error) {
  Lane& lane = purge.lanes[tier];
  lane.step = Step::kEnded;
  lane.operation = kNone;
  purge.result.tiers_skipped |= bit_of(tier);
  if (purge.result.error.code() == ErrorCode::kNone) purge.result.error = error;
}

/// Batches that are with a connector come back first.
void Purges::skip_all(std::uint32_t number, const Error& error) {
  Purge& purge = purges_[number];
  purge.over = error;
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    const Lane& lane = purge.lanes[tier];
    if (lane.step == Step::kEnded) continue;
    if (lane.operation != kNone) {
      tiers_.cancel(tiers_.operation(lane.operation));
    } else {
      skip(purge, tier, error);
    }
  }
  end_if_through(number);
}

void Purges::on_timer(std::uint32_t number) {
  skip_all(number, Error{ErrorCode::kDeadlineExceeded, "cache",
                         "the time for deleting in the tiers is over"});
}

void Purges::stop() {
  for (std::uint32_t number = 0; number < purges_.end(); ++number) {
    if (!purges_.is_used(number)) continue;
    skip_all(number, Error{ErrorCode::kCancelled, "cache", "the engine is being drained"});
  }
}

void Purges::end_if_through(std::uint32_t number) {
  Purge& purge = purges_[number];
  const auto has_ended = [](const Lane& lane) { return lane.step == Step::kEnded; };
  if (!std::ranges::all_of(purge.lanes, has_ended)) return;
  state_.timers.disarm(purge.timer);
  const Ticket ticket = purge.ticket;
  const PurgeResult result = purge.result;
  purge = Purge{};
  purges_.release(number);
  if (purges_.size() == 0) tiers_.set_gate(nullptr);
  state_.listener.on_purged(ticket, result);
}

}  // namespace larder::cache
