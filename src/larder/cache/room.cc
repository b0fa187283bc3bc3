#include "larder/cache/room.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
Room::Room(EngineState& state, ColumnTable& columns, std::uint64_t capacity_bytes)
    : state_(state), columns_(columns), capacity_bytes_(capacity_bytes) {
  const SetupResult<const PolicyKind*> kind = find_policy(state.options.policy);
  LARDER_CHECK(kind.has_value());  // EngineOptions::validate() says so to people.
  kind_ = *kind;
  is_noop_ = kind_->name == "noop";
  add_partition(SaltId{}, true);
}

// ---- Salts and their partitions.

bool Room::is_apart(const Quota& quota) const noexcept {
  return kind_->is_partitioned_by_salt || quota.limit_bytes != kNever || quota.guarantee_bytes != 0;
}

std::uint64_t Room::policy_bytes(const Quota& quota) const noexcept {
  return std::min(capacity_bytes_, quota.limit_bytes);
}

Room::Salt& Room::salt_of(SaltId salt) {
  while (salts_.size() <= index_of(salt)) salts_.push_back({.quota = state_.options.default_quota});
  return salts_[index_of(salt)];
}

Room::Partition& Room::own_partition(SaltId salt) {
  Salt& of_salt = salt_of(salt);
  if (is_apart(of_salt.quota) && of_salt.partition == 0) {
    of_salt.partition = add_partition(salt, false).number;
    note_standing(salt);
  }
  return *partitions_[of_salt.partition];
}

Room::Partition& Room::add_partition(SaltId salt, bool is_shared) {
  PolicyOptions options;
  options.capacity_bytes = is_shared ? capacity_bytes_ : policy_bytes(salts_[index_of(salt)].quota);
  options.records = records_;
  options.seed = state_.options.seed;
  options.ghosts_max = state_.options.ghosts_max;
  if (numbers_free_.empty()) {
    numbers_free_.push_back(static_cast<std::uint32_t>(partitions_.size()));
    partitions_.push_back(std::make_unique<Partition>());
  }
  const std::uint32_t number = numbers_free_.back();
  numbers_free_.pop_back();
  Partition& partition = *partitions_[number];
  const bool is_stale = partition.is_stale;  // Because its number is in stale_.
  partition = {.policy = kind_->make(options),
               .number = number,
               .salt = salt,
               .is_shared = is_shared,
               .is_stale = is_stale};
  heap_of(partition).add(partition);
  return partition;
}

/// It has no column any more.
void Room::drop_partition(Partition& partition) {
  heap_of(partition).remove(partition);
  Salt& salt = salts_[index_of(partition.salt)];
  if (salt.partition == partition.number) salt.partition = 0;
  partition.policy.reset();
  numbers_free_.push_back(partition.number);
}

void Room::insert_into(Partition& partition, ColumnId id, std::uint64_t stamp) {
  Column& column = columns_[id];
  column.partition = partition.number;
  note_changed(partition);
  partition.policy->insert(id, column.hash.fingerprint() + index_of(column.space),
                           column.resident_bytes, stamp);
}

/// Moves the salt's columns to a partition of its own, in the order of their use.
void Room::give_partition(SaltId salt) {
  std::vector<ColumnId> moved;
  for (ColumnId id = 0; id < columns_.end(); ++id) {
    if (columns_.is_used(id) && columns_[id].partition != kNone &&
        state_.layouts.salt(columns_[id].space) == salt) {
      moved.push_back(id);
    }
  }
  salts_[index_of(salt)].partition = 0;
  if (moved.empty()) return;
  std::ranges::sort(moved, [&](ColumnId a, ColumnId b) {
    return columns_[a].touched != columns_[b].touched ? columns_[a].touched < columns_[b].touched
                                                      : a < b;
  });
  Partition& made = own_partition(salt);
  for (const ColumnId id : moved) {
    Column& column = columns_[id];
    erase(id, Removal::kDeleted);
    ++columns_in_;
    ++salts_[index_of(salt)].columns;
    insert_into(made, id, std::max<std::uint64_t>(column.touched, 1));
    if (column.is_hidden) hide(id);
    if (column.touched == 0) cool(id);
  }
}

/// Its columns are ordinary ones from now on.
void Room::leave_partition(SaltId salt) {
  Partition& partition = *partitions_[std::exchange(salts_[index_of(salt)].partition, 0)];
  if (partition.is_shared) return;
  partition.is_left = true;
  set_standing(partition);
}

// ---- Columns.

Policy& Room::changing(ColumnId id) {
  Partition& partition = *partitions_[columns_[id].partition];
  note_changed(partition);
  return *partition.policy;
}

