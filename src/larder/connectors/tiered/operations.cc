#include "larder/connectors/tiered/operations.h"

#include <algorithm>
#include <array>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/connectors/tiered/lookups.h"

namespace larder::tiered {
Operations::Operations(const Parts& parts)
    : intake_(parts.intake),
      engine_(parts.engine),
      arena_(parts.arena),
      keys_(parts.keys),
      tiers_(parts.tiers),
      options_(parts.options),
      space_(parts.space),
      owner_(parts.owner),
      has_store_(parts.options.has_store()),
      is_back_(parts.options.is_back()),
      are_all_probed_(are_all_probed(parts.tiers, parts.options)),
      pins_(parts.engine, parts.keys, parts.space) {}

// ---- Beginning.

void Operations::start(const Ticket& ticket) {
  Batch& batch = *ticket.batch;
  if (batch.op == Op::kExists && are_all_probed_) return start_lookup(ticket);
  std::array<Operation*, 2> begun{};  // By SetMode.
  std::size_t ended = 0;
  for (Item& item : ticket.items) {
    if (!intake_.begin(batch, item) || answer_at_once(batch, item)) {
      ++ended;
      continue;
    }
    const auto place = static_cast<std::uint32_t>(&item - batch.items.data());
    Key& key = keys_.find_or_make(item.key);
    if (!keys_.take(key, !is_read(batch.op))) {
      wait(key, {&batch, place, !is_read(batch.op)});
      continue;
    }
    const SetMode mode =
        batch.op == Op::kSet ? intake_.set_mode_of(batch, item) : SetMode::kIfAbsent;
    Operation*& operation = begun[static_cast<std::size_t>(mode)];
    if (operation == nullptr) operation = &make(batch, mode);
    operation->parts.push_back({.key = &key, .place = place, .changes = !is_read(batch.op)});
  }
  if (ended > 0) note_ended(batch, ended);
  for (Operation* const operation : begun) {
    if (operation != nullptr) go_on(*operation);
  }
}

/// A Set that finds its key in L1, where nothing changes it.
bool Operations::answer_at_once(const Batch& batch, Item& item) {
  if (batch.op != Op::kSet || intake_.set_mode_of(batch, item) != SetMode::kIfAbsent) return false;
  const Key* const key = keys_.find(item.key);
  if (key == nullptr || !key->is_in_l1 || !keys_.is_free(*key)) return false;
  engine_.touch(space_, key->name);
  item.outcome = Outcome::kDone;
  item.existed = true;
  intake_.end(batch, item, {});
  return true;
}

// ---- Exists where every tier answers from memory: in one go, so that no key need be held.

void Operations::start_lookup(const Ticket& ticket) {
  Batch& batch = *ticket.batch;
  std::size_t ended = look_up_in_l1(ticket);
  bool is_sure = true;
  for (std::size_t tier = 0; tier < tiers_.size() && !asked_.empty(); ++tier) {
    if (!options_.tiers[tier].load) continue;
    if (tiers_[tier]->connector().probe(asked_)) {
      ended += end_hits(batch, tier);
    } else {
      is_sure = false;
    }
  }
  if (is_sure) {
    for (const std::uint32_t place : places_) intake_.end(batch, batch.items[place], {});
    return note_ended(batch, ended + places_.size());
  }
  note_ended(batch, ended);
  if (places_.empty()) return;
  Operation& operation = make(batch, SetMode::kIfAbsent);
  for (const std::uint32_t place : places_) {
    Key& key = keys_.find_or_make(batch.items[place].key);
    LARDER_CHECK(keys_.take(key, false));  // Nothing has happened since it was free.
    operation.parts.push_back({.key = &key, .place = place});
  }
  go_on(operation);
}

/// The questions for the tiers are then in asked_ and places_; returns the number of items that
/// ended.
std::size_t Operations::look_up_in_l1(const Ticket& ticket) {
  Batch& batch = *ticket.batch;
  asked_.clear();
  places_.clear();
  std::size_t ended = 0;
  for (Item& item : ticket.items) {
    if (!intake_.begin(batch, item)) {
      ++ended;
      continue;
    }
    const auto place = static_cast<std::uint32_t>(&item - batch.items.data());
    Key* const key = keys_.size() == 0 ? nullptr : keys_.find(item.key);
    if (key != nullptr && !keys_.is_free(*key)) {
      wait(*key, {&batch, place, false});
    } else if (key != nullptr && key->is_in_l1) {
      item.outcome = Outcome::kHit;
      item.value_bytes = engine_.find(space_, key->name).value_or(0);
      intake_.end(batch, item, {});
      ++ended;
    } else {
      item.outcome = Outcome::kMiss;
      asked_.emplace_back().key = item.key;
      places_.push_back(place);
    }
  }
  return ended;
}

/// The hits in a tier's answer; the rest stays in asked_. How many there were.
std::size_t Operations::end_hits(Batch& batch, std::size_t tier) {
  std::size_t left = 0;
  for (std::size_t i = 0; i < asked_.size(); ++i) {
    const Item& answer = asked_[i];
    Item& item = batch.items[places_[i]];
    if (answer.outcome == Outcome::kHit) {
      item.outcome = Outcome::kHit;
      item.value_bytes = answer.value_bytes;
      item.place = place_of_tier(tier);
      intake_.end(batch, item, {});
      continue;
    }
    if (answer.miss_reason != MissReason::kAbsent) item.miss_reason = answer.miss_reason;
    places_[left] = places_[i];
    Item again;
    again.key = answer.key;
    asked_[left++] = again;
  }
  const std::size_t hits = asked_.size() - left;
  asked_.resize(left);
  places_.resize(left);
  return hits;
}

void Operations::wait(Key& key, const Waiter& waiter) {
  keys_.wait(key, waiter);
  waiters_deadline_ns_ = std::min(waiters_deadline_ns_, waiter.batch->deadline_ns);
}

Operation& Operations::make(Batch& batch, SetMode mode) {
  Operation& operation = operations_.emplace_back();
  operation.outer = &batch;
  operation.mode = mode;
  operation.self = std::prev(operations_.end());
  return operation;
}

void Operations::begin_waiter(const KeyTable::Granted& granted) {
  Batch& batch = *granted.waiter.batch;
  const std::uint32_t place = granted.waiter.place;
  const SetMode mode =
      batch.op == Op::kSet ? intake_.set_mode_of(batch, batch.items[place]) : SetMode::kIfAbsent;
  Operation& operation = make(batch, mode);
  operation.parts.push_back(
      {.key = granted.key, .place = place, .changes = granted.waiter.changes});
  end_late(operation);
  go_on(operation);
}

// ---- Going on.

void Operations::on_get(cache::Ticket ticket, std::span<const cache::GetOutcome> outcomes) {
  auto& operation = *reinterpret_cast<Operation*>(static_cast<std::uintptr_t>(ticket));
  operation.found.assign(outcomes.begin(), outcomes.end());
  operation.step = Operation::Step::kEnd;
  ready_.push_back(&operation);
}

void Operations::note_answer(Operation& operation, std::uint32_t number, std::size_t tier,
                             const Item& answer) {
  Part& part = operation.parts[number];
  if (answer.outcome == Outcome::kFailed) {
    if (part.error.code() == ErrorCode::kNone) part.error = answer.error;
    return;
  }
  ++part.answers;
  if (answer.outcome == Outcome::kMiss) {
    if (answer.miss_reason != MissReason::kAbsent) part.miss_reason = answer.miss_reason;
  } else if (answer.existed) {
    part.existed = true;
  } else {
    // A load takes it from the first tier that has it; the answers come in any order.
    if (part.yes == 0 || place_of_tier(tier) < part.found_in) {
      part.value_bytes = answer.value_bytes;
      part.found_in = place_of_tier(tier);
    }
    ++part.yes;
  }
}

void Operations::on_ended(Call& call) {
  Operation& operation = *call.operation;
  for (std::size_t i = 0; i < call.items.size(); ++i) {
    note_answer(operation, call.parts[i], call.tier, call.items[i]);
  }
  calls_.push_back(std::unique_ptr<Call>{&call});
  if (--operation.calls_out == 0) ready_.push_back(&operation);
}

bool Operations::work() {
  bool has_worked = false;
  for (;;) {
    if (!refused_.empty()) {
      std::vector<Call*> refused;
      refused.swap(refused_);
      for (Call* const call : refused) on_ended(*call);
    } else if (!ready_.empty()) {
      Operation* const operation = ready_.back();
      ready_.pop_back();
      operation->waits_for_get = false;
      go_on(*operation);
    } else if (KeyTable::Granted granted; keys_.take_granted(granted)) {
      begin_waiter(granted);
    } else {
      return has_worked;
    }
    has_worked = true;
  }
}

void Operations::go_on(Operation& operation) {
  while (operation.calls_out == 0 && !operation.waits_for_get) {
    const auto is_open = [](const Part& part) { return part.outcome == Outcome::kPending; };
    if (std::ranges::none_of(operation.parts, is_open)) return end(operation);
    step(operation);
  }
}

/// Between steps: an item that is late, or was cancelled, does not begin another one.
void Operations::end_late(Operation& operation) {
  const Error error = error_of(*operation.outer);
  if (error.code() == ErrorCode::kNone) return;
  for (Part& part : operation.parts) {
    if (part.outcome != Outcome::kPending) continue;
    part.outcome = Outcome::kFailed;
    part.error = error;
  }
}

Error Operations::error_of(const Batch& batch) const noexcept {
  if (is_ending_) return {ErrorCode::kCancelled, "tiered", "the connector was stopped"};
  if (Intake::is_cancelled(batch)) {
    return {ErrorCode::kCancelled, "tiered", "the caller cancelled the batch"};
  }
  const bool is_late =
      batch.deadline_ns != kNever && RealClock::instance().now_ns() >= batch.deadline_ns;
  if (is_late) return {ErrorCode::kDeadlineExceeded, "tiered", "the deadline passed on the way"};
  return {};
}

// ---- Ending.

void Operations::end(Operation& operation) {
  Batch& batch = *operation.outer;
  const bool tells_size = batch.op == Op::kGet || batch.op == Op::kExists;
  for (Part& part : operation.parts) {
    Item& item = batch.items[part.place];
    item.outcome = part.outcome;
    item.existed = part.existed;
    item.value_bytes = tells_size ? part.value_bytes : 0;
    item.miss_reason = part.miss_reason;
    item.place = part.found_in;
    const bool has_failed = part.outcome == Outcome::kFailed;
    intake_.end(batch, item, has_failed ? Status{part.error} : Status{});
    keys_.end(*part.key, part.changes);
  }
  note_ended(batch, operation.parts.size());
  operations_.erase(operation.self);
}

void Operations::note_ended(Batch& batch, std::size_t items) {
  if (items > 0) ended_.push_back({&batch, items});
}

void Operations::finish_ended() {
  for (const Ended& ended : ended_) intake_.finish(*ended.batch, ended.items);
  ended_.clear();
}

bool Operations::is_over(const Batch& batch, std::uint64_t now_ns) const noexcept {
  return is_ending_ || Intake::is_cancelled(batch) || now_ns >= batch.deadline_ns;
}

void Operations::look_after(std::uint64_t now_ns) {
  pins_.expire(now_ns);
  const std::uint64_t cancels = intake_.cancels();
  const bool has_cancels = cancels != cancels_seen_ || is_ending_;
  cancels_seen_ = cancels;
  if (keys_.waiting() > 0 && (has_cancels || now_ns >= waiters_deadline_ns_)) {
    refuse_waiters(now_ns);
  }
  if (!has_cancels) return;
  for (Operation& operation : operations_) {
    if (operation.is_cancelled) continue;
    if (!is_ending_ && !Intake::is_cancelled(*operation.outer)) continue;
    operation.is_cancelled = true;
    if (operation.waits_for_get) {
      engine_.cancel_get(ticket_of(operation));
    }
    for (const auto& tier : tiers_) tier->cancel(operation);
  }
}

void Operations::refuse_waiters(std::uint64_t now_ns) {
  over_.clear();
  waiters_deadline_ns_ = kNever;
  keys_.take_waiters(
      [&](const Waiter& waiter) {
        if (is_over(*waiter.batch, now_ns)) return true;
        waiters_deadline_ns_ = std::min(waiters_deadline_ns_, waiter.batch->deadline_ns);
        return false;
      },
      over_);
  for (const Waiter& waiter : over_) {
    Batch& batch = *waiter.batch;
    Error error = error_of(batch);
    if (error.code() == ErrorCode::kNone) {
      error = {ErrorCode::kDeadlineExceeded, "tiered", "the key was in use until the deadline"};
    }
    intake_.end(batch, batch.items[waiter.place], error);
    note_ended(batch, 1);
  }
}

}  // namespace larder::tiered
