#pragma once

#include <cstdint>
#include <vector>

#include "larder/cache/arena/arena.h"

namespace larder::cache::simulation {

/// Who uses which bytes of the arena at this moment, as everybody outside of the engine sees it: a
/// worker that fills slots or reads from them, a connector that loads or stores.
///
/// What is being written belongs to one user; readers may share (I2, I3, P4). Cost: O(uses).
class Memory {
 public:
  enum class Use : std::uint8_t { kRead = 0, kWrite };

  /// False: another one uses a part of it, and one of them writes.
  [[nodiscard]] bool add(std::uint64_t owner, const SlotRef& slot, Use use);
  /// Everything that the owner uses.
  void remove(std::uint64_t owner) noexcept;
  void clear() noexcept { pieces_.clear(); }

 private:
  struct Piece {
    std::uint64_t owner = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    Use use = Use::kRead;
  };
  std::vector<Piece> pieces_;
};

}  // namespace larder::cache::simulation
