#include "larder/cache/slot_table.h"

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

struct Edge {
  SlotState from;
  SlotState to;
  const char* when;
};

// Every legal edge (E1). Any other one fails LARDER_CHECK.
constexpr Edge kEdges[] = {
    {SlotState::kFree, SlotState::kWriting, "a reservation takes it (E13)"},
    {SlotState::kFree, SlotState::kLoading, "an admitted lookup takes it (E24)"},
    {SlotState::kWriting, SlotState::kResident, "its reservation is committed (E14)"},
    {SlotState::kWriting, SlotState::kFree,
     "its reservation is discarded by its own writer, or its cell is resident already (E5, E15)"},
    {SlotState::kWriting, SlotState::kQuarantine,
     "its reservation has expired, or its owner has ended and may still write (E15, E16)"},
    {SlotState::kQuarantine, SlotState::kResident, "a late commit, and its cell is absent (E14)"},
    {SlotState::kQuarantine, SlotState::kFree,
     "nobody writes to it any more, or its cell became resident meanwhile (E14, E16)"},
    {SlotState::kLoading, SlotState::kResident, "its bytes have come from L2"},
    {SlotState::kLoading, SlotState::kFree, "its load has failed, or is not wanted any more (E27)"},
    {SlotState::kLoading, SlotState::kOrphan,
     "its cell went, or got its bytes elsewhere, while the L2 batch runs (E2, E5, E28)"},
    {SlotState::kResident, SlotState::kFree, "its cell is evicted, cleared or deleted"},
    {SlotState::kResident, SlotState::kOrphan,
     "its cell is cleared or deleted while it is claimed or in an L2 batch (E2, E36)"},
    {SlotState::kOrphan, SlotState::kFree, "its last claim or L2 batch has ended (E2)"},
};

using LegalEdges = std::array<std::array<bool, kSlotStates>, kSlotStates>;
constexpr LegalEdges kLegal = [] {
  LegalEdges legal{};
  for (const Edge& edge : kEdges) {
    legal[static_cast<std::size_t>(edge.from)][static_cast<std::size_t>(edge.to)] = true;
  }
  return legal;
}();

constexpr std::array<std::string_view, kSlotStates> kNames{"free",     "writing", "loading",
                                                           "resident", "orphan",  "quarantine"};

}  // namespace

std::string_view name_of(SlotState state) noexcept {
  return kNames[static_cast<std::size_t>(state)];
}

bool is_legal(SlotState from, SlotState to) noexcept {
  return kLegal[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
}

std::string slot_table_markdown() {
  std::string text = "| from | to | when |\n|---|---|---|\n";
  for (const Edge& edge : kEdges) {
    text += "| " + std::string{name_of(edge.from)} + " | " + std::string{name_of(edge.to)} + " | " +
            edge.when + " |\n";
  }
  return text;
}

std::optional<SlotId> SlotTable::take(std::uint64_t bytes, SlotState as, ColumnId column, Row row) {
  LARDER_CHECK(is_legal(SlotState::kFree, as));
  const Result<SlotRef, NoRoom> ref = arena_.take(bytes);
  if (!ref) return std::nullopt;
  const SlotId id = slots_.acquire();
  slots_[id] = Slot{
      .ref = *ref, .taken = arena_.taken_for(bytes), .column = column, .row = row, .state = as};
  bytes_[static_cast<std::size_t>(as)] += slots_[id].taken;
  return id;
}

void SlotTable::change(Slot& slot, SlotState to) noexcept {
  LARDER_CHECK(is_legal(slot.state, to));
  bytes_[static_cast<std::size_t>(slot.state)] -= slot.taken;
  slot.state = to;
  bytes_[static_cast<std::size_t>(to)] += slot.taken;
}

void SlotTable::move(SlotId slot, SlotState to) noexcept {
  LARDER_CHECK(to != SlotState::kFree && to != SlotState::kOrphan);
  change(slots_[slot], to);
}

void SlotTable::cut_off(SlotId slot) noexcept {
  if (slots_[slot].is_pinned() && !is_broken(CacheRule::kOrphanWhilePinned)) {
    change(slots_[slot], SlotState::kOrphan);
  } else {
    free(slot);
  }
}

void SlotTable::free(SlotId slot) noexcept {
  Slot& freed = slots_[slot];
  LARDER_CHECK(!freed.is_pinned() || is_broken(CacheRule::kOrphanWhilePinned));
  change(freed, SlotState::kFree);
  bytes_[static_cast<std::size_t>(SlotState::kFree)] -= freed.taken;  // The arena counts those.
  arena_.give_back(freed.ref);
  slots_.release(slot);
}

void SlotTable::claim(SlotId slot) noexcept {
  LARDER_CHECK(slots_[slot].state == SlotState::kResident);
  ++slots_[slot].claims;
}

void SlotTable::unclaim(SlotId slot) noexcept {
  Slot& claimed = slots_[slot];
  LARDER_CHECK(claimed.claims > 0);
  --claimed.claims;
  if (claimed.state == SlotState::kOrphan && !claimed.is_pinned()) free(slot);
}

void SlotTable::add_io(SlotId slot) noexcept {
  Slot& used = slots_[slot];
  LARDER_CHECK(used.state == SlotState::kResident || used.state == SlotState::kLoading);
  ++used.io;
}

void SlotTable::drop_io(SlotId slot) noexcept {
  Slot& used = slots_[slot];
  LARDER_CHECK(used.io > 0);
  --used.io;
  if (used.state == SlotState::kOrphan && !used.is_pinned()) free(slot);
}

void SlotTable::check_invariants() const {
  std::array<std::uint64_t, kSlotStates> sums{};
  for (SlotId id = 0; id < slots_.end(); ++id) {
    if (!slots_.is_used(id)) continue;
    const Slot& slot = slots_[id];
    LARDER_CHECK(slot.state != SlotState::kFree);
    LARDER_CHECK(slot.state != SlotState::kOrphan || slot.is_pinned());
    sums[static_cast<std::size_t>(slot.state)] += slot.taken;
  }
  LARDER_CHECK(sums == bytes_);
  std::uint64_t total = arena_.free_bytes();
  for (const std::uint64_t bytes : bytes_) total += bytes;
  LARDER_CHECK(total == arena_.capacity_bytes());
}

}  // namespace larder::cache
