#include "larder/cache/room.h"

#include <algorithm>
#include <array>
#include <span>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

/// True if the quota limits or guarantees something in L1.
bool has_share(const Quota& quota) noexcept {
  return quota.limit_bytes != kNever || quota.guarantee_bytes != 0;
}

}  // namespace

Room::Room(EngineState& state, ColumnTable& columns, std::uint64_t capacity_bytes)
    : state_(state), columns_(columns), capacity_bytes_(capacity_bytes) {
  const SetupResult<const PolicyKind*> kind = find_policy(state.options.policy);
  LARDER_CHECK(kind.has_value());  // EngineOptions::validate() says so to people.
  kind_ = *kind;
  is_noop_ = kind_->name == "noop";
  add_partition(SaltId{}, true);
}

std::uint32_t Room::add_partition(SaltId salt, bool is_shared) {
  PolicyOptions options;
  options.capacity_bytes = capacity_bytes_;
  if (!is_shared) {
    options.capacity_bytes = std::min(capacity_bytes_, salts_[index_of(salt)].quota.limit_bytes);
  }
  options.records = records_;
  options.seed = state_.options.seed;
  options.ghosts_max = state_.options.ghosts_max;
  partitions_.push_back({kind_->make(options), salt, is_shared});
  return static_cast<std::uint32_t>(partitions_.size() - 1);
}

Room::Salt& Room::salt_of(SaltId salt) {
  while (salts_.size() <= index_of(salt)) {
    const SaltId made{static_cast<std::uint32_t>(salts_.size())};
    salts_.push_back({state_.options.default_quota, 0, 0});
    if (has_share(salts_.back().quota) || kind_->is_partitioned_by_salt) {
      salts_.back().partition = add_partition(made, false);
    }
  }
  return salts_[index_of(salt)];
}

void Room::insert(ColumnId id) {
  Column& column = columns_[id];
  column.partition = salt_of(state_.layouts.salt(column.space)).partition;
  column.touched = ++state_.touches;
  policy_of(id).insert(id, column.hash.fingerprint() + index_of(column.space),
                       column.resident_bytes, column.touched);
}

void Room::resize(ColumnId id) {
  policy_of(id).resize(id, columns_[id].resident_bytes);
}

void Room::touch(ColumnId id) {
  columns_[id].touched = ++state_.touches;
  policy_of(id).touch(id, columns_[id].touched);
}

void Room::hide(ColumnId id) {
  policy_of(id).hide(id);
}

void Room::show(ColumnId id) {
  policy_of(id).show(id);
}

void Room::cool(ColumnId id) {
  columns_[id].touched = 0;
  policy_of(id).cool(id);
}

void Room::erase(ColumnId id, Removal why) {
  policy_of(id).erase(id, why);
  columns_[id].partition = kNone;
}

void Room::charge(SaltId salt, std::uint64_t bytes) {
  salt_of(salt).bytes += bytes;
}

void Room::discharge(SaltId salt, std::uint64_t bytes) noexcept {
  LARDER_CHECK(salts_[index_of(salt)].bytes >= bytes);
  salts_[index_of(salt)].bytes -= bytes;
}

bool Room::is_within_limit(SaltId salt, std::uint64_t more) const noexcept {
  if (is_broken(CacheRule::kQuotaLimit)) return true;
  if (index_of(salt) >= salts_.size()) return more <= state_.options.default_quota.limit_bytes;
  const Salt& asked = salts_[index_of(salt)];
  return asked.bytes <= asked.quota.limit_bytes && more <= asked.quota.limit_bytes - asked.bytes;
}

std::uint64_t Room::bytes_of(SaltId salt) const noexcept {
  return index_of(salt) < salts_.size() ? salts_[index_of(salt)].bytes : 0;
}

const Quota& Room::quota(SaltId salt) const noexcept {
  return index_of(salt) < salts_.size() ? salts_[index_of(salt)].quota
                                        : state_.options.default_quota;
}

