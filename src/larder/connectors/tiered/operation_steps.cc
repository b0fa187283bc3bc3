// The steps of each operation.
#include <algorithm>

#include "larder/base/clock.h"
#include "larder/connector/slices.h"
#include "larder/connectors/tiered/operations.h"

namespace larder::tiered {
namespace {

using Step = Operation::Step;

bool is_open(const Part& part) noexcept {
  return part.outcome == Outcome::kPending;
}

void fail(Part& part, const Error& error) noexcept {
  part.outcome = Outcome::kFailed;
  part.error = error;
}

/// For a question to several tiers, none of which has the key: it failed if none answered.
void end_unfound(Part& part) noexcept {
  const bool has_error = part.error.code() != ErrorCode::kNone;
  if (has_error && part.answers == 0) {
    part.outcome = Outcome::kFailed;
    return;
  }
  part.outcome = Outcome::kMiss;
  if (has_error) part.miss_reason = MissReason::kDown;
}

/// For a change that L1 or a tier has made, if the key existed.
void end_changed(Part& part) noexcept {
  if (part.was_in_l1 || part.yes > 0) {
    part.outcome = Outcome::kDone;
  } else {
    end_unfound(part);
  }
}

}  // namespace

void Operations::step(Operation& operation) {
  switch (operation.outer->op) {
    case Op::kGet:
      return operation.step == Step::kBegin ? begin_get(operation) : end_get(operation);
    case Op::kSet:
      return step_set(operation);
    case Op::kExists:
      return step_exists(operation);
    case Op::kDelete:
      return step_delete(operation);
    case Op::kTouch:
      break;
  }
  switch (operation.outer->hint) {
    case Hint::kNone:
      return step_touch(operation);
    case Hint::kPrefetch:
    case Hint::kPin:
      return step_prefetch(operation);
    case Hint::kRetain:
      return step_retain(operation);
    case Hint::kRelease:
      return step_release(operation);
  }
}

// ---- Exists, Touch, Delete.

void Operations::step_exists(Operation& operation) {
  for (Part& part : operation.parts) {
    if (operation.step == Step::kBegin) {
      if (!part.key->is_in_l1) continue;
      part.outcome = Outcome::kHit;
      part.value_bytes = engine_.find(space_, part.key->name).value_or(0);
    } else if (is_open(part) && part.yes > 0) {
      part.outcome = Outcome::kHit;
    } else if (is_open(part)) {
      end_unfound(part);
    }
  }
  if (operation.step == Step::kBegin) ask(operation);
  operation.step = Step::kEnd;
}

void Operations::step_touch(Operation& operation) {
  if (operation.step == Step::kBegin) {
    for (Part& part : operation.parts) {
      part.was_in_l1 = part.key->is_in_l1;
      if (part.was_in_l1) engine_.touch(space_, part.key->name);
    }
    call(operation, Who::kLoad, Op::kTouch);
    operation.step = Step::kEnd;
    return;
  }
  for (Part& part : operation.parts) end_changed(part);
}

void Operations::step_delete(Operation& operation) {
  if (operation.step == Step::kBegin) {
    for (Part& part : operation.parts) {
      part.was_in_l1 = part.key->is_in_l1;
      engine_.remove(space_, {&part.key->name, 1});
    }
    call(operation, Who::kAll, Op::kDelete);
    operation.step = Step::kEnd;
    return;
  }
  for (Part& part : operation.parts) {
    if (part.error.code() != ErrorCode::kNone) {
      part.outcome = Outcome::kFailed;
    } else {
      part.outcome = part.was_in_l1 || part.yes > 0 ? Outcome::kDone : Outcome::kMiss;
    }
  }
}

// ---- Hints.

/// The tiers' loads of their values. L1 adds no place of its own: it is a copy.
void Operations::step_retain(Operation& operation) {
  if (operation.step == Step::kBegin) {
    for (Part& part : operation.parts) part.was_in_l1 = part.key->is_in_l1;
    call(operation, Who::kRetain, Op::kTouch);
    operation.step = Step::kEnd;
    return;
  }
  for (Part& part : operation.parts) {
    if (part.yes > 0) {
      part.outcome = Outcome::kDone;
    } else if (part.error.code() != ErrorCode::kNone) {
      part.outcome = Outcome::kFailed;
    } else if (part.was_in_l1) {
      fail(part,
           {ErrorCode::kUnavailable, "tiered",
            "the value is in L1 only so far, and a tier that can retain it does not have it"});
    } else {
      end_unfound(part);
    }
  }
}

void Operations::step_release(Operation& operation) {
  if (operation.step == Step::kBegin) {
    for (Part& part : operation.parts) part.was_in_l1 = pins_.release(*part.key);
    call(operation, Who::kRetain, Op::kTouch);
    operation.step = Step::kEnd;
    return;
  }
  for (Part& part : operation.parts) end_changed(part);
}

void Operations::step_prefetch(Operation& operation) {
  switch (operation.step) {
    case Step::kBegin:
      return begin_prefetch(operation);
    case Step::kAsked:
      end_late(operation);
      return load_into_l1(operation);
    case Step::kRemoved:
    case Step::kEnd:
      return end_prefetch(operation);
  }
}

void Operations::begin_prefetch(Operation& operation) {
  for (Part& part : operation.parts) {
    if (!part.key->is_in_l1) continue;
    engine_.touch(space_, part.key->name);
    end_in_l1(operation, part);
  }
  ask(operation);
  operation.step = Step::kAsked;
}

void Operations::load_into_l1(Operation& operation) {
  operation.slices.reserve(operation.parts.size());
  for (std::uint32_t i = 0; i < operation.parts.size(); ++i) {
    Part& part = operation.parts[i];
    if (!is_open(part)) continue;
    if (part.yes == 0) {
      end_unfound(part);
      continue;
    }
    operation.slices.push_back({nullptr, part.value_bytes});
    operation.numbers.push_back(i);
    operation.names.push_back(part.key->name);
    Item& item = operation.items.emplace_back();
    item.key = operation.outer->items[part.place].key;
    item.value = {&operation.slices.back(), 1};
  }
  operation.step = Step::kEnd;
  if (operation.items.empty()) return;
  cache::GetSpec spec;
  spec.stays = true;
  get(operation, spec);
}

void Operations::end_prefetch(Operation& operation) {
  for (std::size_t i = 0; i < operation.numbers.size(); ++i) {
    Part& part = operation.parts[operation.numbers[i]];
    const Item& item = operation.items[i];
    if (operation.found[i].is_loading) continue;
    if (item.outcome == Outcome::kHit) {
      const bool is_from_tier = operation.found[i].tier != cache::kNone;
      counters_.prefetched.fetch_add(is_from_tier ? 1 : 0, std::memory_order_relaxed);
      end_in_l1(operation, part);
    } else {
      part.outcome = item.outcome;
      part.error = item.error;
      part.miss_reason = item.miss_reason;
    }
  }
  // After the pledges: until here the get has claims on the values.
  engine_.end_get(ticket_of(operation));
  wait_for_load(operation);
}

void Operations::end_in_l1(const Operation& operation, Part& part) {
  part.outcome = Outcome::kDone;
  if (operation.outer->hint != Hint::kPin) return;
  const std::uint64_t until_ns = RealClock::instance().now_ns() + operation.outer->hold_ns;
  switch (pins_.pin(*part.key, until_ns)) {
    case cache::Pledge::kGiven:
      return;
    case cache::Pledge::kAbsent:
      return fail(part, {ErrorCode::kResourceExhausted, "tiered", "L1 has no room for the value"});
    case cache::Pledge::kNoRoom:
      return fail(part, {ErrorCode::kResourceExhausted, "tiered",
                         "pinned values have all of L1 that they may take (pins=); release some"});
  }
}

/// A value that another operation is loading into L1 is waited for like a key that is being
/// changed, and then checked again.
void Operations::wait_for_load(Operation& operation) {
  std::erase_if(operation.parts, [&](const Part& part) {
    if (!is_open(part)) return false;
    wait(*part.key, {operation.outer, part.place, true});
    keys_.end(*part.key, part.changes);
    return true;
  });
}

// ---- Get.

void Operations::begin_get(Operation& operation) {
  const Batch& outer = *operation.outer;
  for (Part& part : operation.parts) {
    part.was_in_l1 = part.key->is_in_l1;
    Item& item = operation.items.emplace_back();
    item.key = outer.items[part.place].key;
    item.value = outer.items[part.place].value;
    operation.names.push_back(part.key->name);
  }
  cache::GetSpec spec;
  spec.allow_shorter = outer.allow_shorter;
  spec.misses_wrong_sizes = outer.misses_wrong_sizes;
  spec.is_ordered = options_.is_ordered;
  get(operation, spec);
}

/// Has the engine get the operation's names into its items; on_get() hears of the end.
void Operations::get(Operation& operation, cache::GetSpec spec) {
  spec.space = space_;
  spec.chunks = operation.names;
  spec.items = operation.items;
  spec.deadline_ns = operation.outer->deadline_ns;
  spec.urgency = operation.outer->urgency;
  operation.waits_for_get = true;
  engine_.get(ticket_of(operation), spec);
}

void Operations::end_get(Operation& operation) {
  const std::uint64_t began_ns = RealClock::instance().now_ns();
  std::uint64_t values = 0;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < operation.parts.size(); ++i) {
    copy_out(operation, i);
    const Part& part = operation.parts[i];
    if (part.outcome != Outcome::kHit || operation.found[i].slot.bytes == 0) continue;
    ++values;
    bytes += part.value_bytes;
  }
  if (values > 0) copy_times_.add(values, bytes, began_ns, RealClock::instance().now_ns());
  engine_.end_get(ticket_of(operation));
}

