#include "larder/connector/connector.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "larder/connector/report.h"

namespace larder {
namespace {

/// Applies to one class, within a minute in which it had no other event.
constexpr std::uint64_t kFailuresThatTell = 3;

constexpr Error invalid(const char* what) noexcept {
  return Error{ErrorCode::kInvalidArgument, "connector", what};
}

Status check_value(std::span<const Slice> slices, std::uint64_t value_bytes_max,
                   std::size_t slices_max) noexcept {
  if (slices.size() > slices_max) return invalid("the value has more slices than are supported");
  std::uint64_t left = value_bytes_max;
  for (const Slice& slice : slices) {
    if (slice.bytes > 0 && slice.data == nullptr) return invalid("a slice points nowhere");
    if (slice.bytes > left) return invalid("the value is larger than is supported");
    left -= slice.bytes;
  }
  return {};
}

}  // namespace

Status check_batch(const Batch& batch) noexcept {
  if (batch.items.empty()) return invalid("the batch has no items");
  if (batch.items.size() > kItemsMax) return invalid("the batch has too many items");
  // Callers reach this through C and Python too: an enum is not known to hold a named value.
  const auto op = static_cast<unsigned>(batch.op);
  if (op < static_cast<unsigned>(Op::kGet) || op > static_cast<unsigned>(Op::kTouch)) {
    return invalid("the operation is unknown");
  }
  if (static_cast<std::size_t>(batch.urgency) >= kUrgencyCount) {
    return invalid("the urgency is unknown");
  }
  if (static_cast<std::size_t>(batch.hint) >= kHintCount) return invalid("the hint is unknown");
  if (batch.hint != Hint::kNone && batch.op != Op::kTouch) {
    return invalid("only a touch carries a hint");
  }
  if (is_held(batch.hint) ? batch.hold_ns == 0 || batch.hold_ns > kHoldNsMax : batch.hold_ns != 0) {
    return invalid("a pin and a retention last 1 ns to 24 h, and nothing else has a duration");
  }
  if (static_cast<unsigned>(batch.set_mode) > static_cast<unsigned>(SetMode::kReplace)) {
    return invalid("the set mode is unknown");
  }
  return {};
}

Status check_item(const Batch& batch, const Item& item, std::uint64_t value_bytes_max,
                  std::size_t slices_max) noexcept {
  if (item.key.empty()) return invalid("the key is empty");
  if (item.key.size() > kKeyBytesMax) return invalid("the key is longer than 1024 bytes");
  if (batch.op == Op::kSet) return check_value(item.value, value_bytes_max, slices_max);
  if (batch.op == Op::kGet) return check_value(item.value, kValueBytesMax, slices_max);
  if (!item.value.empty()) return invalid("this operation takes no value");
  return {};
}

std::uint64_t load_ns_of(const Connector& connector, std::span<const Item> items) noexcept {
  std::array<LoadSize, kPlacesMax> sizes{};
  for (const Item& item : items) {
    if (item.outcome != Outcome::kHit) continue;
    LoadSize& size = sizes[std::min<std::size_t>(item.place, kPlacesMax - 1)];
    ++size.values;
    size.bytes += item.value_bytes;
  }
  std::size_t count = 0;
  for (std::size_t place = 0; place < kPlacesMax; ++place) {
    if (sizes[place].values == 0) continue;
    sizes[place].place = static_cast<std::uint8_t>(place);
    sizes[count++] = sizes[place];
  }
  return count == 0 ? 0 : connector.load_ns(std::span{sizes}.first(count));
}

bool Report::is_failing() const noexcept {
  constexpr std::array kClasses{BatchClass::kLookup, BatchClass::kLoad, BatchClass::kStore};
  return std::ranges::any_of(kClasses, [&](BatchClass batch_class) {
    const RecentOutcomes outcomes = recent(batch_class);
    return outcomes.succeeded == 0 && outcomes.failed >= kFailuresThatTell;
  });
}

RecentOutcomes Report::recent(BatchClass batch_class) const noexcept {
  RecentOutcomes outcomes;
  for (const Op op : {Op::kGet, Op::kSet, Op::kExists, Op::kDelete, Op::kTouch}) {
    if (class_of(op) != batch_class) continue;
    const OpTotals& totals = operation(op).last_minute;
    outcomes.succeeded += totals.succeeded();
    outcomes.failed += totals.failed;
  }
  return outcomes;
}

std::uint64_t OpTotals::missed() const noexcept {
  return std::reduce(misses.begin(), misses.end());
}

OpTotals& OpTotals::operator+=(const OpTotals& other) noexcept {
  hits += other.hits;
  for (std::size_t i = 0; i < misses.size(); ++i) misses[i] += other.misses[i];
  done += other.done;
  existed += other.existed;
  failed += other.failed;
  rejected += other.rejected;
  bytes += other.bytes;
  bytes_missed += other.bytes_missed;
  return *this;
}

std::string name_of(Integrity integrity) {
  switch (integrity) {
    case Integrity::kNone:
      return "none";
    case Integrity::kChecked:
      return "checked";
  }
  return "unknown";
}

std::string name_of(Locality locality) {
  switch (locality) {
    case Locality::kMemory:
      return "memory";
    case Locality::kLocalDisk:
      return "local_disk";
    case Locality::kSharedFiles:
      return "shared_files";
    case Locality::kRemote:
      return "remote";
    case Locality::kOtherProcess:
      return "other_process";
  }
  return "unknown";
}

std::string name_of(Health health) {
  switch (health) {
    case Health::kHealthy:
      return "healthy";
    case Health::kDegraded:
      return "degraded";
    case Health::kDown:
      return "down";
  }
  return "unknown";
}

std::string name_of(BatchClass batch_class) {
  return std::string{kBatchClassNames.at(index_of(batch_class))} + 's';
}

}  // namespace larder
