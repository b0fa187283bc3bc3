#include "tests/engine_simulation/memory.h"

namespace larder::cache::simulation {

bool Memory::add(std::uint64_t owner, const SlotRef& slot, Use use) {
  const Piece piece{owner, slot.offset, slot.offset + slot.bytes, use};
  bool is_free = true;
  for (const Piece& other : pieces_) {
    const bool overlaps = piece.begin < other.end && other.begin < piece.end;
    const bool may_share = use == Use::kRead && other.use == Use::kRead;
    is_free = is_free && (!overlaps || may_share);
  }
  pieces_.push_back(piece);
  return is_free;
}

void Memory::remove(std::uint64_t owner) noexcept {
  std::erase_if(pieces_, [&](const Piece& piece) { return piece.owner == owner; });
}

}  // namespace larder::cache::simulation
