#include "larder/cache/policies/ghost_list.h"

#include <algorithm>
#include <bit>

namespace larder::cache {

GhostList::GhostList(std::size_t ghosts_max)
    : ghosts_max_(std::min<std::size_t>(ghosts_max, kFree - 1)) {}

void GhostList::push(std::uint64_t fingerprint, std::uint64_t bytes, std::uint64_t note) {
  erase(fingerprint);
  if (ghosts_max_ == 0) return;
  if (size_ == ghosts_max_) drop_oldest();
  const Node node = take_node();
  ghosts_[node] = {
      .fingerprint = fingerprint, .bytes = bytes, .note = note, .older = newest_, .newer = kNone};
  (newest_ == kNone ? oldest_ : ghosts_[newest_].newer) = node;
  newest_ = node;
  ++size_;
  bytes_ += bytes;
  if (2 * size_ > table_.size()) {
    grow_table(std::max<std::size_t>(64, 2 * table_.size()));
  } else {
    table_[slot_of(fingerprint)] = node;
  }
}

void GhostList::reserve(std::size_t ghosts) {
  ghosts_.reserve(ghosts);
  const std::size_t slots = std::bit_ceil(2 * ghosts);
  if (slots > table_.size()) grow_table(slots);
}

const GhostList::Ghost* GhostList::find(std::uint64_t fingerprint) const noexcept {
  if (table_.empty()) return nullptr;
  const Node node = table_[slot_of(fingerprint)];
  return node == kNone ? nullptr : &ghosts_[node];
}

bool GhostList::contains(std::uint64_t fingerprint) const noexcept {
  return !table_.empty() && table_[slot_of(fingerprint)] != kNone;
}

bool GhostList::erase(std::uint64_t fingerprint) noexcept {
  if (table_.empty()) return false;
  const Node node = table_[slot_of(fingerprint)];
  if (node == kNone) return false;
  remove(node);
  return true;
}

void GhostList::remove(Node node) noexcept {
  Ghost& ghost = ghosts_[node];
  close_gap(slot_of(ghost.fingerprint));
  (ghost.older == kNone ? oldest_ : ghosts_[ghost.older].newer) = ghost.newer;
  (ghost.newer == kNone ? newest_ : ghosts_[ghost.newer].older) = ghost.older;
  --size_;
  bytes_ -= ghost.bytes;
  ghost.older = kFree;
  ghost.newer = free_;
  free_ = node;
}

GhostList::Node GhostList::take_node() {
  if (free_ == kNone) {
    ghosts_.emplace_back();
    return static_cast<Node>(ghosts_.size() - 1);
  }
  const Node node = free_;
  free_ = ghosts_[node].newer;
  return node;
}

std::size_t GhostList::home_of(std::uint64_t fingerprint) const noexcept {
  const int shift = 64 - std::countr_zero(table_.size());
  return static_cast<std::size_t>((fingerprint * 0x9E3779B97F4A7C15U) >> shift);
}

std::size_t GhostList::slot_of(std::uint64_t fingerprint) const noexcept {
  std::size_t at = home_of(fingerprint);
  while (table_[at] != kNone && ghosts_[table_[at]].fingerprint != fingerprint) {
    at = (at + 1) & (table_.size() - 1);
  }
  return at;
}

void GhostList::grow_table(std::size_t slots) {
  table_.assign(slots, kNone);
  for (Node node = oldest_; node != kNone; node = ghosts_[node].newer) {
    table_[slot_of(ghosts_[node].fingerprint)] = node;
  }
}

/// Entries behind the gap that would not be found across it move into it (Knuth 6.4, algorithm R).
void GhostList::close_gap(std::size_t gap) noexcept {
  const std::size_t mask = table_.size() - 1;
  for (std::size_t at = (gap + 1) & mask; table_[at] != kNone; at = (at + 1) & mask) {
    const std::size_t home = home_of(ghosts_[table_[at]].fingerprint);
    if (((at - home) & mask) < ((at - gap) & mask)) continue;  // Its home is behind the gap.
    table_[gap] = table_[at];
    gap = at;
  }
  table_[gap] = kNone;
}

}  // namespace larder::cache
