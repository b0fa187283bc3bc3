#include "larder/connector/hit_rate_sketch.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "larder/base/check.h"

namespace larder {
namespace {

constexpr std::array kCapacityFactors = {0.5, 1.0, 2.0};
/// Share of the capacity: a little more than the largest capacity that is estimated.
constexpr double kStackFactor = 2.25;
constexpr std::uint32_t kDecaysInHalfLife = 16;
/// The second sample's half life is shorter by this factor, in its own asks, because these are
/// rarer.
constexpr std::uint32_t kFarFaster = 2;
constexpr double kDecay = 0.957603280698573647;     ///< 2^(-1 / kDecaysInHalfLife).
constexpr double kHashes = 18446744073709551616.0;  // 2^64.
constexpr double kInfinite = std::numeric_limits<double>::infinity();

// What can be known: see the class.
constexpr double kSamplesLeast = 1000;
constexpr double kKeysLeast = 100;
constexpr double kUnknownMost = 0.01;
constexpr double kLostMost = 0.01;

}  // namespace

HitRateSketch::HitRateSketch(const Options& options)
    : options_(options),
      threshold_(std::numeric_limits<std::uint64_t>::max()),
      far_threshold_(threshold_),
      table_(std::bit_ceil(std::size_t{4} * options.keys_max)),
      slots_(std::bit_ceil(std::size_t{2} * options.keys_max)),
      tree_(slots_.size() / kBlock + 1),
      asks_until_decay_(options.half_life_asks / kDecaysInHalfLife),
      far_asks_until_decay_(options.half_life_asks / kFarFaster / kDecaysInHalfLife) {
  LARDER_CHECK(options.capacity_bytes > 0);
  LARDER_CHECK(options.keys_max >= 64 && options.keys_max <= std::uint32_t{1} << 20);
  LARDER_CHECK(options.half_life_asks >= 4096);  // Or too little is ever known.
}

std::size_t HitRateSketch::memory_bytes() const noexcept {
  return sizeof *this + table_.size() * sizeof(Entry) + slots_.size() * sizeof(Slot) +
         tree_.size() * sizeof(std::uint64_t);
}

// ---- The table.

/// The threshold leaves few values to the upper bits of a sampled hash: the lower ones choose.
std::size_t HitRateSketch::place_of(std::uint64_t hash) const noexcept {
  const std::size_t mask = table_.size() - 1;
  std::size_t place = hash & mask;
  while (table_[place].hash != 0 && table_[place].hash != hash) place = (place + 1) & mask;
  return place;
}

HitRateSketch::Entry* HitRateSketch::find(std::uint64_t hash) noexcept {
  Entry& entry = table_[place_of(hash)];
  return entry.hash == 0 ? nullptr : &entry;
}

void HitRateSketch::remove(std::size_t hole) noexcept {
  const std::size_t mask = table_.size() - 1;
  for (std::size_t next = (hole + 1) & mask; table_[next].hash != 0; next = (next + 1) & mask) {
    const std::size_t home = table_[next].hash & mask;
    if (((next - home) & mask) < ((next - hole) & mask)) continue;
    table_[hole] = table_[next];
    hole = next;
  }
  table_[hole] = {};
}

// ---- The stack.

void HitRateSketch::add(std::uint32_t slot, std::uint64_t bytes) noexcept {
  for (std::size_t i = slot / kBlock + 1; i < tree_.size(); i += i & (~i + 1)) tree_[i] += bytes;
}

std::uint64_t HitRateSketch::bytes_above(std::uint32_t slot) const noexcept {
  std::uint64_t below = 0;
  for (std::size_t i = slot / kBlock; i > 0; i &= i - 1) below += tree_[i];
  for (std::size_t i = slot / kBlock * kBlock; i <= slot; ++i) below += slots_[i].bytes;
  return near_bytes_ - below;
}

double HitRateSketch::depth_of(std::uint32_t slot) const noexcept {
  return static_cast<double>(slots_[slot].bytes) + static_cast<double>(bytes_above(slot)) * weight_;
}

void HitRateSketch::take_from_stack(std::uint32_t slot) noexcept {
  Slot& taken = slots_[slot];
  add(slot, std::uint64_t{0} - taken.bytes);
  near_bytes_ -= taken.bytes;
  taken = {};
  --near_;
}

/// Out of the sums, while its place in the table stays.
void HitRateSketch::take_out(const Entry& entry) noexcept {
  if (entry.slot == kFar) {
    --far_;
  } else {
    take_from_stack(entry.slot);
  }
}

/// Its entry is looked up again here, because making room may move it.
void HitRateSketch::push(std::uint64_t hash, std::uint64_t bytes) noexcept {
  if (next_slot_ == slots_.size()) move_together();
  const std::uint32_t slot = next_slot_++;
  slots_[slot] = {hash, bytes};
  add(slot, bytes);
  near_bytes_ += bytes;
  ++near_;
  table_[place_of(hash)] = {hash, slot};
}

void HitRateSketch::move_together() noexcept {
  std::uint32_t to = 0;
  std::ranges::fill(tree_, 0);
  for (std::uint32_t from = lowest_slot_; from < next_slot_; ++from) {
    const Slot moved = slots_[from];
    if (moved.hash == 0) continue;
    slots_[from] = {};
    slots_[to] = moved;
    table_[place_of(moved.hash)].slot = to;
    add(to, moved.bytes);
    ++to;
  }
  LARDER_CHECK(to == near_);
  lowest_slot_ = 0;
  next_slot_ = to;
}

/// Keys that fit into none of the estimated capacities.
void HitRateSketch::cut() noexcept {
  const double most = kStackFactor * static_cast<double>(options_.capacity_bytes);
  while (near_ > 0 && static_cast<double>(near_bytes_) * weight_ > most) {
    while (slots_[lowest_slot_].hash == 0) ++lowest_slot_;
    const std::uint64_t hash = slots_[lowest_slot_].hash;
    take_from_stack(lowest_slot_);
    was_cut_ = true;
    const std::size_t place = place_of(hash);
    if (hash < far_threshold_) {
      table_[place].slot = kFar;
      ++far_;
    } else {
      remove(place);
    }
  }
}

void HitRateSketch::thin_out() noexcept {
  const auto lowered = [](std::uint64_t threshold) { return threshold / 8 * 7; };
  while (near_ > options_.keys_max) {
    threshold_ = lowered(threshold_);
    far_threshold_ = std::min(far_threshold_, threshold_);
    sweep();
  }
  while (far_ > options_.keys_max) {
    far_threshold_ = lowered(far_threshold_);
    sweep();
  }
  weight_ = kHashes / static_cast<double>(threshold_);
  far_weight_ = kHashes / static_cast<double>(far_threshold_);
}

void HitRateSketch::sweep() noexcept {
  for (std::size_t place = 0; place < table_.size();) {
    const Entry entry = table_[place];
    const bool is_far = entry.slot == kFar;
    if (entry.hash == 0 || entry.hash < (is_far ? far_threshold_ : threshold_)) {
      ++place;
      continue;
    }
    take_out(entry);
    remove(place);  // Another entry may be in the slot now.
  }
}

// ---- What happens.

void HitRateSketch::use_sampled(std::uint64_t hash, std::optional<std::uint64_t> bytes) noexcept {
  const std::uint64_t key = stored(hash);
  const Entry* const entry = find(key);
  const bool is_near = entry != nullptr && entry->slot != kFar;
  if (!bytes) {
    if (!is_near) return;
    bytes = slots_[entry->slot].bytes;
  }
  if (entry != nullptr) take_out(*entry);
  push(key, *bytes);
  cut();
  if (near_ > options_.keys_max || far_ > options_.keys_max) thin_out();
}

void HitRateSketch::use_found(std::uint64_t hash, std::uint64_t bytes) noexcept {
  if (hash >= threshold_) return;
  if (!was_cut_ && find(stored(hash)) == nullptr) {
    unknown_ += weight_;
    for (double& missed : missed_) missed = std::max(0.0, missed - weight_);
    if (hash < far_threshold_) never_there_ = std::max(0.0, never_there_ - far_weight_);
  }
  use_sampled(hash, bytes);
}

void HitRateSketch::erase_all() noexcept {
  std::ranges::fill(table_, Entry{});
  std::ranges::fill(slots_, Slot{});
  std::ranges::fill(tree_, 0);
  next_slot_ = lowest_slot_ = near_ = far_ = 0;
  near_bytes_ = 0;
}

void HitRateSketch::erase(std::uint64_t hash) noexcept {
  if (hash >= threshold_) return;
  const std::uint64_t key = stored(hash);
  const std::size_t place = place_of(key);
  if (table_[place].hash == 0) return;
  take_out(table_[place]);
  remove(place);
}

void HitRateSketch::ask_sampled(std::uint64_t hash, bool was_hit) noexcept {
  const std::uint64_t key = stored(hash);
  const Entry* const entry = find(key);
  samples_ += 1;
  if (entry == nullptr && was_hit && !was_cut_) {
    unknown_ += weight_;
  } else {
    const bool is_near = entry != nullptr && entry->slot != kFar;
    deepest_ = std::max(deepest_, is_near ? depth_of(entry->slot) : kInfinite);
    for (std::size_t i = 0; i < kFactors; ++i) {
      const double capacity = kCapacityFactors[i] * static_cast<double>(options_.capacity_bytes);
      if (deepest_ > capacity) missed_[i] += weight_;
    }
  }
  if (hash < far_threshold_) {
    far_samples_ += 1;
    was_never_there_ |= entry == nullptr && !was_hit;
    if (was_never_there_) never_there_ += far_weight_;
    if (--far_asks_until_decay_ == 0) decay_far();
  }
  if (--asks_until_decay_ == 0) decay();
}

void HitRateSketch::decay() noexcept {
  asks_until_decay_ = options_.half_life_asks / kDecaysInHalfLife;
  for (double& missed : missed_) missed *= kDecay;
  for (double* const count : {&asked_, &hits_, &unknown_, &lost_, &samples_}) *count *= kDecay;
}

void HitRateSketch::decay_far() noexcept {
  far_asks_until_decay_ = options_.half_life_asks / kFarFaster / kDecaysInHalfLife;
  for (double* const count : {&far_asked_, &never_there_, &far_samples_}) *count *= kDecay;
}

// ---- What is known.

bool HitRateSketch::is_known(double capacity_bytes) const noexcept {
  if (weight_ <= 1) return true;
  const double sampled_bytes = static_cast<double>(near_bytes_) * weight_;
  return static_cast<double>(near_) * std::min(1.0, capacity_bytes / sampled_bytes) >= kKeysLeast;
}

WhatIf HitRateSketch::estimate() const noexcept {
  WhatIf out;
  out.asked = asked_;
  for (std::size_t i = 0; i < kFactors; ++i) {
    out.points[i].capacity_bytes = static_cast<std::uint64_t>(
        kCapacityFactors[i] * static_cast<double>(options_.capacity_bytes));
  }
  if (asked_ <= 0 || samples_ < kSamplesLeast) return out;
  out.measured = std::min(1.0, hits_ / asked_);  // Hits may be counted after their asks have aged.
  if (lost_ > kLostMost * (samples_ + lost_)) return out;
  const bool began_empty = unknown_ <= kUnknownMost * asked_;
  const auto rate = [](double missed) { return std::clamp(1 - missed, 0.0, 1.0); };
  for (std::size_t i = 0; i < kFactors; ++i) {
    const bool is_same = kCapacityFactors[i] == 1;
    if (!began_empty && !is_same) continue;
    if (!is_known(static_cast<double>(out.points[i].capacity_bytes))) continue;
    out.points[i].hit_rate = rate(missed_[i] / asked_);
  }
  // The two samples may disagree: the coarser one must not show fewer hits for more room.
  if (began_empty && far_samples_ >= kSamplesLeast) {
    out.points.back().hit_rate = rate(std::min(never_there_ / far_asked_, missed_.back() / asked_));
  }
  return out;
}

}  // namespace larder
