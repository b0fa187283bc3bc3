#include "tests/engine_simulation/values.h"

#include <algorithm>

namespace larder::cache::simulation {

void Values::register_owner() {
  owner_ = world_.engine->add_owner(world_.value_layout_id);
}

void Values::event() {
  const std::uint32_t prompt = world_.below32(3);
  check_pledges();
  switch (world_.below(8)) {
    case 0:
    case 1:
      return store(prompt);
    case 2:
      return world_.engine->touch(world_.space(kValueSpace), chain_of(prompt, kChunksMax).back());
    case 3:
      return cancel();
    case 4:
      return pledge(prompt);
    case 5:
      return unpledge();
    default:
      return get(prompt);
  }
}

// ---- Pledges.

void Values::pledge(std::uint32_t prompt) {
  // Without tiers RoomWatch follows the order of eviction, and knows of no pledges.
  if (world_.plan.tiers.empty()) return;
  const auto chunk = static_cast<std::uint32_t>(chunks());
  const ChunkHash hash = chain_of(prompt, chunk).back();
  const bool was_there = world_.engine->find(world_.space(kValueSpace), hash).has_value();
  const Pledge given = world_.engine->pledge(world_.space(kValueSpace), hash);
  world_.log({32, static_cast<std::uint64_t>(given)});
  world_.expect((given == Pledge::kAbsent) != was_there, "E41: a pledge of what is not there");
  if (given != Pledge::kGiven) return;
  if (std::ranges::find(pledged_, hash) == pledged_.end()) pledged_.push_back(hash);
}

void Values::unpledge() {
  if (pledged_.empty()) return;
  const auto at = pledged_.begin() + static_cast<std::ptrdiff_t>(world_.below(pledged_.size()));
  world_.engine->unpledge(world_.space(kValueSpace), *at);
  pledged_.erase(at);
}

void Values::check_pledges() {
  EngineStats stats;
  world_.engine->snapshot(stats);
  const bool has_cleared = stats.totals.cells_cleared != cleared_before_;
  cleared_before_ = stats.totals.cells_cleared;
  const std::size_t before = pledged_.size();
  std::erase_if(pledged_, [&](const ChunkHash& hash) {
    return !world_.engine->find(world_.space(kValueSpace), hash).has_value();
  });
  world_.expect(has_cleared || pledged_.size() == before, "E41: a pledged value has left L1");
  // What was cleared and stored again since is there, and has no pledge any more.
  world_.expect(stats.columns_pledged <= pledged_.size(), "E41: a pledge that nobody asked for");
  const double budget = world_.plan.options.pledge_share;
  world_.expect(static_cast<double>(stats.pledged_bytes) <=
                    budget * static_cast<double>(stats.capacity_bytes),
                "E41: pledges exceed their budget");
}

// ---- Stores.

void Values::store(std::uint32_t prompt) {
  const auto chain = chain_of(prompt, static_cast<std::uint32_t>(chunks()));
  std::vector<std::uint64_t> bytes;
  std::vector<bool> was_there;
  for (std::uint32_t chunk = 0; chunk < chain.size(); ++chunk) {
    bytes.push_back(world_.bytes_of_value(prompt, chunk));
    was_there.push_back(world_.engine->find(world_.space(kValueSpace), chain[chunk]).has_value());
  }
  WriteSpec spec;
  spec.owner = owner_;
  spec.space = world_.space(kValueSpace);
  spec.range = {0, static_cast<std::uint32_t>(chain.size())};
  spec.chunks = chain;
  if (world_.plan.has_open_sizes) spec.bytes = bytes;
  std::vector<CellSlot> slots;
  watch_.before_write(kValueSpace, prompt, spec.range);
  const auto write = world_.engine->begin_write(spec, slots);
  watch_.after_write(kValueSpace, chain.size(), write.has_value());
  world_.log({30, slots.size()});
  note_fragmentation(prompt, was_there, slots);
  if (!write) return;
  check_run(prompt, was_there, slots);
  const std::uint64_t version = world_.oracle.next_version();
  const std::uint64_t use = ++world_.last_use;
  for (const CellSlot& slot : slots) {
    const CellId cell{kValueSpace, prompt, slot.chunk, 0, 0};
    world_.use(use, slot.slot, Memory::Use::kWrite, "E16, I2: a value");
    write_version(world_.bytes_of(slot.slot), cell, version);
    world_.oracle.commit(cell, version);
  }
  world_.memory.remove(use);
  world_.expect(world_.engine->end_write(*write, WriteEnd::kPublish), "E14: a value is refused");
}

void Values::note_fragmentation(std::uint32_t prompt, const std::vector<bool>& was_there,
                                const std::vector<CellSlot>& slots) {
  std::uint32_t next = slots.empty() ? 0 : slots.back().chunk + 1;
  while (next < was_there.size() && was_there[next]) ++next;
  if (next == was_there.size() || !world_.plan.tiers.empty()) return;
  EngineStats stats;
  world_.engine->snapshot(stats);
  const std::uint64_t bytes = world_.arena->taken_for(world_.bytes_of_value(prompt, next));
  if (stats.free_bytes >= bytes) world_.coverage.note(Seen::kFragmentation);
}

/// E13: what has no slot before the last one was there, for nobody else writes here.
void Values::check_run(std::uint32_t prompt, const std::vector<bool>& was_there,
                       const std::vector<CellSlot>& slots) {
  std::vector<bool> has_slot(was_there.size());
  for (const CellSlot& slot : slots) {
    has_slot[slot.chunk] = true;
    world_.expect(slot.slot.bytes == world_.bytes_of_value(prompt, slot.chunk),
                  "E4: a value's slot has another size");
  }
  for (std::uint32_t chunk = 0; chunk < slots.back().chunk; ++chunk) {
    world_.expect(has_slot[chunk] || was_there[chunk],
                  "E13: a chunk behind one that found no room has a slot");
  }
}

// ---- Gets.

void Values::get(std::uint32_t prompt) {
  const std::uint64_t ticket = ++tickets_;
  Getting& get = gets_[ticket];
  get.prompt = prompt;
  get.since = world_.oracle.last_version();
  get.chain = chain_of(prompt, static_cast<std::uint32_t>(chunks()));
  const std::size_t count = get.chain.size();
  get.keys.resize(count);
  get.memory.resize(count);
  get.slices.resize(count);
  get.items.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto chunk = static_cast<std::uint32_t>(i);
    get.keys[i] = {kValueSpace, prompt, chunk, 0, 0};
    get.memory[i].resize(world_.bytes_of_value(prompt, chunk));
    get.slices[i] = {get.memory[i].data(), get.memory[i].size()};
    get.items[i].key = std::as_bytes(std::span{&get.keys[i], 1});
    get.items[i].value = std::span{&get.slices[i], 1};
  }
  GetSpec spec;
  spec.space = world_.space(kValueSpace);
  spec.chunks = get.chain;
  spec.items = get.items;
  spec.deadline_ns = world_.now_ns + world_.below(6 * kSecond);
  spec.is_ordered = get.is_ordered = world_.one_in(2);
  spec.misses_wrong_sizes = world_.one_in(2);
  spec.stays = get.stays = world_.one_in(5);
  world_.engine->get(Ticket{ticket}, spec);
}

