#include "larder/cache/tiers.h"

#include <algorithm>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

constexpr std::uint64_t kLoadBytesMax = std::uint64_t{1} << 30;

std::size_t index_of(L2Kind kind) noexcept {
  return static_cast<std::size_t>(kind);
}

/// If there is no room for it now it ends: its source keeps the cells that it still wants.
bool is_never_queued(L2Kind kind) noexcept {
  return kind == L2Kind::kStore || kind == L2Kind::kTouch;
}

bool is_load(L2Kind kind) noexcept {
  return kind == L2Kind::kLoad || kind == L2Kind::kGet;
}

void prepare(L2Operation& operation) noexcept {
  Batch& batch = operation.batch;
  batch.waits_for_room = false;
  batch.allow_shorter = false;
  batch.misses_wrong_sizes = true;
  batch.set_mode = SetMode::kIfAbsent;
  switch (operation.kind) {
    case L2Kind::kExists:
      batch.op = Op::kExists;
      return;
    case L2Kind::kLoad:
    case L2Kind::kGet:
      batch.op = Op::kGet;
      return;
    case L2Kind::kStore:
      batch.op = Op::kSet;
      return;
    case L2Kind::kDelete:
      batch.op = Op::kDelete;
      return;
    case L2Kind::kTouch:
      batch.op = Op::kTouch;
      return;
  }
}

}  // namespace

Tiers::Tiers(EngineState& state, std::vector<Tier> tiers, const KeyNames& names, Arena& arena)
    : state_(state),
      tiers_(std::move(tiers)),
      names_(names),
      arena_(arena),
      accounts_(tiers_.size()) {
  LARDER_CHECK(tiers_.size() <= kTiersMax);
  state_.totals.tiers.resize(tiers_.size());
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    const TierOptions& options = tiers_[tier].options;
    Lane& lane = lanes_.emplace_back();
    lane.capabilities = tiers_[tier].connector->capabilities();
    lane.load_bytes_max = options.load_bytes_max != 0
                              ? options.load_bytes_max
                              : std::min(kLoadBytesMax, arena.capacity_bytes() / 4);
    lane.retry.kind = TimerKind::kTier;
    lane.retry.id = tier;
    if (options.load) loads_ |= bit_of(tier);
    if (options.store) stores_ |= bit_of(tier);
  }
}

bool Tiers::is_memory(TierId tier) const noexcept {
  const Locality locality = lanes_[tier].capabilities.locality;
  return locality == Locality::kMemory || locality == Locality::kOtherProcess;
}

L2Operation& Tiers::make(L2Kind kind, TierId tier) {
  const std::uint32_t id = operations_.acquire();
  L2Operation& operation = operations_[id];
  operation.reset(kind, tier);
  operation.id = id;
  operation.serial = next_serial_++;
  prepare(operation);
  return operation;
}

Slice Tiers::memory_of(const SlotRef& slot) const noexcept {
  // An arena without memory names its slots to simulated connectors by their offset.
  const auto base = reinterpret_cast<std::uintptr_t>(arena_.base());
  return {reinterpret_cast<std::byte*>(base + slot.offset), slot.bytes};
}

void Tiers::add(L2Operation& operation, const CellName& name, L2Cell cell,
                const SlotRef* slot) const {
  operation.add(names_, name, slot == nullptr ? Slice{} : memory_of(*slot), cell);
}

std::string Tiers::name_of(const CellName& cell) const {
  std::array<std::byte, kKeyBytesMax> key;
  const std::size_t size = names_.write_key(cell, key);
  return {reinterpret_cast<const char*>(key.data()), size};
}

bool Tiers::has_stores_before(TierId tier, std::uint64_t serial) const noexcept {
  for (std::uint32_t id = 0; id < operations_.end(); ++id) {
    const L2Operation& operation = operations_[id];
    const bool is_store = operations_.is_used(id) && operation.kind == L2Kind::kStore;
    if (is_store && operation.tier == tier && operation.serial < serial) return true;
  }
  return false;
}

bool Tiers::probe(L2Operation& operation) noexcept {
  if (!lanes_[operation.tier].capabilities.has_probe) return false;
  operation.seal();
  return tiers_[operation.tier].connector->probe(operation.items());
}

bool Tiers::has_room(const L2Operation& operation) const noexcept {
  const Lane& lane = lanes_[operation.tier];
  const std::size_t load = index_of(L2Kind::kLoad);
  if (is_broken(CacheRule::kLoadBytes)) return true;
  return lane.batches[load] == 0 || lane.bytes[load] + operation.bytes <= lane.load_bytes_max;
}

