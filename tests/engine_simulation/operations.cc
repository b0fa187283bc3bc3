#include "tests/engine_simulation/operations.h"

#include <utility>

namespace larder::cache::simulation {

void Operations::event() {
  room_.pause(true);
  act();
  room_.pause(false);
}

void Operations::act() {
  switch (world_.below(8)) {
    case 0:
    case 1:
      if (world_.plan.has_removals) clear(world_.one_in(3), ClearScope::kL1);
      return;
    case 2:
    case 3:
      if (world_.plan.has_removals) remove();
      return;
    case 4:
      if (world_.plan.has_quotas || world_.plan.has_tier_limits) set_quota();
      return;
    case 5:
      if (world_.plan.has_purges) clear(world_.one_in(2), ClearScope::kAll);
      return;
    case 6:
      if (world_.plan.has_purges) purge();
      return;
    default:
      if (world_.plan.has_tier_limits) count_accounts();
      if (world_.plan.changes_layout && world_.one_in(2)) change_layout();
      return;
  }
}

void Operations::disturb() {
  ++world_.disturbances;
  ++world_.load_disturbances;
  ++world_.overtakes;
}

std::uint64_t Operations::deadline_ns() {
  return world_.one_in(2) ? kNever : world_.now_ns + 1 + world_.below(8 * kSecond);
}

void Operations::clear(bool force, ClearScope scope) {
  std::optional<std::uint32_t> space;
  if (world_.one_in(3)) space = world_.below32(scope == ClearScope::kAll ? kSpaces : kSalts);
  const bool is_of_all = scope == ClearScope::kAll;
  world_.trace("clear%s%s%s", force ? ", forced" : "", space ? ", of a space" : "",
               is_of_all ? ", of all scopes" : "");
  world_.coverage.note(force ? Seen::kClearForced : Seen::kClear);
  if (space) world_.coverage.note(Seen::kClearOfSpace);
  if (world_.stats.loading_bytes > 0) world_.coverage.note(Seen::kClearDuringLoad);
  disturb();
  ClearSpec spec;
  spec.force = force;
  spec.scope = scope;
  if (space) spec.space = world_.space(*space);
  workers_.on_clear(space);
  clients_.on_clear(space, force);
  if (is_of_all) {
    world_.coverage.note(Seen::kClearAll);
    spec.deadline_ns = deadline_ns();
    const PurgeScope of{.space = space};
    spec.ticket = purging_.begin(of, spec.deadline_ns);
    if (!force) purging_.keep_locked(of);
  }
  const ClearResult result = world_.engine->clear(spec);
  world_.log({40, result.cells, result.bytes, result.cells_locked});
  check_cleared(space, force);
  if (!force || !world_.plan.tiers.empty()) return;
  for (std::uint32_t number = 0; number < kSpaces; ++number) {
    if (!space || number == *space) world_.oracle.forget(number);
  }
}

void Operations::check_cleared(std::optional<std::uint32_t> space, bool force) {
  EngineStats stats;
  world_.engine->snapshot(stats);
  if (!space) {
    world_.expect(stats.resident_bytes == stats.locked_bytes,
                  "E36: a clear left a cell that nobody has locked");
    world_.expect(!force || stats.resident_bytes == 0, "E36: a forced clear left a cell");
  }
  if (!force) return;
  const auto chain = chain_of(world_.below32(world_.plan.prompts), kChunksMax);
  for (const ChunkHash& chunk : chain) {
    world_.expect(!world_.engine->find(world_.space(space.value_or(0)), chunk),
                  "E36: a forced clear left a column");
  }
}

void Operations::remove() {
  const std::uint32_t space = world_.below32(kSalts);
  const std::uint32_t prompt = world_.below32(world_.plan.prompts);
  const auto chain = chain_of(prompt, kChunksMax);
  const std::uint32_t chunk = world_.below32(kChunksMax);
  world_.trace("remove chunk %u of prompt %u, space %u", chunk, prompt, space);
  world_.coverage.note(Seen::kRemove);
  disturb();
  clients_.on_remove(space, prompt, chunk);
  workers_.on_remove(space, prompt, 1U << chunk);
  world_.engine->remove(world_.space(space), std::span{chain}.subspan(chunk, 1));
  world_.expect(!world_.engine->find(world_.space(space), chain[chunk]),
                "E36: a removed column is there");
}

void Operations::purge() {
  const bool is_of_values = world_.plan.has_values && world_.one_in(4);
  const std::uint32_t space = is_of_values ? kValueSpace : world_.below32(kSalts);
  const std::uint32_t prompt = world_.below32(is_of_values ? 3 : world_.plan.prompts);
  const std::uint32_t begin = world_.below32(kChunksMax);
  const std::uint32_t count = 1 + world_.below32(kChunksMax - begin);
  const auto chain = chain_of(prompt, kChunksMax);
  const auto chunks = std::span{chain}.subspan(begin, count);
  world_.trace("purge [%u, %u) of prompt %u, space %u", begin, begin + count, prompt, space);
  world_.coverage.note(Seen::kPurgeNamed);
  disturb();
  PurgeScope scope{.space = space, .is_named = true, .prompt = prompt};
  scope.groups = is_of_values ? 1 : world_.groups_known;
  for (std::uint32_t chunk = begin; chunk < begin + count; ++chunk) {
    scope.chunks |= 1U << chunk;
    if (!is_of_values) clients_.on_remove(space, prompt, chunk);
  }
  workers_.on_remove(space, prompt, scope.chunks);
  const std::uint64_t until_ns = deadline_ns();
  const Ticket ticket = purging_.begin(scope, until_ns);
  world_.engine->purge(ticket, world_.space(space), chunks, until_ns);
  for (const ChunkHash& chunk : chunks) {
    world_.expect(!world_.engine->find(world_.space(space), chunk),
                  "E36: a purged column is there");
  }
}

/// As the driver finds it in its tiers; only the scripted ones say.
std::vector<SaltBytes> Operations::look(TierId tier) const {
  std::vector<SaltBytes> found;
  for (std::uint32_t salt = 0; salt < kSalts; ++salt) {
    found.push_back({SaltId{salt}, tiers_[tier].bytes_of_space(salt)});
  }
  return found;
}

void Operations::count_accounts() {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    if (const auto running = counts_.find(tier); running != counts_.end()) {
      end_count(tier, running->second);
      counts_.erase(running);
      continue;
    }
    world_.engine->begin_count(tier);
    Count& count = counts_[tier];
    count.has_looked = world_.one_in(2);
    if (count.has_looked) count.found = look(tier);
  }
}