void Operations::copy_out(Operation& operation, std::size_t number) {
  Part& part = operation.parts[number];
  const Item& item = operation.items[number];
  part.outcome = item.outcome;
  part.error = item.error;
  part.miss_reason = item.miss_reason;
  part.value_bytes = item.value_bytes;
  if (item.outcome != Outcome::kHit) return;
  const std::uint64_t room = bytes_of(item.value);
  const bool is_shorter = item.value_bytes < room;
  if (item.value_bytes > room || (is_shorter && !operation.outer->allow_shorter)) {
    return fail(part, {ErrorCode::kSizeMismatch, "tiered", "the value and the buffer differ"});
  }
  const cache::SlotRef& slot = operation.found[number].slot;
  copy_to_slices({arena_.base() + slot.offset, slot.bytes}, item.value);
  if (!part.was_in_l1) return;
  counters_.hits.fetch_add(1, std::memory_order_relaxed);
  counters_.bytes_loaded.fetch_add(item.value_bytes, std::memory_order_relaxed);
}

// ---- Set.

void Operations::step_set(Operation& operation) {
  switch (operation.step) {
    case Step::kBegin:
      return begin_set(operation);
    case Step::kAsked:
      for (Part& part : operation.parts) {
        if (is_open(part) && part.yes > 0) {
          part.outcome = Outcome::kDone;
          part.existed = true;
        }
        part.error = {};  // A tier that does not answer is one that does not have the key.
      }
      break;
    case Step::kRemoved:
      for (Part& part : operation.parts) {
        if (part.error.code() != ErrorCode::kNone) part.outcome = Outcome::kFailed;
        part.yes = 0;
      }
      break;
    case Step::kEnd:
      return end_set(operation);
  }
  // Once the old value has been dropped the new one is stored, late or not, as long as that takes
  // no time.
  if (operation.step != Step::kRemoved) end_late(operation);
  if (is_back_) put(operation, false);
  end_late(operation);
  write(operation);
}

