#include "larder/cache/recent_set.h"

#include <algorithm>
#include <bit>

namespace larder::cache {

RecentSet::RecentSet(std::size_t size_max) {
  const std::size_t places = std::bit_ceil(std::max<std::size_t>(2 * size_max, 2));
  table_.resize(places, kEmpty);
  notes_.resize(places);
  mask_ = places - 1;
  ring_.resize(size_max, kEmpty);
}

std::size_t RecentSet::place_of(std::uint64_t stored) const noexcept {
  std::size_t place = (stored * 0x9E3779B97F4A7C15U >> 32) & mask_;
  while (table_[place] != kEmpty && table_[place] != stored) place = (place + 1) & mask_;
  return place;
}

bool RecentSet::insert(std::uint64_t fingerprint, std::uint32_t note) noexcept {
  if (ring_.empty()) return true;
  const std::uint64_t key = stored(fingerprint);
  if (table_[place_of(key)] != kEmpty) return false;
  // A fingerprint that was erased and came back is twice in the ring; it goes with the first.
  if (ring_[next_] != kEmpty) remove(ring_[next_]);
  const std::size_t place = place_of(key);
  table_[place] = key;
  notes_[place] = note;
  ++size_;
  ring_[next_] = key;
  next_ = (next_ + 1) % ring_.size();
  return true;
}

void RecentSet::erase(std::uint64_t fingerprint) noexcept {
  remove(stored(fingerprint));
}

bool RecentSet::contains(std::uint64_t fingerprint) const noexcept {
  return table_[place_of(stored(fingerprint))] != kEmpty;
}

std::optional<std::uint32_t> RecentSet::note_of(std::uint64_t fingerprint) const noexcept {
  const std::size_t place = place_of(stored(fingerprint));
  if (table_[place] == kEmpty) return std::nullopt;
  return notes_[place];
}

void RecentSet::remove(std::uint64_t key) noexcept {
  std::size_t hole = place_of(key);
  if (table_[hole] == kEmpty) return;
  --size_;
  for (std::size_t next = (hole + 1) & mask_; table_[next] != kEmpty; next = (next + 1) & mask_) {
    const std::size_t home = (table_[next] * 0x9E3779B97F4A7C15U >> 32) & mask_;
    if (((next - home) & mask_) < ((next - hole) & mask_)) continue;
    table_[hole] = table_[next];
    notes_[hole] = notes_[next];
    hole = next;
  }
  table_[hole] = kEmpty;
}

}  // namespace larder::cache