void Operations::end_count(TierId tier, Count& count) {
  if (!count.has_looked) count.found = look(tier);
  world_.engine->end_count(tier, count.found);
  world_.trace("the keys of tier %u are counted", tier);
  world_.coverage.note(Seen::kAccountSet);
  for (const SaltBytes& one : look(tier)) {
    world_.expect(world_.engine->account(tier, one.salt) >= one.bytes,
                  "E34: a tier holds more of a salt than its account says");
  }
}

void Operations::set_quota() {
  const std::uint32_t salt = world_.below32(kSalts);
  Quota quota;
  const std::uint64_t capacity = world_.arena->capacity_bytes();
  if (world_.plan.has_quotas) {
    quota.limit_bytes = world_.one_in(4) ? kNever : capacity / 8 + world_.below(capacity);
    quota.guarantee_bytes = world_.one_in(2) ? 0 : world_.below(capacity / 2);
  }
  if (world_.plan.has_tier_limits && !world_.one_in(4)) {
    quota.tier_limit_bytes = world_.below(2 * capacity);
  }
  quota.guarantee_bytes = std::min(quota.guarantee_bytes, quota.limit_bytes);
  world_.trace("quota of salt %u: %llu, %llu", salt,
               static_cast<unsigned long long>(quota.limit_bytes),
               static_cast<unsigned long long>(quota.guarantee_bytes));
  world_.coverage.note(Seen::kQuotaSet);
  world_.quotas[salt] = quota;
  world_.engine->set_quota(SaltId{salt}, quota);
}

void Operations::change_layout() {
  LayoutSpec other =
      world_.layout == world_.plan.layout ? world_.plan.other_layout : world_.plan.layout;
  world_.expect(!world_.engine->add_layout(other), "E4: a second layout of a model lives");
  workers_.end_all();
  ++world_.disturbances;
  ++world_.load_disturbances;
  ++world_.overtakes;
  ++world_.layout_number;
  world_.layout = std::move(other);
  world_.trace("another layout");
  world_.coverage.note(Seen::kLayoutChanged);
  clients_.on_layout_change();
  for (std::uint32_t i = 0; i < world_.plan.workers; ++i) workers_.add();
}

}  // namespace larder::cache::simulation
