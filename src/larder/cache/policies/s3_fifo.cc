#include "larder/cache/policies/s3_fifo.h"

#include <algorithm>
#include <optional>

namespace larder::cache {

S3FifoPolicy::S3FifoPolicy(const PolicyOptions& options)
    : QueuedPolicy(options, 3),
      capacity_(options.capacity_bytes),
      is_capacity_known_(options.capacity_bytes != 0),
      ghosts_(options.ghosts_max) {}

QueuedPolicy::Queue S3FifoPolicy::enter(ColumnId /*column*/, ColumnRecord& record) {
  return ghosts_.erase(record.fingerprint) ? kMain : kSmall;
}

QueuedPolicy::Queue S3FifoPolicy::use(ColumnId /*column*/, ColumnRecord& record) {
  record.uses = std::min(static_cast<std::uint8_t>(record.uses + 1), kUsesMax);
  return record.queue == kCooled ? kSmall : kStay;
}

void S3FifoPolicy::on_evicted(const ColumnRecord& record) {
  if (record.queue == kSmall) ghosts_.push(record.fingerprint, record.bytes);
}

void S3FifoPolicy::on_changed() {
  if (!is_capacity_known_) capacity_ = std::max(capacity_, bytes());
  while (ghosts_.size() > 0 && ghosts_.bytes() > capacity_ - capacity_ / 10) {
    ghosts_.drop_oldest();
  }
}

/// The paper's EVICT, as often as there is room in `out`, with the evicted columns left in place.
std::size_t S3FifoPolicy::choose(std::span<ColumnId> out) {
  // Columns and not places: a push may move the columns of the main queue together.
  std::optional<ColumnId> last_small;
  std::optional<ColumnId> last_main;
  const auto behind = [this](std::optional<ColumnId> column) {
    return column ? record(*column).place + 1 : Place{0};
  };
  std::uint64_t named_bytes = 0;  // Of the small queue.
  std::size_t count = 0;
  while (count < out.size()) {
    const Place small = queue(kSmall).visible_from(behind(last_small));
    const Place main = queue(kMain).visible_from(behind(last_main));
    if (small == ColumnOrder::kEnd && main == ColumnOrder::kEnd) break;
    const bool is_from_small =
        small != ColumnOrder::kEnd &&
        (is_small_full(queue(kSmall).bytes() - named_bytes) || main == ColumnOrder::kEnd);
    const ColumnId column = is_from_small ? queue(kSmall).at(small) : queue(kMain).at(main);
    ColumnRecord& looked_at = record(column);
    if (is_from_small && looked_at.uses > 1) {
      looked_at.uses = 0;
      move(column, kMain);
    } else if (!is_from_small && looked_at.uses > 0) {
      --looked_at.uses;
      move(column, kMain);
    } else {
      if (is_from_small) named_bytes += looked_at.bytes;
      (is_from_small ? last_small : last_main) = column;
      out[count++] = column;
    }
  }
  return count;
}

}  // namespace larder::cache