void Values::cancel() {
  if (gets_.empty()) return;
  auto at = gets_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(world_.below(gets_.size())));
  if (!at->second.is_answered) world_.coverage.note(Seen::kGetCancelled);
  world_.engine->cancel_get(Ticket{at->first});
}

void Values::on_get(Ticket ticket, std::span<const GetOutcome> outcomes) {
  const auto number = static_cast<std::uint64_t>(ticket);
  world_.log({31, number, outcomes.size()});
  const auto found = gets_.find(number);
  if (found == gets_.end() || found->second.is_answered) {
    return world_.fail("I4: a get is answered twice");
  }
  Getting& get = found->second;
  get.is_answered = true;
  get.outcomes.assign(outcomes.begin(), outcomes.end());
  get.use = ++world_.last_use;
  world_.expect(outcomes.size() == get.items.size(), "E35: a get has more or fewer outcomes");
  for (const GetOutcome& outcome : outcomes) {
    world_.log({static_cast<std::uint64_t>(outcome.outcome), outcome.slot.offset, outcome.tier});
    world_.expect(outcome.outcome != Outcome::kPending, "C2: a value has no outcome");
    if (outcome.slot.bytes == 0) continue;
    world_.use(get.use, outcome.slot, Memory::Use::kRead, "I3: a value");
  }
  check(get);
}

void Values::check(Getting& get) {
  for (std::uint32_t i = 0; i < get.outcomes.size(); ++i) {
    const GetOutcome& outcome = get.outcomes[i];
    if (outcome.outcome != Outcome::kHit) {
      const bool is_late = outcome.outcome == Outcome::kFailed &&
                           get.items[i].error.code() == ErrorCode::kDeadlineExceeded;
      world_.coverage.note(is_late ? Seen::kGetLate : Seen::kValueMissing);
      continue;
    }
    world_.coverage.note(outcome.tier == kNone ? Seen::kValueInL1 : Seen::kValueFromL2);
    world_.expect(!get.stays || outcome.slot.bytes != 0 || get.memory[i].empty(),
                  "E41: a value that was to stay has no slot");
    if (outcome.slot.bytes != 0) {
      world_.expect(outcome.slot.bytes == get.memory[i].size(), "E35: a value has another size");
      const std::uint64_t found = world_.check_bytes(outcome.slot, get.keys[i], "a value");
      world_.see(get.keys[i], found, get.since, "a value");
      continue;
    }
    const std::uint64_t version = version_in(get.memory[i], get.keys[i]);
    world_.expect(version != 0 && world_.oracle.is_committed(get.keys[i], version),
                  "E35: a value that was loaded has other bytes");
    world_.see(get.keys[i], version, get.since, "a value");
  }
}

void Values::check_answers() {
  for (auto get = gets_.begin(); get != gets_.end();) {
    if (!get->second.is_answered || !world_.one_in(3)) {
      ++get;
      continue;
    }
    end(get->first, get->second);
    get = gets_.erase(get);
  }
}

void Values::end(std::uint64_t ticket, const Getting& get) {
  for (std::uint32_t i = 0; i < get.outcomes.size(); ++i) {
    const SlotRef& slot = get.outcomes[i].slot;
    if (get.outcomes[i].outcome != Outcome::kHit || slot.bytes == 0) continue;
    world_.expect(version_in(world_.bytes_of(slot), get.keys[i]) != 0,
                  "E2: a value has changed under its claim");
  }
  world_.memory.remove(get.use);
  world_.engine->end_get(Ticket{ticket});
}

void Values::end_all() {
  for (const auto& [ticket, get] : gets_) {
    if (!get.is_answered) return world_.fail("I4: a get is not answered");
    end(ticket, get);
  }
  gets_.clear();
  world_.engine->drop_owner(owner_, OwnerEnd::kDead);
}

void Values::on_restart() {
  for (const auto& [ticket, get] : gets_) {
    if (!get.is_answered) return world_.fail("I4: a get is not answered by a drain");
  }
  gets_.clear();
  pledged_.clear();
  cleared_before_ = 0;
}

}  // namespace larder::cache::simulation
