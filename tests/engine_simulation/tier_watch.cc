// What a tier looks at, and what it remembers.
#include <algorithm>
#include <utility>

#include "larder/connector/slices.h"
#include "tests/engine_simulation/lookup_watch.h"
#include "tests/engine_simulation/tier.h"

namespace larder::cache::simulation {
namespace {

/// The third failure of a store ends it (E33).
constexpr int kStoreFailuresMax = 3;

}  // namespace

// ---- What it looks at.

void TierUnderTest::look_at(const Batch& batch, Flight& flight) {
  flight.is_touch = batch.op == Op::kTouch;
  if (flight.is_touch) watch_->on_touch(number_, batch.items);
  if (batch.op == Op::kExists || flight.is_touch) return;
  flight.use = ++world_.last_use;
  flight.is_delete = batch.op == Op::kDelete;
  if (flight.is_delete) {
    for (const Item& item : batch.items) look_at_delete(item);
    return;
  }
  flight.is_store = batch.op == Op::kSet;
  if (flight.is_store) check_account(batch);
  flight.is_load = !flight.is_store && cell_of_key(batch.items[0].key).space != kValueSpace;
  for (const Item& item : batch.items) {
    flight.bytes += larder::bytes_of(item.value);
    if (flight.is_store) {
      look_at_store(item, flight);
    } else {
      look_at_load(item, flight);
    }
  }
  check_bounds(flight, batch.items.size());
}

void TierUnderTest::look_at_load(const Item& item, Flight& flight) {
  const Slice& slice = item.value[0];
  const std::byte* const base = world_.arena->base();
  // A get may load straight to its caller.
  const bool is_in_arena = slice.data >= base && slice.data < base + world_.arena->capacity_bytes();
  if (!is_in_arena) return world_.expect(!flight.is_load, "a load goes beside the arena");
  const SlotRef slot{static_cast<std::uint64_t>(slice.data - base), slice.bytes};
  world_.use(flight.use, slot, Memory::Use::kWrite, "I2, P4: a load");
  if (flight.is_load) watch_->on_load(number_, cell_of_key(item.key));
}

void TierUnderTest::look_at_store(const Item& item, Flight& flight) {
  const Slice& slice = item.value[0];
  const SlotRef slot{static_cast<std::uint64_t>(slice.data - world_.arena->base()), slice.bytes};
  world_.use(flight.use, slot, Memory::Use::kRead, "I2: a store");
  const CellId cell = cell_of_key(item.key);
  const std::uint64_t version = world_.check_bytes(slot, cell, "a store");
  std::string failed = world_.purges.see_store(cell, version, "a store");
  if (!failed.empty()) world_.fail(std::move(failed));
  watch_->on_store(number_, cell);
}

void TierUnderTest::look_at_delete(const Item& item) {
  const CellId cell = cell_of_key(item.key);
  world_.expect(world_.purges.may_delete(cell, scripted_ == nullptr ? 0 : version_of(cell)),
                "E36: what is deleted is not what a purge removes");
}

/// E33, E34: the engine's own account has the batch already.
void TierUnderTest::check_account(const Batch& batch) const {
  world_.expect(world_.now_ns >= paused_until_ns_,
                "E33: a tier that failed a whole batch is asked again at once");
  for (const Item& item : batch.items) {
    const std::uint32_t space = cell_of_key(item.key).space;
    if (space >= kSalts) continue;
    const std::uint64_t held = world_.engine->account(number_, SaltId{space});
    world_.expect(held <= world_.quotas[space].tier_limit_bytes,
                  "E34: a salt is stored above its limit in the tier");
  }
}

void TierUnderTest::check_bounds(const Flight& flight, std::size_t items) {
  world_.expect(flight.bytes <= world_.plan.options.batch_bytes_max || items == 1,
                "E26: a batch is larger than batch_bytes_max");
  if (!flight.is_load && !flight.is_store) return;
  std::uint64_t bytes = flight.bytes;
  bool is_alone = true;
  for (const Flight& other : flights_) {
    if (other.is_store != flight.is_store || other.is_load != flight.is_load) continue;
    if (!other.is_store && !other.is_load) continue;
    bytes += other.bytes;
    is_alone = false;
  }
  const std::uint64_t bytes_max =
      flight.is_load ? plan_.options.load_bytes_max : plan_.options.store_bytes_max;
  world_.expect(is_alone || bytes <= bytes_max, flight.is_load
                                                    ? "E26: more is loaded than load_bytes_max"
                                                    : "E33: more is stored than store_bytes_max");
}

std::uint64_t TierUnderTest::retry_ns() const noexcept {
  return world_.now_ns + world_.plan.options.tier_retry_ns;
}

/// E33: a tier that took nothing of a batch is left alone for a while. Of a batch that it took in
/// part the engine need not hear what failed: those cells may have gone.
void TierUnderTest::note_trouble(const Batch& batch) {
  bool is_down = world_.now_ns < down_until_ns_;  // Each end of a batch makes the pause longer.
  bool has_stored = false;
  bool has_failed = false;
  for (const Item& item : batch.items) {
    has_stored = has_stored || item.outcome != Outcome::kFailed;
    if (item.outcome != Outcome::kFailed) continue;
    const ErrorCode code = item.error.code();
    const bool is_of_tier = item.error.is_retryable() || code == ErrorCode::kCancelled;
    is_down = is_down || is_of_tier;
    has_failed = has_failed || is_of_tier || code == ErrorCode::kIo;
  }
  if (is_down) down_until_ns_ = retry_ns();
  if (!has_failed || has_stored) return;
  world_.coverage.note(is_down ? Seen::kStoresPaused : Seen::kStoresPausedForErrors);
  paused_until_ns_ = retry_ns();
}

void TierUnderTest::on_ended(const Flight& flight) {
  if (flight.is_store) note_trouble(*flight.batch);
  for (const Item& item : flight.batch->items) {
    world_.log({21, static_cast<std::uint64_t>(item.outcome)});
    if (flight.is_cancelled && item.outcome == Outcome::kHit) {
      world_.coverage.note(Seen::kLateCompletion);
    }
    if (flight.is_load) on_load_ended(item);
    if (flight.is_store) on_store_ended(item);
    if (flight.is_delete && item.outcome != Outcome::kFailed) {
      had_since_.erase(cell_of_key(item.key));
    }
  }
}

void TierUnderTest::on_load_ended(const Item& item) {
  const CellId cell = cell_of_key(item.key);
  if (item.outcome == Outcome::kHit) {
    loaded_at_[cell] = world_.steps;
    watch_->on_resident(cell);
    return;
  }
  failed_at_[cell] = world_.steps;
  if (scripted_ != nullptr && !scripted_->sizes.contains(key_of(cell))) had_since_.erase(cell);
}

void TierUnderTest::on_store_ended(const Item& item) {
  const CellId cell = cell_of_key(item.key);
  if (item.outcome != Outcome::kFailed) {
    failures_.erase(cell);
    had_since_.try_emplace(cell, world_.steps);
    if (item.existed) return;
    // It may have been submitted before the purge began, and then the purge has waited for it.
    const std::uint64_t version = version_in({item.value[0].data, item.value[0].bytes}, cell);
    world_.expect(!world_.purges.is_gone(cell, version),
                  "E36: a store arrives of what a purge has removed");
    return;
  }
  if (item.error.is_retryable() || item.error.code() == ErrorCode::kCancelled) return;
  ++hard_failures_;
  const bool is_judged = cell.space != kValueSpace && plan_.options.min_hits == 0 &&
                         plan_.options.fill == Fill::kNever;
  world_.expect(++failures_[cell] <= kStoreFailuresMax || !is_judged,
                "E33: a store is tried a fourth time");
}

bool TierUnderTest::has_steadily(const CellId& cell, std::uint64_t since) const {
  if (scripted_ == nullptr || !plan_.has_probe || !plan_.options.load) return false;
  if (scripted_->is_down || up_since_ >= since || has_failed_load(cell, since)) return false;
  const auto had = had_since_.find(cell);
  if (had == had_since_.end() || had->second >= since) return false;
  const auto size = scripted_->sizes.find(key_of(cell));
  return size != scripted_->sizes.end() &&
         size->second == world_.layout.groups[cell.group].cell_bytes;
}

bool TierUnderTest::has_failed_load(const CellId& cell, std::uint64_t since) const {
  const auto failed = failed_at_.find(cell);
  return failed != failed_at_.end() && failed->second >= since;
}

bool TierUnderTest::has_loaded(const CellId& cell, std::uint64_t since) const {
  const auto loaded = loaded_at_.find(cell);
  return loaded != loaded_at_.end() && loaded->second >= since;
}

bool TierUnderTest::has_deletes() const noexcept {
  return std::ranges::any_of(flights_, [](const Flight& flight) { return flight.is_delete; });
}

std::vector<std::string> TierUnderTest::keys() const {
  std::vector<std::string> keys;
  if (scripted_ == nullptr) return keys;
  for (const auto& [key, bytes] : scripted_->sizes) keys.push_back(key);
  return keys;
}

std::uint64_t TierUnderTest::version_of(const CellId& cell) const {
  const std::string key = key_of(cell);
  if (scripted_ == nullptr || !scripted_->sizes.contains(key)) return 0;
  return version_in(std::as_bytes(std::span{scripted_->values.at(key)}), cell);
}

std::uint64_t TierUnderTest::bytes_of_space(std::uint32_t space) const {
  std::uint64_t bytes = 0;
  if (scripted_ == nullptr) return bytes;
  for (const auto& [key, size] : scripted_->sizes) {
    if (cell_of_key(std::as_bytes(std::span{key})).space == space) bytes += size;
  }
  return bytes;
}

bool TierUnderTest::has_loads() const noexcept {
  return std::ranges::any_of(flights_, [](const Flight& flight) { return flight.is_load; });
}

void TierUnderTest::note(Coverage& coverage) const {
  if (log_ == nullptr) return;
  coverage.note(Seen::kLogStored, log_->stored());
  coverage.note(Seen::kLogHit, log_->hits());
  coverage.note(Seen::kLogEvicted, log_->evicted());
}

bool TierUnderTest::has(const CellId& cell) const {
  if (log_ != nullptr) return log_->has(std::as_bytes(std::span{&cell, 1}));
  return !scripted_->is_down && scripted_->sizes.contains(key_of(cell));
}

}  // namespace larder::cache::simulation