void Room::insert(ColumnId id) {
  Column& column = columns_[id];
  const SaltId salt = state_.layouts.salt(column.space);
  column.touched = ++state_.touches;
  insert_into(own_partition(salt), id, column.touched);
  ++salts_[index_of(salt)].columns;
  ++columns_in_;
}

void Room::resize(ColumnId id) {
  changing(id).resize(id, columns_[id].resident_bytes);
}

void Room::touch(ColumnId id) {
  Column& column = columns_[id];
  column.touched = ++state_.touches;
  if (!partitions_[column.partition]->is_left) return changing(id).touch(id, column.touched);
  const SaltId salt = state_.layouts.salt(column.space);
  erase(id, Removal::kDeleted);
  insert_into(own_partition(salt), id, column.touched);
  ++salts_[index_of(salt)].columns;
  ++columns_in_;
  if (column.is_hidden) hide(id);
}

void Room::begin_chain(SaltId salt, const ChainUse& chain) {
  // A salt whose own partition has no column yet gets no chain: its first one is not learned from.
  if (index_of(salt) >= salts_.size()) return partitions_.front()->policy->begin_chain(chain);
  partitions_[salts_[index_of(salt)].partition]->policy->begin_chain(chain);
}

void Room::hide(ColumnId id) {
  changing(id).hide(id);
}

void Room::show(ColumnId id) {
  changing(id).show(id);
}

void Room::cool(ColumnId id) {
  columns_[id].touched = 0;
  changing(id).cool(id);
}

void Room::erase(ColumnId id, Removal why) {
  Column& column = columns_[id];
  changing(id).erase(id, why);
  Partition& partition = *partitions_[std::exchange(column.partition, kNone)];
  --salts_[index_of(state_.layouts.salt(column.space))].columns;
  --columns_in_;
  if (!partition.is_shared && partition.policy->columns() == 0) drop_partition(partition);
}

// ---- Bytes and quotas.

void Room::charge(SaltId salt, std::uint64_t bytes) {
  salt_of(salt).bytes += bytes;
  bytes_ += bytes;
  note_standing(salt);
}

void Room::discharge(SaltId salt, std::uint64_t bytes) noexcept {
  LARDER_CHECK(salts_[index_of(salt)].bytes >= bytes);
  salts_[index_of(salt)].bytes -= bytes;
  bytes_ -= bytes;
  note_standing(salt);
}

bool Room::is_within_limit(SaltId salt, std::uint64_t more) const noexcept {
  if (is_broken(CacheRule::kQuotaLimit)) return true;
  if (index_of(salt) >= salts_.size()) return more <= state_.options.default_quota.limit_bytes;
  const Salt& asked = salts_[index_of(salt)];
  return asked.bytes <= asked.quota.limit_bytes && more <= asked.quota.limit_bytes - asked.bytes;
}

const Quota& Room::quota(SaltId salt) const noexcept {
  return index_of(salt) < salts_.size() ? salts_[index_of(salt)].quota
                                        : state_.options.default_quota;
}

void Room::set_quota(SaltId salt, const Quota& quota) {
  Salt& of_salt = salt_of(salt);
  const Quota before = std::exchange(of_salt.quota, quota);
  if (!is_apart(quota)) return leave_partition(salt);
  // A policy is made for the bytes that it orders.
  if (!is_apart(before) || policy_bytes(before) != policy_bytes(quota)) give_partition(salt);
  note_standing(salt);
}

SaltStats Room::stats_of(SaltId salt) const noexcept {
  SaltStats stats{.salt = salt, .quota = quota(salt)};
  if (index_of(salt) >= salts_.size()) return stats;
  const Salt& of_salt = salts_[index_of(salt)];
  stats.l1_bytes = of_salt.bytes;
  stats.columns = of_salt.columns;
  stats.refused = of_salt.refused;
  return stats;
}

// ---- Which partition.

Room::Standing Room::standing_of(const Partition& partition) const noexcept {
  if (partition.is_shared || partition.is_left) return Standing::kFree;
  const Salt& salt = salts_[index_of(partition.salt)];
  if (salt.bytes > salt.quota.limit_bytes) return Standing::kAboveLimit;
  const bool is_guaranteed =
      salt.bytes <= salt.quota.guarantee_bytes && !is_broken(CacheRule::kQuotaGuarantee);
  return is_guaranteed ? Standing::kGuaranteed : Standing::kFree;
}

void Room::note_standing(SaltId salt) {
  set_standing(*partitions_[salts_[index_of(salt)].partition]);
}

void Room::set_standing(Partition& partition) {
  const Standing standing = standing_of(partition);
  if (standing == partition.standing) return;
  heap_of(partition).remove(partition);
  partition.standing = standing;
  heap_of(partition).add(partition);
}