bool Tiers::submit(L2Operation& operation) {
  Lane& lane = lanes_[operation.tier];
  const Status submitted = tiers_[operation.tier].connector->submit(operation.batch);
  if (!submitted && submitted.error().code() == ErrorCode::kResourceExhausted &&
      !is_never_queued(operation.kind)) {
    return false;
  }
  if (!submitted) {
    operation.fail(submitted.error());
    ended_.push_back(operation.id);
    return true;
  }
  operation.is_submitted = true;
  lane.bytes[index_of(operation.kind)] += operation.bytes;
  ++lane.batches[index_of(operation.kind)];
  count_begin(operation);
  return true;
}

void Tiers::count_begin(L2Operation& operation) noexcept {
  operation.begun_ns = state_.now_ns;
  TierTotals& totals = state_.totals.tiers[operation.tier];
  if (operation.kind == L2Kind::kStore) {
    ++totals.stores;
    totals.store_cells += operation.size();
  } else if (is_load(operation.kind)) {
    ++totals.loads;
    totals.load_cells += operation.size();
  }
}

void Tiers::count_end(L2Operation& operation) noexcept {
  const bool is_store = operation.kind == L2Kind::kStore;
  if (!is_store && !is_load(operation.kind)) return;
  TierTotals& totals = state_.totals.tiers[operation.tier];
  ++(is_store ? totals.stores_ended : totals.loads_ended);
  const bool is_whole = std::ranges::all_of(operation.items(), [&](const Item& item) {
    return item.outcome == (is_store ? Outcome::kDone : Outcome::kHit) && !item.existed;
  });
  if (!is_whole) return;
  state_.count_rate(is_store ? totals.store_rate : totals.load_rate, operation.bytes,
                    operation.begun_ns);
}

void Tiers::send(L2Operation& operation) {
  operation.seal();
  if (is_closed_) {
    operation.fail(Error{ErrorCode::kCancelled, "cache", "the engine has ended"});
    ended_.push_back(operation.id);
    return;
  }
  // A store that waits behind a load would pin its cells without counting as in flight; a touch
  // that waits for room would hold up loads.
  if (is_never_queued(operation.kind)) {
    submit(operation);
    return;
  }
  lanes_[operation.tier].queued.push_back(operation.id);
  submit_queued(operation.tier);
}

void Tiers::submit_queued(TierId tier) {
  Lane& lane = lanes_[tier];
  std::size_t skipped = 0;  // Loads above the bound hold up each other, not the rest.
  while (skipped < lane.queued.size()) {
    const auto at = lane.queued.begin() + static_cast<std::ptrdiff_t>(skipped);
    L2Operation& operation = operations_[*at];
    if (operation.kind == L2Kind::kLoad && (skipped > 0 || !has_room(operation))) {
      ++skipped;
      continue;
    }
    if (!submit(operation)) {
      // The connector is full of others' batches, or of ours: the end of one may make room.
      state_.timers.arm(lane.retry, state_.now_ns + state_.options.tier_retry_ns);
      return;
    }
    lane.queued.erase(at);
  }
}

void Tiers::cancel(L2Operation& operation) {
  if (operation.is_cancelled) return;
  operation.is_cancelled = true;
  if (operation.is_submitted) {
    tiers_[operation.tier].connector->cancel(operation.batch);
    return;
  }
  if (std::erase(lanes_[operation.tier].queued, operation.id) == 0) return;  // It has ended.
  operation.fail(Error{ErrorCode::kCancelled, "cache", "nobody waits for it any more"});
  ended_.push_back(operation.id);
}

void Tiers::reap(TierId tier) {
  Lane& lane = lanes_[tier];
  std::array<Batch*, 64> done{};
  while (const std::size_t count = tiers_[tier].connector->reap(done)) {
    for (const Batch* const batch : std::span{done}.first(count)) {
      L2Operation& operation = *static_cast<L2Operation*>(batch->user_data);
      LARDER_CHECK(operation.is_submitted && operation.tier == tier);
      operation.is_submitted = false;
      lane.bytes[index_of(operation.kind)] -= operation.bytes;
      --lane.batches[index_of(operation.kind)];
      count_end(operation);
      ended_.push_back(operation.id);
    }
  }
  submit_queued(tier);
}

L2Operation* Tiers::take_ended() {
  if (ended_.empty()) return nullptr;
  const std::uint32_t id = ended_.front();
  ended_.pop_front();
  return &operations_[id];
}

void Tiers::keep_nothing() noexcept {
  for (std::uint32_t id = 0; id < operations_.end(); ++id) operations_[id].keeps = false;
}

void Tiers::cancel_gets(std::uint64_t source) {
  for (std::uint32_t id = 0; id < operations_.end(); ++id) {
    L2Operation& operation = operations_[id];
    const bool is_its = operations_.is_used(id) && operation.source == source;
    if (is_its && operation.kind == L2Kind::kGet) cancel(operation);
  }
}

void Tiers::close() {
  is_closed_ = true;
  for (std::uint32_t id = 0; id < operations_.end(); ++id) {
    if (operations_.is_used(id)) cancel(operations_[id]);
  }
}

}  // namespace larder::cache
