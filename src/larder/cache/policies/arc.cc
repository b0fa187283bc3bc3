#include "larder/cache/policies/arc.h"

#include <algorithm>

namespace larder::cache {
namespace {

/// `bytes`, or more of them by the ratio in which `other` exceeds `hit`.
std::uint64_t scaled(std::uint64_t bytes, std::uint64_t other, std::uint64_t hit) noexcept {
  if (other <= hit) return bytes;
  if (hit == 0) return ~std::uint64_t{0};  // Ghosts of no bytes.
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{bytes} * other / hit;
  return product >> 64 != 0 ? ~std::uint64_t{0} : static_cast<std::uint64_t>(product);
}

}  // namespace

ArcPolicy::ArcPolicy(const PolicyOptions& options)
    : QueuedPolicy(options, 3),
      capacity_(options.capacity_bytes),
      is_capacity_known_(options.capacity_bytes != 0),
      once_ghosts_(options.ghosts_max),
      again_ghosts_(options.ghosts_max) {}

QueuedPolicy::Queue ArcPolicy::enter(ColumnId /*column*/, ColumnRecord& record) {
  const std::uint64_t once = once_ghosts_.bytes();
  const std::uint64_t again = again_ghosts_.bytes();
  if (once_ghosts_.erase(record.fingerprint)) {
    target_ += std::min(scaled(record.bytes, again, once), capacity_ - target_);
    return kAgain;
  }
  if (again_ghosts_.erase(record.fingerprint)) {
    target_ -= std::min(scaled(record.bytes, once, again), target_);
    return kAgain;
  }
  return kOnce;
}

void ArcPolicy::on_evicted(const ColumnRecord& record) {
  GhostList& ghosts = record.queue == kOnce ? once_ghosts_ : again_ghosts_;
  ghosts.push(record.fingerprint, record.bytes);
}

void ArcPolicy::on_changed() {
  if (!is_capacity_known_) capacity_ = std::max(capacity_, bytes());
  while (once_ghosts_.size() > 0 && queue(kOnce).bytes() + once_ghosts_.bytes() > capacity_) {
    once_ghosts_.drop_oldest();
  }
  while (again_ghosts_.size() > 0 &&
         bytes() + once_ghosts_.bytes() + again_ghosts_.bytes() > 2 * capacity_) {
    again_ghosts_.drop_oldest();
  }
}

/// The paper's REPLACE, as often as there is room in `out`.
std::size_t ArcPolicy::choose(std::span<ColumnId> out) {
  std::uint64_t once_bytes = queue(kOnce).bytes();
  Place once = queue(kOnce).visible_from(0);
  Place again = queue(kAgain).visible_from(0);
  std::size_t count = 0;
  while (count < out.size() && (once != ColumnOrder::kEnd || again != ColumnOrder::kEnd)) {
    const bool is_from_once =
        once != ColumnOrder::kEnd && (once_bytes > target_ || again == ColumnOrder::kEnd);
    const Queue from = is_from_once ? kOnce : kAgain;
    Place& place = is_from_once ? once : again;
    const ColumnId victim = queue(from).at(place);
    if (is_from_once) once_bytes -= record(victim).bytes;
    out[count++] = victim;
    place = queue(from).visible_from(place + 1);
  }
  return count;
}

}  // namespace larder::cache