void Operations::end_set(Operation& operation) {
  judge_write(operation);
  if (is_back_) return;
  if (operation.mode == SetMode::kReplace) {
    // Not before the tiers have the new value: a key that is only replaced is never missing.
    for (const Part& part : operation.parts) engine_.remove(space_, {&part.key->name, 1});
  }
  if (!options_.skip_l1) put(operation, true);
}

void Operations::begin_set(Operation& operation) {
  if (operation.mode == SetMode::kReplace && !is_back_) return write(operation);
  if (operation.mode == SetMode::kReplace) {
    for (const Part& part : operation.parts) engine_.remove(space_, {&part.key->name, 1});
    // Values for L1 are stored behind it only if the key is absent.
    call(operation, Who::kAll, Op::kDelete);
    operation.step = Step::kRemoved;
    return;
  }
  for (Part& part : operation.parts) {
    if (!part.key->is_in_l1) continue;
    engine_.touch(space_, part.key->name);
    part.outcome = Outcome::kDone;
    part.existed = true;
  }
  const bool one_decides = tiers_.size() == 1 && !is_back_;
  if (one_decides) return write(operation);
  ask(operation);
  operation.step = Step::kAsked;
}

void Operations::write(Operation& operation) {
  operation.step = Step::kEnd;
  if (std::ranges::none_of(operation.parts, is_open)) return;
  call(operation, Who::kStore, Op::kSet);
  if (operation.mode == SetMode::kReplace) call(operation, Who::kRest, Op::kDelete);
}

void Operations::judge_write(Operation& operation) {
  for (Part& part : operation.parts) {
    if (!is_open(part)) continue;
    const bool has_error = part.error.code() != ErrorCode::kNone;
    if (!has_store_) {
      fail(part, {ErrorCode::kResourceExhausted, "tiered",
                  "L1 has no room for the value, and store=no keeps it from every tier"});
    } else if (has_error &&
               (operation.mode == SetMode::kReplace || (part.yes == 0 && !part.existed))) {
      part.outcome = Outcome::kFailed;
    } else {
      part.outcome = Outcome::kDone;
      part.existed = part.existed && part.yes == 0;
    }
  }
}

bool Operations::may_put(const Operation& operation, const Part& part,
                         bool only_written) const noexcept {
  // A value that takes more than half of L1 would empty it for itself.
  const std::uint64_t bytes = bytes_of(operation.outer->items[part.place].value);
  if (bytes > arena_.capacity_bytes() / 2) return false;
  return only_written ? part.outcome == Outcome::kDone && !part.existed : is_open(part);
}