void Room::set_quota(SaltId salt, const Quota& quota) {
  salt_of(salt).quota = quota;
  if (has_share(quota) && salt_of(salt).partition == 0) give_partition(salt);
}

void Room::give_partition(SaltId salt) {
  const std::uint32_t made = add_partition(salt, false);
  salts_[index_of(salt)].partition = made;
  std::vector<ColumnId> moved;
  for (ColumnId id = 0; id < columns_.end(); ++id) {
    if (columns_.is_used(id) && columns_[id].partition != kNone &&
        state_.layouts.salt(columns_[id].space) == salt) {
      moved.push_back(id);
    }
  }
  std::ranges::sort(moved, [&](ColumnId a, ColumnId b) {
    return columns_[a].touched != columns_[b].touched ? columns_[a].touched < columns_[b].touched
                                                      : a < b;
  });
  for (const ColumnId id : moved) {
    Column& column = columns_[id];
    erase(id, Removal::kDeleted);
    column.partition = made;
    policy_of(id).insert(id, column.hash.fingerprint() + index_of(column.space),
                         column.resident_bytes, std::max<std::uint64_t>(column.touched, 1));
    if (column.is_hidden) hide(id);
    if (column.touched == 0) cool(id);
  }
}

bool Room::is_protected(const Partition& partition, SaltId from) const noexcept {
  if (partition.is_shared || partition.salt == from) return false;
  if (is_broken(CacheRule::kQuotaGuarantee)) return false;
  const Salt& salt = salts_[index_of(partition.salt)];
  return salt.bytes <= salt.quota.guarantee_bytes;
}

bool Room::is_above_limit(const Partition& partition) const noexcept {
  if (partition.is_shared) return false;
  const Salt& salt = salts_[index_of(partition.salt)];
  return salt.bytes > salt.quota.limit_bytes;
}

template <class May>
Room::Partition* Room::coldest_partition(May&& may) {
  Partition* coldest = nullptr;
  std::uint64_t lowest = Policy::kNoVictim;
  for (Partition& partition : partitions_) {
    if (!may(partition)) continue;
    const std::uint64_t stamp = partition.policy->coldest_stamp();
    if (stamp >= lowest) continue;
    lowest = stamp;
    coldest = &partition;
  }
  return coldest;
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
  if (partitions_.size() == 1) return choose(partitions_.front(), wish);
  Partition* from = coldest_partition([&](const Partition& p) { return is_above_limit(p); });
  if (from == nullptr) {
    from = coldest_partition([&](const Partition& p) { return !is_protected(p, wish.salt); });
  }
  return from == nullptr ? kNone : choose(*from, wish);
}

ColumnId Room::own_victim(const RoomWish& wish) {
  Partition& own = partitions_[salt_of(wish.salt).partition];
  return own.is_shared ? kNone : choose(own, wish);
}

void Room::check_invariants() const {
  std::vector<std::size_t> counts(partitions_.size());
  std::vector<std::uint64_t> bytes(partitions_.size());
  for (ColumnId id = 0; id < columns_.end(); ++id) {
    if (!columns_.is_used(id)) continue;
    const Column& column = columns_[id];
    LARDER_CHECK(column.partition == kNone || column.resident > 0);
    LARDER_CHECK(column.partition != kNone || column.resident == 0 || column.pins > 0);
    if (column.partition == kNone) continue;
    const SaltId salt = state_.layouts.salt(column.space);
    LARDER_CHECK(column.partition == salts_[index_of(salt)].partition);
    ++counts[column.partition];
    bytes[column.partition] += column.resident_bytes;
  }
  for (std::size_t i = 0; i < partitions_.size(); ++i) {
    LARDER_CHECK(partitions_[i].policy->columns() == counts[i]);
    LARDER_CHECK(partitions_[i].policy->bytes() == bytes[i]);
  }
}

}  // namespace larder::cache
