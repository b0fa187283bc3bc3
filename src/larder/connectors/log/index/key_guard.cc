#include "larder/connectors/log/index/key_guard.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"

namespace larder::log_store {
namespace {

constexpr std::size_t kSlotsAtFirst = 256;  // A power of two, as all later sizes.

}  // namespace

KeyGuard::KeyGuard() : slots_(kSlotsAtFirst) {}

std::size_t KeyGuard::locate(const Fingerprint& fingerprint) const noexcept {
  std::size_t slot = home(fingerprint);
  while (slots_[slot].operations != 0 && slots_[slot].fingerprint != fingerprint) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

void KeyGuard::enter(const Fingerprint& fingerprint) {
  std::size_t slot = locate(fingerprint);
  if (slots_[slot].operations == 0) {
    if ((used_ + 1) * 2 > slots_.size()) {
      grow();
      slot = locate(fingerprint);
    }
    slots_[slot].fingerprint = fingerprint;
    ++used_;
  }
  ++slots_[slot].operations;
}

KeyGuard::Slot& KeyGuard::busy_slot(const Fingerprint& fingerprint) {
  Slot& slot = slots_[locate(fingerprint)];
  LARDER_CHECK(slot.operations != 0);
  return slot;
}

void KeyGuard::leave(const Fingerprint& fingerprint) {
  const std::size_t slot = locate(fingerprint);
  LARDER_CHECK(slots_[slot].operations != 0);
  if (--slots_[slot].operations == 0) remove(slot);
}

bool KeyGuard::busy(const Fingerprint& fingerprint) const noexcept {
  return slots_[locate(fingerprint)].operations != 0;
}

Place KeyGuard::last_published(const Fingerprint& fingerprint) const noexcept {
  return slots_[locate(fingerprint)].published;
}

void KeyGuard::note_published(const Fingerprint& fingerprint, const Place& place) {
  Place& known = busy_slot(fingerprint).published;
  known = std::max(known, place);
}

Place KeyGuard::last_store(const Fingerprint& fingerprint) const noexcept {
  return slots_[locate(fingerprint)].store;
}

void KeyGuard::note_store(const Fingerprint& fingerprint, const Place& place) {
  Place& known = busy_slot(fingerprint).store;
  known = std::max(known, place);
}

Place KeyGuard::last_delete(const Fingerprint& fingerprint) const noexcept {
  return slots_[locate(fingerprint)].erased;
}

void KeyGuard::note_delete(const Fingerprint& fingerprint, const Place& place) {
  Place& known = busy_slot(fingerprint).erased;
  known = std::max(known, place);
}

/// Frees the slot and moves back the entries behind it that were only displaced by it.
void KeyGuard::remove(std::size_t slot) noexcept {
  const std::size_t mask = slots_.size() - 1;
  std::size_t gap = slot;
  for (std::size_t next = (gap + 1) & mask; slots_[next].operations != 0;
       next = (next + 1) & mask) {
    const std::size_t from_home = (next - home(slots_[next].fingerprint)) & mask;
    const std::size_t from_gap = (next - gap) & mask;
    if (from_home < from_gap) continue;
    slots_[gap] = slots_[next];
    gap = next;
  }
  slots_[gap] = {};
  --used_;
}

void KeyGuard::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  std::swap(old, slots_);
  for (const Slot& slot : old) {
    if (slot.operations != 0) slots_[locate(slot.fingerprint)] = slot;
  }
}

}  // namespace larder::log_store