/// Into L1: the values written to the tiers; otherwise the open ones, which are done then.
void Operations::put(Operation& operation, bool only_written) {
  put_parts_.clear();
  put_names_.clear();
  put_bytes_.clear();
  for (Part& part : operation.parts) {
    if (!may_put(operation, part, only_written)) continue;
    put_parts_.push_back(&part);
    put_names_.push_back(part.key->name);
    put_bytes_.push_back(bytes_of(operation.outer->items[part.place].value));
  }
  if (put_parts_.empty()) return;
  cache::WriteSpec spec;
  spec.owner = owner_;
  spec.space = space_;
  spec.range = {0, static_cast<std::uint32_t>(put_names_.size())};
  spec.chunks = put_names_;
  spec.bytes = put_bytes_;
  const auto opened = engine_.begin_write(spec, slots_);
  if (opened) {
    for (const cache::CellSlot& slot : slots_) {
      Part& part = *put_parts_[slot.chunk];
      copy_from_slices({arena_.base() + slot.slot.offset, slot.slot.bytes},
                       operation.outer->items[part.place].value);
      part.outcome = Outcome::kDone;
    }
    engine_.end_write(*opened, cache::WriteEnd::kPublish);
  }
  const std::size_t stored = opened ? slots_.size() : 0;
  counters_.stores.fetch_add(stored, std::memory_order_relaxed);
  counters_.stores_bypassed.fetch_add(put_parts_.size() - stored, std::memory_order_relaxed);
}

// ---- The tiers.

bool Operations::is_asked(std::size_t tier, Who who) const noexcept {
  const cache::TierOptions& options = options_.tiers[tier];
  switch (who) {
    case Who::kLoad:
      return options.load;
    case Who::kStore:
      return options.store;
    case Who::kRest:
      return !options.store;
    case Who::kAll:
      return true;
    case Who::kRetain:
      return options.load &&
             (tiers_[tier]->connector().capabilities().hints & bit_of(Hint::kRetain)) != 0;
  }
  return true;
}

/// Whether the tiers that are loaded from have the open keys: from memory where they can.
void Operations::ask(Operation& operation) {
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    if (!is_asked(tier, Who::kLoad)) continue;
    if (!probe_tier(operation, tier)) call_tier(operation, tier, Op::kExists);
  }
}

bool Operations::probe_tier(Operation& operation, std::size_t tier) {
  const Connector& connector = tiers_[tier]->connector();
  if (!connector.capabilities().has_probe) return false;
  asked_.clear();
  places_.clear();
  for (std::uint32_t i = 0; i < operation.parts.size(); ++i) {
    const Part& part = operation.parts[i];
    if (!is_open(part) || part.yes > 0) continue;
    asked_.emplace_back().key = operation.outer->items[part.place].key;
    places_.push_back(i);
  }
  if (asked_.empty()) return true;
  if (!connector.probe(asked_)) return false;
  for (std::size_t i = 0; i < asked_.size(); ++i) {
    note_answer(operation, places_[i], tier, asked_[i]);
  }
  return true;
}

void Operations::call(Operation& operation, Who who, Op op) {
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    if (is_asked(tier, who)) call_tier(operation, tier, op);
  }
}

void Operations::call_tier(Operation& operation, std::size_t tier, Op op) {
  const Batch& outer = *operation.outer;
  std::unique_ptr<Call> call;
  for (std::uint32_t i = 0; i < operation.parts.size(); ++i) {
    const Part& part = operation.parts[i];
    if (!is_open(part) || (op == Op::kExists && part.yes > 0)) continue;
    if (call == nullptr) call = take_call();
    Item item;
    item.key = outer.items[part.place].key;
    if (op == Op::kSet) item.value = outer.items[part.place].value;
    call->items.push_back(item);
    call->parts.push_back(i);
  }
  if (call == nullptr) return;
  call->operation = &operation;
  call->batch.op = op;
  call->batch.deadline_ns = outer.deadline_ns;
  call->batch.urgency = outer.urgency;
  call->batch.set_mode = operation.mode;
  // Only values that go to the tiers unchanged carry it.
  const bool is_hint = op == Op::kTouch;
  call->batch.hint = is_hint ? outer.hint : Hint::kNone;
  call->batch.hold_ns = is_hint ? outer.hold_ns : 0;
  call->tier = tier;
  ++operation.calls_out;
  Call* const submitted = call.release();  // Until on_ended().
  if (!tiers_[tier]->submit(*submitted)) refused_.push_back(submitted);
}

std::unique_ptr<Call> Operations::take_call() {
  if (calls_.empty()) return std::make_unique<Call>();
  std::unique_ptr<Call> call = std::move(calls_.back());
  calls_.pop_back();
  call->items.clear();
  call->parts.clear();
  return call;
}

}  // namespace larder::tiered
