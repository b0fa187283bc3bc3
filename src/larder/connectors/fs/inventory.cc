#include "larder/connectors/fs/inventory.h"

#include <algorithm>
#include <utility>

namespace larder::fs {

Inventory::Room Inventory::reserve(std::uint64_t bytes) {
  if (!is_tracking()) return Room::kReserved;
  const MutexLock lock{mutex_};
  if (is_hard_ && !is_counted_) return Room::kNotCounted;
  if (bytes > capacity_bytes_) return Room::kTooLarge;
  if (used_locked() + bytes > capacity_bytes_) return Room::kFull;
  reserved_bytes_ += bytes;
  return Room::kReserved;
}

void Inventory::cancel(std::uint64_t reserved_bytes) {
  if (!is_tracking()) return;
  const MutexLock lock{mutex_};
  reserved_bytes_ -= reserved_bytes;
}

void Inventory::stored(const std::string& name, std::uint64_t reserved_bytes, std::uint64_t bytes,
                       std::optional<std::uint64_t> replaced) {
  const MutexLock lock{mutex_};
  if (!is_counted_ && (is_tracking() || !replaced)) changed_[name] = true;
  if (!is_tracking()) {
    // Files that were added before counted() went through: found() may or may not report them.
    if (is_counted_ && !replaced) ++keys_;
    bytes_ -= std::min(bytes_, replaced.value_or(0));
    bytes_ += bytes;
    return;
  }
  reserved_bytes_ -= reserved_bytes;
  put_locked(name, bytes, true);
}

void Inventory::put_locked(const std::string& name, std::uint64_t bytes, bool is_newest) {
  const auto [place, is_new] = entries_.try_emplace(name);
  Entry& entry = place->second;
  if (is_new) {
    entry.use = by_use_.insert(is_newest ? by_use_.end() : by_use_.begin(), &place->first);
  } else {
    bytes_ -= entry.bytes;
    by_use_.splice(by_use_.end(), by_use_, entry.use);
  }
  entry.bytes = bytes;
  entry.stored_at = ++clock_;
  bytes_ += bytes;
}

std::optional<Inventory::Victim> Inventory::take_oldest() {
  const MutexLock lock{mutex_};
  if (by_use_.empty()) return std::nullopt;
  return take_locked(entries_.find(*by_use_.front()));
}

std::optional<Inventory::Victim> Inventory::take(const std::string& name) {
  if (!is_tracking()) return std::nullopt;
  const MutexLock lock{mutex_};
  return take_locked(entries_.find(name));
}

std::optional<Inventory::Victim> Inventory::take_locked(
    std::unordered_map<std::string, Entry>::iterator place) {
  if (place == entries_.end()) return std::nullopt;
  Victim victim{place->first, place->second.bytes};
  bytes_ -= victim.bytes;
  leaving_bytes_ += victim.bytes;
  by_use_.erase(place->second.use);
  entries_.erase(place);
  return victim;
}

void Inventory::gone(const Victim& victim) {
  const MutexLock lock{mutex_};
  leaving_bytes_ -= victim.bytes;
}

void Inventory::kept(const Victim& victim) {
  const MutexLock lock{mutex_};
  leaving_bytes_ -= victim.bytes;
  if (!entries_.contains(victim.name)) put_locked(victim.name, victim.bytes, true);
}

void Inventory::removed(const std::string& name, std::uint64_t bytes) {
  const MutexLock lock{mutex_};
  if (!is_counted_) changed_[name] = false;
  if (is_tracking()) return;
  if (is_counted_ && keys_ > 0) --keys_;
  bytes_ -= std::min(bytes_, bytes);
}

void Inventory::used(const std::string& name) {
  if (!is_tracking()) return;
  const MutexLock lock{mutex_};
  const auto place = entries_.find(name);
  if (place != entries_.end()) by_use_.splice(by_use_.end(), by_use_, place->second.use);
}

void Inventory::missing(const std::string& name, std::uint64_t since) {
  if (!is_tracking()) return;
  const MutexLock lock{mutex_};
  const auto place = entries_.find(name);
  if (place == entries_.end() || place->second.stored_at > since) return;
  bytes_ -= place->second.bytes;
  by_use_.erase(place->second.use);
  entries_.erase(place);
}

std::uint64_t Inventory::clock() const {
  if (!is_tracking()) return 0;
  const MutexLock lock{mutex_};
  return clock_;
}

void Inventory::found(std::string name, std::uint64_t bytes, std::int64_t modified_ns) {
  const MutexLock lock{mutex_};
  if (changed_.contains(name)) return;
  if (!is_tracking()) {
    ++keys_;
    return;
  }
  found_.push_back({std::move(name), bytes, modified_ns});
}

void Inventory::counted() {
  const MutexLock lock{mutex_};
  if (is_tracking()) {
    // The youngest first, each before all others: in the end the oldest is the first.
    std::ranges::sort(found_, std::ranges::greater{}, &Found::modified_ns);
    for (const Found& file : found_) {
      if (!changed_.contains(file.name)) put_locked(file.name, file.bytes, false);
    }
  } else {
    const auto stored = std::ranges::count_if(changed_, [](const auto& one) { return one.second; });
    keys_ += static_cast<std::uint64_t>(stored);
  }
  found_ = {};
  changed_ = {};
  is_counted_ = true;
}

Inventory::Totals Inventory::totals() const {
  const MutexLock lock{mutex_};
  if (!is_tracking()) return {keys_, bytes_, is_counted_};
  return {entries_.size() + found_.size(), used_locked(), is_counted_};
}

bool Inventory::is_over() const {
  const MutexLock lock{mutex_};
  return is_tracking() && used_locked() > capacity_bytes_;
}

}  // namespace larder::fs