void Room::note_changed(Partition& partition) {
  if (std::exchange(partition.is_stale, true)) return;
  stale_.push_back(partition.number);
}

void Room::refresh() {
  for (const std::uint32_t number : stale_) {
    Partition& partition = *partitions_[number];
    partition.is_stale = false;
    if (partition.policy == nullptr) continue;
    const std::uint64_t stamp = partition.policy->coldest_stamp();
    if (stamp == partition.stamp) continue;
    heap_of(partition).remove(partition);
    partition.stamp = stamp;
    heap_of(partition).add(partition);
  }
  stale_.clear();
}

Room::Partition* Room::coldest(Standing standing) noexcept {
  const auto& heap = heaps_[static_cast<std::size_t>(standing)];
  return heap.empty() || heap.first().stamp == Policy::kNoVictim ? nullptr : &heap.first();
}

ColumnId Room::choose(Partition& partition, const RoomWish& wish) {
  std::array<ColumnId, kCandidates> candidates{};
  const std::size_t count = partition.policy->coldest(candidates);
  ColumnId best = kNone;
  int best_rank = -1;
  for (const ColumnId id : std::span{candidates}.first(count)) {
    const Column& column = columns_[id];
    const bool fits = column.layout == wish.layout && column.resident_bytes >= wish.taken;
    const int rank = (fits ? 2 : 0) + (column.wanted == 0 ? 1 : 0);
    if (rank > best_rank) {
      best = id;
      best_rank = rank;
    }
    if (rank == 3) break;
  }
  return best;
}

ColumnId Room::victim(const RoomWish& wish) {
  const std::size_t in_use = partitions_.size() - numbers_free_.size();
  if (in_use == 1) return choose(*partitions_.front(), wish);
  refresh();
  Partition* from = coldest(Standing::kAboveLimit);
  if (from != nullptr) return choose(*from, wish);
  from = coldest(Standing::kFree);
  if (index_of(wish.salt) < salts_.size()) {
    // A guarantee against others does not protect it from itself.
    Partition& own = *partitions_[salts_[index_of(wish.salt)].partition];
    const bool is_candidate =
        own.standing == Standing::kGuaranteed && own.stamp != Policy::kNoVictim;
    if (is_candidate && (from == nullptr || ByStamp::is_before(own, *from))) from = &own;
  }
  return from == nullptr ? kNone : choose(*from, wish);
}

ColumnId Room::own_victim(const RoomWish& wish) {
  Partition& own = *partitions_[salt_of(wish.salt).partition];
  return own.is_shared ? kNone : choose(own, wish);
}

ColumnId Room::victim_above_limit() {
  if (is_broken(CacheRule::kQuotaLimit)) return kNone;
  if (heaps_[static_cast<std::size_t>(Standing::kAboveLimit)].empty()) return kNone;
  refresh();
  Partition* const from = coldest(Standing::kAboveLimit);
  return from == nullptr
             ? kNone
             : choose(*from, RoomWish{.salt = SaltId{kNone}, .layout = LayoutId{kNone}});
}

void Room::check_invariants() const {
  std::vector<std::size_t> counts(partitions_.size());
  std::vector<std::uint64_t> bytes(partitions_.size());
  std::vector<std::uint64_t> by_salt(salts_.size());
  for (ColumnId id = 0; id < columns_.end(); ++id) {
    if (!columns_.is_used(id)) continue;
    const Column& column = columns_[id];
    LARDER_CHECK(column.partition == kNone || column.resident > 0);
    LARDER_CHECK(column.partition != kNone || column.resident == 0 || column.pins > 0);
    if (column.partition == kNone) continue;
    const SaltId salt = state_.layouts.salt(column.space);
    const Partition& partition = *partitions_[column.partition];
    LARDER_CHECK(column.partition == salts_[index_of(salt)].partition ||
                 (partition.is_left && partition.salt == salt));
    ++by_salt[index_of(salt)];
    ++counts[column.partition];
    bytes[column.partition] += column.resident_bytes;
  }
  for (std::size_t i = 0; i < partitions_.size(); ++i) {
    const Partition& partition = *partitions_[i];
    LARDER_CHECK((partition.policy == nullptr) == (std::ranges::count(numbers_free_, i) == 1));
    if (partition.policy == nullptr) continue;
    LARDER_CHECK(partition.is_shared || counts[i] != 0);
    LARDER_CHECK(partition.policy->columns() == counts[i]);
    LARDER_CHECK(partition.policy->bytes() == bytes[i]);
    LARDER_CHECK(partition.standing == standing_of(partition));
  }
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < salts_.size(); ++i) {
    LARDER_CHECK(salts_[i].columns == by_salt[i]);
    sum += salts_[i].bytes;
  }
  LARDER_CHECK(sum == bytes_);
}

}  // namespace larder::cache
